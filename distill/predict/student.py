"""The student that answers: an exported file, that of a run folder, or one that comes with this package."""

import json
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np

from distill.export.runtimes import Answer, Opened, open_file
from distill.system.cli import to_export

SHIPPED = Path(__file__).resolve().parents[1] / "shipped"
PREFERRED = ("cern", "microexpnet")
PUBLISHED = "model.onnx"
PLACES = ("export/student.onnx", "student.onnx", PUBLISHED)  # in a run folder, in its export, in a published folder

LARGEST = 4096  # side of a picture, pixels


class Student(NamedTuple):
    """An exported student.

    Args:
        answer: [B, H, W, 3] uint8 RGB -> logits, probabilities [B, K].
        classes: the K class names.
        picture: height and width of the pictures that it learnt from; faces are brought to this size first.
        name: for sentences.
    """

    answer: Answer
    classes: tuple[str, ...]
    picture: tuple[int, int]
    name: str


def open_student(word: str | None, threads: int) -> Student:
    """Open the student that a person named.

    Args:
        word: a file, a folder or a shipped name; None takes the best shipped one.
        threads: of the engine.

    Raises:
        ValueError: there is no such student, or the file is none.
    """
    path = find(word)
    opened, classes, picture = open_whole(path, threads)
    return Student(opened.answer, classes, picture, word or path.parent.name)


def open_whole(path: Path, threads: int) -> tuple[Opened, tuple[str, ...], tuple[int, int]]:
    """Open an exported file that takes pictures; return it, its classes and the size of the pictures it learnt from.

    Args:
        path: an exported file.
        threads: of the engine.

    Raises:
        ValueError: it is none, or a bare network.
    """
    opened = open_file(path, threads)
    if opened.dtype != "uint8":
        raise ValueError(
            f"{path}: the bare network, which takes no pictures. Export the run again, without export.preprocess=false."
        )
    try:
        classes, picture = (tuple(json.loads(opened.facts[key])) for key in ("classes", "picture"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata do not name classes and picture size. Export it again.") from error
    if len(picture) != 2 or not all(type(side) is int and 1 <= side <= LARGEST for side in picture):
        raise ValueError(f"{path}: its metadata name pictures of {list(picture)}, which cannot be. Export it again.")
    answers = opened.answer(np.zeros((1, *picture, 3), np.uint8))[1].shape[1]
    if len(classes) != answers:
        raise ValueError(
            f"{path}: its metadata name {len(classes)} classes, but it answers {answers} numbers. Export it again."
        )
    return opened, classes, picture


def shipped() -> list[str]:
    """Return the names of the students that come with this package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{PUBLISHED}"))


def find(word: str | None) -> Path:
    """Return the .onnx file that a word means: a shipped name, a file, a run folder, its export or its publication.

    Raises:
        ValueError: it means none, or two: a shipped name that a file or folder here has, too.
    """
    names = shipped()
    if word is None:
        best = next((name for name in (*PREFERRED, *names) if name in names), None)
        if best is None:
            raise ValueError("--student: none comes with this installation. Give --student RUN or FILE.onnx.")
        return SHIPPED / best / PUBLISHED
    if word in names:
        own = SHIPPED / word / PUBLISHED
        if Path(word).exists():
            raise ValueError(
                f"--student: {word} is a student of this package, and here is a file or folder of that name. "
                f"Type ./{word} for the one here, {quote(str(own))} for the package's."
            )
        return own
    path = Path(word).expanduser()
    if path.is_dir():
        found = next((path / name for name in PLACES if (path / name).is_file()), None)
        if found is None:
            raise ValueError(f"--student: {path} has no {', '.join(PLACES)}. {to_export(path)}")
        return found
    if not path.is_file():
        known = f"one of {', '.join(names)}, " if names else ""
        raise ValueError(f"--student: there is no {word}. Give {known}a run folder or a .onnx file.")
    if path.suffix != ".onnx":
        raise ValueError(f"--student: {path} was not opened: only .onnx files are. Type python -m distill.export RUN")
    return path
