"""Where near faces are, fast, and from frame to frame: BlazeFace short range, which comes with this package, run by onnxruntime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from distill.export.runtimes import onnx_session
from distill.predict.boxes import OVERLAP, cut, overlap, squares, surest
from distill.system.cli import not_installed

FILE = Path(__file__).with_name("blazeface") / "blazeface.onnx"  # docs/blazeface_onnx.py makes it
SIDE = 128  # of the network's input, pixels
CELLS = ((8, 2), (16, 6))  # stride in pixels, boxes per cell
CENTERS = np.concatenate(  # middles of the cells, once for each of their boxes, [896, 2]
    [
        np.repeat(np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2), count, 0)
        for stride, count in CELLS
        for middles in [(np.arange(SIDE // stride) + 0.5) * stride]
    ]
)
GROWTH, LIFT = 1.15, 0.1  # CenterFace's longer side, and how much higher its center is, in sides of BlazeFace's box
AROUND = 2.0  # side of a close look, in sides of the box in its middle
SEARCH = 5  # frames of a film: how often the whole frame is searched, though faces are known
EVERY = 30  # frames: how often a slow detector searches it, too


class BlazeFace:
    """BlazeFace on one picture of any size, in two looks.

    The first one, at the whole picture, made 128 pixels long, misses faces below an eighth of its longer side; each box
    that it finds is looked at closely, and what that finds counts. A box that overlaps a surer one by more than 0.3 is
    averaged with it, weighted by scores. Boxes are squares, about as CenterFace's.

    Args:
        threads: of the engine.
        threshold: smallest score of a face, in (0, 1).
        smallest: side of the smallest face that counts, in the picture's own pixels.

    Raises:
        ValueError: onnxruntime is not installed.

    Reference: Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, 2019, arXiv 1907.05047.
    """

    def __init__(self, threads: int, threshold: float, smallest: float):
        try:
            self.session = onnx_session(FILE.read_bytes(), threads)
        except ImportError as error:
            raise ValueError(not_installed("onnxruntime", error, "predict")) from None
        self.threshold, self.smallest = threshold, smallest

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find faces.

        Shape:
            picture: [H, W, 3] uint8, RGB -> boxes [N, 4] as x, y, width, height in its pixels, and scores [N]; from
            left to right.
        """
        return self.follow(picture, self.search(picture))

    def search(self, picture: np.ndarray) -> np.ndarray:
        """Return the boxes that a look at the whole picture finds, [N, 4]."""
        height, width = picture.shape[:2]
        scale, view = SIDE / max(height, width), np.zeros((1, SIDE, SIDE, 3), np.uint8)
        size = tuple(max(1, round(side * scale)) for side in (width, height))
        view[0, : size[1], : size[0]] = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        return self._look(view, np.array([[0, 0, 1 / scale]]))[0]

    def follow(self, picture: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look closely at the places of boxes, where faces may have moved by half their side.

        Shape:
            picture: [H, W, 3] uint8; boxes: [N, 4] -> boxes [M, 4] and scores [M], from left to right.
        """
        if not len(boxes):
            return np.zeros((0, 4)), np.zeros(0)
        areas = squares(boxes, AROUND - 1)
        low, high = np.floor(areas[:, :2] + 0.5), np.floor(areas[:, :2] + areas[:, 2:] + 0.5)
        areas = np.hstack([low, np.maximum(1, high - low)])
        views = np.stack([cut(picture, area, (SIDE, SIDE)) for area in areas])
        boxes, scores = self._look(views, np.hstack([low, areas[:, 2:3] / SIDE]))
        large = boxes[:, 2] >= self.smallest
        order = np.argsort(boxes[large, 0], kind="stable")
        return boxes[large][order], scores[large][order]

    def _look(self, views: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes [N, 4] and scores [N] in views [B, 128, 128, 3], each at left, top and pixels per pixel, [B, 3]."""
        regressed, logits = self.session.run(["boxes", "logits"], {"image": views})
        candidates = [_decode(*one, self.threshold) for one in zip(regressed, logits, places, strict=True)]
        return blend(*(np.concatenate(part) for part in zip(*candidates, strict=True)))


class Tracker:
    """BlazeFace on the frames of a film, in their order.

    It looks closely at the faces of the frame before, so that a face that came near stays found far away. In one of 5
    frames, in those without a face and where one is lost, it looks at the whole frame, too. A slow detector may do so in
    one of 30, for small faces; they are then followed.

    Args:
        near: looks at every frame.
        far: a detector of small faces, or None.
    """

    def __init__(self, near: BlazeFace, far: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None):
        self.near, self.far, self.number, self.boxes = near, far, 0, np.zeros((0, 4))

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the faces of the next frame; arguments and answer are a detector's."""
        boxes, scores = self.near.follow(picture, self.boxes)
        if self.number % SEARCH == 0 or len(boxes) < max(1, len(self.boxes)):
            candidates = [boxes, self.far(picture)[0]] if self.far and self.number % EVERY == 0 else [boxes]
            seen = np.concatenate([*candidates, self.near.search(picture)])
            known = surest(seen, -np.arange(len(seen)))  # a face that is known already is looked at once
            boxes, scores = self.near.follow(picture, seen[known])
        self.number, self.boxes = self.number + 1, boxes
        return boxes, scores


def _decode(
    regressed: np.ndarray, logits: np.ndarray, place: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes [N, 4] of one view in the picture's pixels, and their scores [N]."""
    scores = 1 / (1 + np.exp(-logits.clip(-100, 100).astype(float)))
    sure = scores > threshold
    right, down, width, height = regressed[sure, :4].astype(float).T
    side = GROWTH * width
    x, y = CENTERS[sure, 0] + right - side / 2, CENTERS[sure, 1] + down - LIFT * height - side / 2
    return np.stack([x, y, side, side], 1) * place[2] + [*place[:2], 0, 0], scores[sure]


def blend(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one box for those that overlap, their mean weighted by scores, with the largest score, surest first.

    Shape:
        boxes: [N, 4] as x, y, width, height; scores: [N] -> [M, 4], [M].
    """
    left, means, best = np.argsort(-scores, kind="stable"), [], []
    while len(left):
        same = overlap(boxes[left[0]], boxes[left]) > OVERLAP
        same[0] = True
        means.append(np.average(boxes[left[same]], 0, scores[left[same]]))
        best.append(scores[left[0]])
        left = left[~same]
    return np.array(means).reshape(-1, 4), np.array(best)
