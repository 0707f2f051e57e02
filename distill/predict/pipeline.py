"""From pictures to answers: faces of several pictures go through the student together."""

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from distill.predict.boxes import cut
from distill.predict.student import FACES, Student

PIXELS = 2**25  # of pictures that wait for their answers, where they are kept


class Frame(NamedTuple):
    """A picture, or a frame of a video, and the boxes around its faces; or what could not be read, and why."""

    name: str  # its file or camera
    picture: np.ndarray | None  # [H, W, 3] uint8 RGB; None once it is no longer needed
    size: tuple[int, int]  # its height and width
    boxes: np.ndarray  # [N, 4] as x, y, width, height in its pixels
    scores: np.ndarray | None  # [N] of the detector; None where the boxes are given
    number: int | None = None  # its number in a video, from 0, or None
    seconds: float | None = None  # its time in a video, or None
    note: str = ""  # what is remarkable about the file, or ""
    error: str = ""  # why it could not be read, or ""


class FrameResult(NamedTuple):
    """A frame and the student's probabilities, [N, K]."""

    frame: Frame
    probabilities: np.ndarray


def run_inference(frames: Iterable[Frame], student: Student, keep: bool, faces: int = FACES) -> Iterator[FrameResult]:
    """Yield frames with their probabilities, in order.

    Args:
        frames: taken one by one; few are held at a time.
        student: the student.
        keep: keep the pictures until then, for drawing.
        faces: as many go through the student at once; 1 answers each frame before the next one is taken.
    """
    waiting: list[Frame] = []
    crops: list[np.ndarray] = []
    pixels = 0
    for frame in frames:
        crops += [cut(frame.picture, box, student.picture) for box in frame.boxes]
        pixels += 3 * prod(frame.size) if keep else 0
        waiting.append(frame if keep else frame._replace(picture=None))
        if len(crops) >= faces or len(waiting) >= faces or pixels >= PIXELS:
            yield from _answer(waiting, crops, student, faces)
            waiting, crops, pixels = [], [], 0
    yield from _answer(waiting, crops, student, faces)


def _answer(frames: list[Frame], crops: list[np.ndarray], student: Student, faces: int) -> Iterator[FrameResult]:
    parts = [student.answer(np.stack(crops[k : k + faces]))[1] for k in range(0, len(crops), faces)]
    answers, first = np.concatenate(parts) if parts else np.zeros((0, len(student.classes)), np.float32), 0
    for frame in frames:
        yield FrameResult(frame, answers[first : first + len(frame.boxes)])
        first += len(frame.boxes)
