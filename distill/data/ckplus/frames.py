"""Which frames of CK+ are read: those of the authors' labeled sequences, or those of the published lists."""

import re
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from distill.data.common.emotions import CK_PLUS, EMOTIONS, numbered
from distill.data.common.image_files import Picture, lines, picture
from distill.data.common.image_reader import open_image
from distill.data.common.labeled import Entry
from distill.data.common.walker import pictures_below
from distill.system.errors import ConfigError

FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.png")  # person, sequence, frame
LAST = 3  # frames of a sequence that show its emotion
NEUTRAL = EMOTIONS.index("neutral")


def sequence_frames(emotion: Path, images: Path, landmarks: Path | None, margin: float) -> list[Entry]:
    """List the last three frames and the first, as neutral, of every sequence that has a label.

    Args:
        emotion: folder Emotion, S005/001/S005_001_00000011_emotion.txt: one number 0..7 each; a folder without a file
            is a sequence without a label.
        images: folder cohn-kanade-images, S005/001/S005_001_00000001.png.
        landmarks: folder Landmarks, S005/001/S005_001_00000001_landmarks.txt, to cut faces out by; None does not.
        margin: see face.

    Raises:
        ConfigError: no label.
        ValueError: a label that is no number 0..7, or a sequence of less than four frames.
    """
    entries = []
    for file in sorted(emotion.glob("S*/*/S*_emotion.txt")):
        person, sequence = file.parts[-3:-1]
        text = file.read_text("utf-8", "replace").strip()  # "3.0000000e+00"
        with suppress(ValueError):  # numbered answers it
            text = f"{float(text):g}"
        label = numbered(text, CK_PLUS, EMOTIONS, str(file))
        home = images / person / sequence
        frames = pictures_below(home) if home.is_dir() else []
        if len(frames) <= LAST:
            raise ValueError(
                f"{file}: its sequence {home} has {len(frames)} frames, {LAST + 1} or more are needed. Copy the sequence, "
                "or remove its label."
            )
        for frame, index in [(frames[0], NEUTRAL), *((frame, label) for frame in frames[-LAST:])]:
            name = f"{person}/{sequence}/{frame.name}"
            points = landmarks and landmarks / person / sequence / f"{frame.stem}_landmarks.txt"
            load = partial(face, frame, points, margin) if points else Picture(str(frame))
            entries.append(Entry("all", name, index, load, str(file), person))
    if not entries:
        raise ConfigError("data.root", f"{emotion} has no S*/*/S*_emotion.txt. Copy the labels there as distributed.")
    return entries


def face(image: Path, landmarks: Path, margin: float) -> Image.Image:
    """Cut the square around the landmarks out of a frame; what is outside of the frame is black.

    Args:
        image: a frame.
        landmarks: lines `x y` [pixels].
        margin: added on each side, a share of the longer side.

    Raises:
        ValueError: a file of landmarks with other lines.
    """
    points = np.array([line.split() for line in landmarks.read_text(encoding="utf-8").splitlines()], float)
    if len(points) < 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"{landmarks} has other lines than x y")
    low, high = points.min(0), points.max(0)
    half = (high - low).max() * (0.5 + margin)
    left, top = np.rint((low + high) / 2 - half).astype(int).tolist()
    side = max(1, round(2 * half))
    return open_image(image)[0].crop((left, top, left + side, top + side))


def listed_frames(list_file: Path, images: Path) -> list[Entry]:
    """List the frames of CK+last3frameslabels.txt, and frame 00000001 of each of their sequences as neutral.

    Args:
        list_file: lines `path label`; of the path the file name counts, the label is 0..7 in the order of CK+.
        images: folder with S005/001/S005_001_00000001.png.

    Raises:
        ValueError: a line with other words, another label, or the name of no frame.
    """
    entries, names, first = [], set(), dict[str, str]()
    for (path, text, *_), where in lines(list_file, 2, "file label"):
        name, label = Path(path).name, numbered(text, CK_PLUS, EMOTIONS, where)
        entries.append(_entry(images, name, label, where))
        names.add(name)
        first.setdefault(f"{name[:9]}00000001.png", where)
    return entries + [_entry(images, name, NEUTRAL, where) for name, where in first.items() if name not in names]


def _entry(images: Path, name: str, label: int, where: str) -> Entry:
    person, sequence = _frame(name, where)
    path = f"{person}/{sequence}/{name}"
    return Entry("all", path, label, picture(images / path, where), where, person)


def _frame(name: str, where: str) -> tuple[str, str]:
    match = FRAME.fullmatch(name)
    if not match:
        raise ValueError(f"{where}: {name!r} is no frame such as S005_001_00000011.png. Take the published list.")
    return match[1], match[2]


def published_folds(cross: Path) -> list[set[str]]:
    """Read the persons of each fold from test_ids_<k>.csv, one frame a line, in the order of k.

    Raises:
        ConfigError: no such file.
        ValueError: a person of test_ids_<k>.csv who is in train_ids_<k>.csv too.
    """
    numbers = sorted(int(path.stem.removeprefix("test_ids_")) for path in cross.glob("test_ids_*[0-9].csv"))
    if not numbers:
        raise ConfigError("data.root", f"{cross} has no test_ids_0.csv. Copy the lists of folds there, or remove it.")
    folds = []
    for k in numbers:
        tested, trained = (_persons(cross / f"{part}_ids_{k}.csv") for part in ("test", "train"))
        if both := tested.keys() & trained.keys():
            person = min(both)
            raise ValueError(
                f"{tested[person]}: {person} is also in {trained[person]}; a fold is by persons. Take the published lists."
            )
        folds.append(set(tested))
    return folds


def _persons(path: Path) -> dict[str, str]:
    """Return {person: where} of a list of frames."""
    if not path.is_file():
        raise ConfigError("data.root", f"{path} is not there, though other lists of folds are. Copy it there.")
    return {_frame(name.strip('",'), where)[0]: where for (name, *_), where in lines(path, 1, "file")}
