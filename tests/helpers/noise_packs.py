"""Rows of noise to pack, and what is left of a pack."""

import numpy as np

from distill.data.packing.reader import Row

SOURCE = {"reader": "noise", "version": 1}


def noise(rows=9, size=6, channels=1):
    rng = np.random.default_rng(0)
    for i in range(rows):
        pixels = rng.integers(0, 256, (channels, size, size), np.uint8)
        yield Row(("train", "test")[i % 3 == 0], f"p{i}", pixels, np.eye(3)[i % 3])


def leftovers(store):
    return sorted(p.name for p in (store / "packed").iterdir() if not p.name.endswith(".lock"))
