"""The student that answers: an exported file, that of a run folder, or one that comes with this package.

Needs onnxruntime, NumPy and Pillow alone.
"""

import json
from os import PathLike
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np

from distill.export.runtimes import Answer, LoadedModel, open_file
from distill.predict.boxes import check_boxes, cut, whole_picture
from distill.predict.pictures import Picture, as_pictures
from distill.runs.published import ONNX, shipped
from distill.system.cli import to_export
from distill.system.cores import cores

PREFERRED = ("ferlite_m", "ferlite_s", "microexpnet")  # the first that is there answers where none is named
PLACES = ("export/student.onnx", "student.onnx", *ONNX)  # in a run folder, in its export, in a published folder

LARGEST = 4096  # side of a picture, pixels
FACES = 64  # in one pass


class Student(NamedTuple):
    """An exported student: .classes are the names of its K classes, .picture the height and width [pixels] that faces are resized to."""

    answer: Answer  # [B, H, W, 3] uint8 RGB -> logits, probabilities [B, K]
    classes: tuple[str, ...]  # the K class names
    picture: tuple[int, int]  # height and width of the pictures that it learned from; faces are resized to it first
    name: str  # for messages

    def __repr__(self) -> str:
        height, width = self.picture
        return f"Student {self.name}: {', '.join(self.classes)}; pictures of {width} x {height} pixels"

    def predict(self, picture: Picture, boxes: np.ndarray | None = None) -> np.ndarray:
        """Return the probability of each class.

        Args:
            picture: one face, cropped as for training: a path, a PIL image, or uint8 RGB or gray; or a batch. Any size.
            boxes: faces in one whole picture, as distill.find_faces returns them, x, y, width, height [pixels].

        Shape:
            picture: path, image, [H, W, 3] or [H, W] -> [K] float32; [B, H, W, 3] or a list of B pictures -> [B, K].
            boxes: [N, 4] -> [N, K].

        Raises:
            ValueError: no picture, or a box that does not fit it.
        """
        pictures, is_batch = as_pictures(picture)
        if boxes is None:
            faces = [(one, whole_picture(one)[0]) for one in pictures]
        elif is_batch:
            raise ValueError("boxes: are those of one picture, and a batch was given. Give its pictures one by one.")
        else:
            faces = [(pictures[0], box) for box in check_boxes(boxes, pictures[0])]
        parts = [np.zeros((0, len(self.classes)), np.float32)]
        for first in range(0, len(faces), FACES):
            crops = [cut(one, box, self.picture) for one, box in faces[first : first + FACES]]
            parts.append(self.answer(np.stack(crops))[1])
        probabilities = np.concatenate(parts)
        return probabilities if is_batch or boxes is not None else probabilities[0]

    def label(self, picture: Picture, boxes: np.ndarray | None = None) -> str | list[str]:
        """Return the name of the most probable class: a list of them where predict returns [B, K] or [N, K].

        Args:
            picture, boxes: those of predict.

        Raises:
            ValueError: as predict does.
        """
        best = self.predict(picture, boxes).argmax(-1)
        return self.classes[best] if best.ndim == 0 else [self.classes[number] for number in best]


def load(student: str | PathLike | None = None, threads: int | None = None) -> Student:
    """Open a student that was exported, without PyTorch.

    Args:
        student: a name that comes with this package, such as "ferlite_m" or "ferlite_s"; a run folder that was exported, its export
            or a published folder; or a .onnx file. None takes the best that comes with it.
        threads: of the engine; None takes all of this process's cores.

    Returns:
        A Student: .predict(picture) returns probabilities, .label(picture) a class, .classes names the classes.

    Raises:
        ValueError: there is no such student, the file is none, or onnxruntime is not installed.
    """
    return open_student(student, threads or cores(), "distill.load")


def open_student(word: str | PathLike | None, threads: int, option: str = "--student") -> Student:
    """Open the student that a person named.

    Args:
        word: a file, a folder or a shipped name; None takes the best shipped one.
        threads: of the engine.
        option: what it was typed behind, for messages.

    Raises:
        ValueError: there is no such student, or the file is none.
    """
    path = find(word, option)
    opened, classes, picture = open_whole(path, threads)
    return Student(opened.answer, classes, picture, str(word or path.parent.name))


def open_whole(path: Path, threads: int) -> tuple[LoadedModel, tuple[str, ...], tuple[int, int]]:
    """Open an exported file that takes pictures; return it, its classes and the size of the pictures it learned from.

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


def find(word: str | PathLike | None, option: str = "--student") -> Path:
    """Return the .onnx file that a word means: a shipped name, a file, a run folder, its export or its publication.

    Raises:
        ValueError: it means none, or two: a shipped name that a file or folder here has, too.
    """
    names = shipped()
    if word is None:
        if not names:
            raise ValueError(f"{option}: none comes with this installation. Give a run folder or a .onnx file.")
        return names[next(name for name in (*PREFERRED, *names) if name in names)]
    if str(word) in names and (isinstance(word, str) or not Path(word).exists()):
        if Path(word).exists():
            raise ValueError(
                f"{option}: {word} is a student of this package, and here is a file or folder of that name. "
                f"Type ./{word} for the one here, {quote(str(names[word]))} for the package's."
            )
        return names[str(word)]
    path = Path(word).expanduser()
    if path.is_dir():
        file = next((path / name for name in PLACES if (path / name).is_file()), None)
        if file is None:
            raise ValueError(f"{option}: {path} has no {', '.join(PLACES)}. {to_export(path)}")
        return file
    if not path.is_file():
        known = f"one of {', '.join(names)}, " if names else ""
        raise ValueError(f"{option}: there is no {word}. Give {known}a run folder or a .onnx file.")
    if path.suffix != ".onnx":
        raise ValueError(f"{option}: {path} was not opened: only .onnx files are. Type python -m distill.export RUN")
    return path
