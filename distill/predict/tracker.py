"""Faces from frame to frame: each is looked for where it was."""

from collections.abc import Callable

import numpy as np

from distill.predict.blazeface import BlazeFace
from distill.predict.boxes import surest

EVERY = 30  # frames: how often a slow detector looks, too


class Tracker:
    """BlazeFace on the frames of a film, in their order.

    In each frame it looks at the whole, and closely at what that finds and at the faces of the frame before, so that a
    face that came near stays found far away. A slow detector may look at one of 30 frames, for small faces; they are
    then followed.

    Args:
        near: looks at every frame.
        far: a detector of small faces, or None.
    """

    def __init__(self, near: BlazeFace, far: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None):
        self.near, self.far, self.number, self.boxes = near, far, 0, np.zeros((0, 4))

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the faces of the next frame; arguments and answer are a detector's."""
        found = [self.boxes, self.near.search(picture)]
        if self.far and self.number % EVERY == 0:
            found.append(self.far(picture)[0])
        self.number += 1
        boxes = np.concatenate(found)
        known = surest(boxes, -np.arange(len(boxes)))  # a face that is known already is looked at once
        self.boxes, scores = self.near.follow(picture, boxes[known])
        return self.boxes, scores
