"""Faces of noise for tests of what a teacher said of them."""

import numpy as np

from distill.types import Dataset, Split

CLASSES = ("happy", "sad", "calm")


def faces(kept: int) -> Dataset:
    """Thirty packed faces, some of which a protocol keeps, to train on, and nine to validate."""
    rng = np.random.default_rng(0)

    def split(name, packed, kept):
        rows = np.sort(rng.permutation(packed)[:kept])
        label = rng.integers(0, 3, kept)
        pixels = rng.integers(0, 256, (packed, 1, 16, 16), np.uint8)
        target = np.eye(3, dtype=np.float32)[label]
        return Split(name, pixels, rows, target, label, tuple(map(str, rows)), f"sha of {name}")

    return Dataset("tiny", CLASSES, "all", {"train": split("train", 30, kept), "valid": split("valid", 9, 9)})
