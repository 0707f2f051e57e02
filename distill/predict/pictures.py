"""The pictures that a command or a caller gave, and what tells this program's own drawings from them."""

import warnings
from collections.abc import Sequence
from os import PathLike
from os.path import realpath
from pathlib import Path

import numpy as np
from PIL import Image

from distill.data.common.image_reader import BROKEN, open_image, upright
from distill.data.common.walker import left_out, pictures_below, shown
from distill.system.cli import format_error

Picture = str | PathLike | Image.Image | np.ndarray | Sequence  # what as_pictures takes

WANTED = (
    "Give a path, a PIL image, or uint8 pixels from 0 to 255, the colors last: [H, W, 3] (RGB), [H, W] (gray) or a batch "
    "[B, H, W, 3]."
)
SOFTWARE, DRAWN = 0x131, "drawn by distill.predict"  # an EXIF tag, and what it says in a drawing


def read(path: Path) -> tuple[np.ndarray, str]:
    """Decode a picture file, see open_image.

    Returns:
        [H, W, 3] uint8 RGB, and a note or "".

    Raises:
        ValueError: why it cannot be read.
    """
    with warnings.catch_warnings(action="ignore"):
        image, note = open_image(path)
    return np.asarray(image.convert("RGB")), note


def as_pictures(given: Picture) -> tuple[list[np.ndarray], bool]:
    """Return the pictures that a caller gave, and whether they are a batch.

    Args:
        given: a path, a PIL image or uint8 [H, W, 3] (RGB) or [H, W]; or a batch: [B, H, W, 3], or a list of pictures.

    Returns:
        [H, W, 3] uint8 RGB, each.

    Raises:
        ValueError: it is no such thing, or a file that cannot be read.
    """
    if isinstance(given, list | tuple):
        return [_as_picture(one) for one in given], True
    if isinstance(given, str | PathLike | Image.Image):
        return [_as_picture(given)], False
    if len(np.shape(given)) != 4:
        return [_as_picture(given)], False
    pixels = np.asarray(given)
    if pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"picture: {pixels.dtype} {list(pixels.shape)} was given. {WANTED}")
    return [_as_picture(one) for one in pixels], True


def _as_picture(given: str | PathLike | Image.Image | np.ndarray) -> np.ndarray:
    if isinstance(given, str | PathLike):
        try:
            return read(Path(given).expanduser())[0]
        except ValueError as error:
            raise ValueError(f"{shown(Path(given))}: {error}.") from error
    if isinstance(given, Image.Image):
        try:
            given = upright(given).convert("RGB")
        except BROKEN as error:
            raise ValueError(f"picture: cannot be read: {format_error(error, inside=True)}.") from error
    pixels = np.asarray(given)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"picture: {pixels.dtype} {list(np.shape(given))} was given. {WANTED}")
    return pixels


def listed(folder: Path, without: Path | None) -> tuple[list[Path], dict[str, list]]:
    """Return the pictures below a folder, by name, and what is left out, see distill.data.common.walker.

    What cannot be opened under a picture's name, as a link to nothing, is among them: its reader says so.

    Args:
        folder: searched with the folders in it.
        without: a folder whose drawings are passed over; other pictures in it are not.
    """
    files = pictures_below(folder, deep=True)
    rest = left_out([str(folder)], [str(file) for file in files])
    if without:
        inside = Path(realpath(without))
        files = [file for file in files if inside not in Path(realpath(file)).parents or not is_drawing(file)]
    return files, rest


def is_drawing(path: Path) -> bool:
    """Return whether a file is a drawing of this program, which says so in its EXIF part."""
    try:
        if not path.is_file():
            return False
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("JPEG", "PNG")) as image:
            return "exif" in image.info and image.getexif().get(SOFTWARE) == DRAWN
    except BROKEN:
        return False


def identity(path: Path) -> tuple[int, int] | str:
    """Return what two names of one file have in common, whatever links they are."""
    try:
        status = path.stat()
    except OSError:  # not there yet
        return realpath(path)
    return status.st_dev, status.st_ino
