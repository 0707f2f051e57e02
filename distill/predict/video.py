"""Videos and cameras frame by frame, and a video written frame by frame, by PyAV: nothing but one frame is held."""

import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distill.data.common.image_reader import MOST_PIXELS
from distill.predict.pictures import DRAWN
from distill.system.cli import format_error, not_installed

TICKS = 90_000  # of a written video, per second
DRIVERS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


class Source(NamedTuple):
    """What PyAV opens."""

    file: str  # a path, or a camera's name
    driver: str | None  # of a camera; None for a file
    name: str  # for messages and rows


class OpenVideo(NamedTuple):
    """An opened source: how many frames it tells to have or None, its frames per second, and frames with their seconds."""

    total: int | None
    rate: Fraction
    frames: Iterator[tuple[np.ndarray, float]]


def camera(index: int) -> Source:
    """Return a camera of this machine.

    Raises:
        ValueError: there is no such camera.
    """
    driver = DRIVERS.get(sys.platform, "v4l2")
    name = f"camera:{index}"
    if driver == "v4l2":
        return Source(f"/dev/video{index}", driver, name)
    if driver == "avfoundation":
        return Source(f"{index}:none", driver, name)
    from av.device import enumerate_input_devices  # Windows knows cameras by name

    names = [device.name for device in enumerate_input_devices(driver) if "video" in device.media_types]
    if index >= len(names):
        raise ValueError(f"{name}: no such camera. There are {len(names)}: {', '.join(names) or 'none'}.")
    return Source(f"video={names[index]}", driver, name)


def open_source(source: Source) -> OpenVideo:
    """Open a video or a camera.

    Raises:
        ValueError: it cannot be opened; while frames are taken: what follows cannot be decoded.
    """
    av = _av()
    try:
        if source.driver:
            container = av.open(source.file, format=source.driver)
        else:  # a playlist must not reach the network
            container = av.open(
                f"file:{source.file}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
            )
        if not container.streams.video:
            raise ValueError("no pictures are in it")
        if (stream := container.streams.video[0]).codec_context is None:
            raise ValueError("FFmpeg has no decoder for it")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        what = "this camera cannot be opened" if source.driver else "no picture and no video that can be read"
        raise ValueError(f"{what} ({format_error(error, inside=True)})") from None
    if container.format.name == "tty":  # FFmpeg would film the letters
        container.close()
        raise ValueError("no picture and no video that can be read (it is text)")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MOST_PIXELS:
        container.close()
        raise ValueError(f"not decoded: its frames have {width} x {height} pixels; make it smaller")
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    seconds = (container.duration or 0) / 1_000_000
    total = None if source.driver else stream.frames or round(seconds * rate) or None
    return OpenVideo(total, rate, _frames(container, stream, rate))


def _frames(container, stream, rate: Fraction) -> Iterator[tuple[np.ndarray, float]]:
    """Yield [H, W, 3] uint8 RGB, upright, and its time in seconds."""
    av = _av()
    with container:
        try:
            for number, frame in enumerate(container.decode(stream)):
                pixels = frame.to_ndarray(format="rgb24")
                quarter = round(frame.rotation / 90) % 4  # as phones write them, counter-clockwise
                seconds = float(number / rate) if frame.time is None else frame.time
                yield (np.ascontiguousarray(np.rot90(pixels, quarter)) if quarter else pixels), seconds
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ValueError(f"damaged: its frames end early ({format_error(error, inside=True)})") from None


class Recording:
    """A video that is written frame by frame, H.264 in .mp4; sound is left out.

    Args:
        path: where to.
        rate: frames per second, for the encoder; each frame keeps its own time.
    """

    def __init__(self, path: Path, rate: Fraction):
        self.path, self.rate, self.last = path, rate, -1
        self.container: Any = None
        self.part = path.with_name(f"{path.name}.part")  # a recording that was killed has no index, and is no video

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Write a frame, [H, W, 3] uint8; sides become even, and the first frame's size stays.

        Raises:
            ValueError: it cannot be written.
        """
        av = _av()
        try:
            if self.container is None:
                self.container = av.open(f"file:{self.part}", "w", format="mp4")
                self.container.metadata["comment"] = DRAWN
                name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
                self.stream = self.container.add_stream(name, rate=self.rate)
                self.stream.width, self.stream.height = (max(2, side - side % 2) for side in picture.shape[1::-1])
                self.stream.pix_fmt = "yuv420p"
                self.stream.codec_context.time_base = Fraction(1, TICKS)
            size = self.stream.width, self.stream.height
            if picture.shape[1::-1] != size:
                image = Image.fromarray(picture)
                near = abs(image.width - size[0]) < 2 and abs(image.height - size[1]) < 2
                picture = np.asarray(image.crop((0, 0, *size)) if near else image.resize(size))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            self.last = max(self.last + 1, round(seconds * TICKS))
            frame.pts, frame.time_base = self.last, Fraction(1, TICKS)
            self.container.mux(self.stream.encode(frame))
        except av.error.FFmpegError as error:
            raise ValueError(format_error(error, inside=True)) from None

    def close(self) -> None:
        """Write what the encoder still holds.

        Raises:
            ValueError: it cannot be written.
        """
        if self.container is None:
            return
        av = _av()
        try:
            self.container.mux(self.stream.encode())
            self.container.close()
        except av.error.FFmpegError as error:
            raise ValueError(format_error(error, inside=True)) from None
        self.part.replace(self.path)


def is_recording(path: Path) -> bool:
    """Return whether a file is a video that this program drew, which says so in its comment."""
    av = _av()
    try:
        with av.open(f"file:{path}", format="mp4") as container:
            return container.metadata.get("comment") == DRAWN
    except (av.error.FFmpegError, OSError, ValueError):
        return False


def camera_index(word: str) -> int | None:
    """Return 1 for camera:1, 0 for camera, None for anything else."""
    match = re.fullmatch(r"camera(?::(\d{1,3}))?", word)
    return int(match[1] or 0) if match else None


def _av():
    try:
        import av
    except ImportError as error:
        raise ValueError(f"videos and cameras are read by av: {not_installed('av', error, 'predict')}") from None
    # at any level FFmpeg's threads ask for Python's lock to tell an error, while Python, which has it, waits for their end
    av.logging.set_level(None)
    return av
