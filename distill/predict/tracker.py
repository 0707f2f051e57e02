"""Faces from frame to frame: each is looked for where it was."""

from collections.abc import Callable

import numpy as np

from distill.predict.blazeface import BlazeFace
from distill.predict.boxes import surest

SEARCH = 5  # frames: how often the whole frame is searched, though faces are known
EVERY = 30  # frames: how often a slow detector searches it, too


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
