"""Boxes around faces: squares as the student's training faces have them, cut out at one size, or read from a file."""

from os.path import abspath
from pathlib import Path

import numpy as np
from PIL import Image

from distill.data.common.image_files import csv_file

OVERLAP = 0.3  # of two boxes, above which they are one face
MARGIN = 0.05  # of the longer side: FER+ crops are 1.05 (quartiles 1.00 to 1.11) times CenterFace's box, same center
MEANING = "path,x,y,width,height"


def squares(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Return squares with the same centers, their side (1 + margin) times the longer one.

    Shape:
        boxes: [N, 4] as x, y, width, height -> [N, 4]; they may reach beyond the picture.
    """
    side = (1 + margin) * boxes[:, 2:].max(1, keepdims=True)
    return np.hstack([boxes[:, :2] + (boxes[:, 2:] - side) / 2, side, side])


def cut(picture: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what a box holds, as a picture of one size; beyond the border the border's pixels are repeated.

    Shape:
        picture: [H, W, 3] uint8; box: x, y, width, height -> [size[0], size[1], 3] uint8.
    """
    (left, top), (right, bottom) = np.floor(box[:2] + 0.5).astype(int), np.floor(box[:2] + box[2:] + 0.5).astype(int)
    rows = np.arange(top, max(bottom, top + 1)).clip(0, picture.shape[0] - 1)
    columns = np.arange(left, max(right, left + 1)).clip(0, picture.shape[1] - 1)
    face = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if face.shape[:2] != (len(rows), len(columns)):
        face = face.take(rows - rows[0], 0).take(columns - columns[0], 1)
    if face.shape[:2] == tuple(size):
        return np.ascontiguousarray(face)
    return np.asarray(Image.fromarray(face).resize(size[::-1], Image.Resampling.BILINEAR))  # antialiased


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return what a box shares with each of others, of what both cover.

    Shape:
        box: [4] as x, y, width, height; boxes: [N, 4] -> [N].
    """
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    common = (high - low).clip(min=0).prod(1)
    return common / (box[2:].prod() + boxes[:, 2:].prod(1) - common)


def surest(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the rows that stay when, from the surest box on, each one drops those that overlap it too much.

    Shape:
        boxes: [N, 4] as x, y, width, height; scores: [N] -> [M] int64, surest first.
    """
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        left = left[overlap(boxes[first], boxes[left]) < OVERLAP]
    return np.array(kept, np.int64)


def whole_picture(picture: np.ndarray) -> np.ndarray:
    """Return the box around a picture, [1, 4]."""
    return np.array([[0, 0, picture.shape[1], picture.shape[0]]], float)


def read_boxes(file: Path, folder: Path) -> dict[str, np.ndarray]:
    """Read boxes from a csv file with or without a header.

    Args:
        file: rows of path, x, y, width, height in pixels of the upright picture.
        folder: where its paths begin.

    Returns:
        absolute path -> [N, 4].

    Raises:
        ValueError: no such file, or a row that is no box.
    """
    if not file.is_file():
        raise ValueError(f"--boxes: there is no file {file}. Give a csv file with rows of {MEANING}.")
    by_file: dict[str, list] = {}
    for number, (cells, where) in enumerate(row for row in csv_file(file) if row[0]):
        box = _numbers(cells[1:5])
        if box is None and number == 0:
            continue  # a header
        if box is None or not (all(abs(value) < 1e6 for value in box) and min(box[2:]) > 0):
            raise ValueError(f"--boxes: {where} is {','.join(cells)[:100]!r}; it must be: {MEANING}.")
        by_file.setdefault(abspath(folder / cells[0]), []).append(box)
    return {name: np.array(boxes) for name, boxes in by_file.items()}


def _numbers(cells: list[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in cells] if len(cells) == 4 else None
    except ValueError:
        return None


def check_inside(boxes: np.ndarray, picture: np.ndarray) -> None:
    """Refuse boxes that do not fit a picture.

    Args:
        boxes: x, y, width, height [pixels].
        picture: what they are in.

    Shape:
        boxes: [N, 4], picture: [H, W, 3].

    Raises:
        ValueError: a box lies wholly beyond the picture, or is far larger than it.
    """
    height, width = picture.shape[:2]
    for x, y, w, h in boxes:
        if x >= width or y >= height or x + w <= 0 or y + h <= 0 or max(w, h) > 3 * max(width, height):
            raise ValueError(f"box {x:g},{y:g},{w:g},{h:g} does not fit a picture of {width} x {height} pixels")


def check_boxes(boxes: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return boxes that a caller gave as an array, [N, 4].

    Args:
        boxes: x, y, width, height [pixels].
        picture: what they are in.

    Raises:
        ValueError: they are no boxes, or one does not fit the picture, see check_inside.
    """
    try:
        checked = np.asarray(boxes, float)
        checked = checked.reshape(0, 4) if checked.shape == (0,) else checked  # an empty list
    except (TypeError, ValueError) as error:
        raise ValueError(f"boxes: are no numbers ({error}). Give [N, 4]: x, y, width, height.") from error
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise ValueError(f"boxes: {list(checked.shape)} was given. Give [N, 4]: x, y, width, height.")
    if len(wrong := checked[~(np.isfinite(checked).all(1) & (checked[:, 2:] > 0).all(1))]):
        raise ValueError(f"boxes: {wrong[0].tolist()} was given. Give finite x, y, and width and height above 0.")
    check_inside(checked, picture)
    return checked
