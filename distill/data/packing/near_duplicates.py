"""Which packed pictures are exact copies of each other, and which show the same photograph, up to crop, watermark or contrast."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILE = "near_duplicates.npz"  # beside the arrays of a pack
CHOICES = REPORT, DROP = "report", "drop_from_train"  # of data.near_duplicates
SIDE, BLOCK = 24, 4  # pixels that pictures are compared at, and of the blocks whose means are their low frequencies
LEAST = 0.8  # correlation of both bands from which on two pictures are one photograph
DIRECTIONS = 64  # principal ones that a pair is first looked at along
ROWS = 2048  # pictures in a block of a matrix product
CHECKED = 8192  # pairs that are multiplied out at a time


class Copies(NamedTuple):
    """What a packed split's pictures have in common with others of the pack.

    Shape:
        content: [M] uint64, hash of the pixels: equal for exact copies, in any pack of the same size and channels.
        photo: [M] int64, equal for pictures of the pack that are one photograph.
    """

    content: np.ndarray
    photo: np.ndarray


def copies(folder: Path, pixels: dict[str, np.ndarray]) -> dict[str, Copies]:
    """Return the copies in a pack, found the first time and stored with it.

    Args:
        folder: of the pack.
        pixels: split -> [M, C, H, W] uint8.
    """
    try:
        with np.load(folder / FILE) as stored:
            known = {name: Copies(stored[f"{name}.content"], stored[f"{name}.photo"]) for name in pixels}
        if all(len(known[name].photo) == len(pixels[name]) for name in pixels):
            return known
    except Exception:  # not there yet, or damaged: NumPy raises many kinds
        pass
    known = _find(pixels)
    partial = folder / f"{os.getpid()}.{FILE}"
    with suppress(OSError):  # in a store that cannot be written they are found every time
        np.savez(partial, **{f"{n}.{field}": array for n, c in known.items() for field, array in c._asdict().items()})
        os.replace(partial, folder / FILE)
    return known


def _find(pixels: dict[str, np.ndarray]) -> dict[str, Copies]:
    content = {}
    for name, array in pixels.items():
        digests = (hashlib.blake2b(picture.tobytes(), digest_size=8).digest() for picture in array)
        content[name] = np.frombuffer(b"".join(digests), np.uint64)
    each, first, number = np.unique(np.concatenate([*content.values()]), return_index=True, return_inverse=True)
    high, full = (np.concatenate(part) for part in zip(*map(bands, pixels.values()), strict=True))
    high, full = high[first], full[first]  # of exact copies one is enough
    root = np.arange(len(each))
    for left, right in pairs((high, full), (high, full), root):
        while (root[left] != root[right]).any():  # each pair and all that hang on them get one number, the smallest
            least, most = np.minimum(root[left], root[right]), np.maximum(root[left], root[right])
            np.minimum.at(root, most, least)
            while (root[root] != root).any():
                root[:] = root[root]
    photos = np.split(root[number], np.cumsum([len(array) for array in content.values()])[:-1])
    return {name: Copies(array, photo) for (name, array), photo in zip(content.items(), photos, strict=True)}


def bands(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures at 24 x 24 without their low frequencies, and whole, as vectors whose product is the correlation.

    Shape:
        pixels: [M, C, H, W] uint8, returns two times [M, 576] float32 of mean 0 and norm 1; norm 0 where nothing varies.
    """
    rows, columns = _area(pixels.shape[2]), _area(pixels.shape[3]).T
    blocks = [rows @ pixels[k : k + ROWS].mean(1, dtype=np.float32) @ columns for k in range(0, len(pixels), ROWS)]
    small = np.concatenate(blocks)
    cells = small.reshape(-1, SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK)
    high = cells - cells.mean((2, 4), keepdims=True)
    return _unit(high.reshape(len(small), -1)), _unit(small.reshape(len(small), -1))


def _area(size: int) -> np.ndarray:
    """Return the matrix [24, size] that averages over the pixels under each of 24."""
    edges = np.arange(SIDE + 1) * size / SIDE
    low, high = np.maximum(edges[:-1, None], np.arange(size)), np.minimum(edges[1:, None], np.arange(size) + 1)
    return (np.maximum(high - low, 0) * SIDE / size).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors - vectors.mean(1, keepdims=True)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(norm > 1e-3, vectors / np.maximum(norm, 1e-3), 0)


def pairs(one: tuple, other: tuple, root: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of pictures that correlate by 0.8 or more in both bands, some at a time.

    Along the principal directions P of the high band alone a . b <= Pa . Pb + |a - Pa| |b - Pb|: what stays below 0.8
    so, which is nearly everything, need not be multiplied out.

    Args:
        one, other: bands() of some pictures.
        root: given where both are the same pictures: a number for each, and pairs whose numbers are equal by now are not
            looked at.

    Shape:
        root: [M]; yields positions [P] in one, [P] in other.
    """
    directions = np.linalg.eigh(one[0].T @ one[0])[1][:, -DIRECTIONS:].astype(np.float32)
    near, far = _shortened(one[0], directions), _shortened(other[0], directions)
    for start in range(0, len(near), ROWS):
        for begin in range(0 if root is None else start, len(far), ROWS):
            bound = near[start : start + ROWS] @ far[begin : begin + ROWS].T
            candidates = np.flatnonzero(bound >= LEAST - 1e-3)
            for k in range(0, len(candidates), CHECKED):
                left, right = np.divmod(candidates[k : k + CHECKED], bound.shape[1])
                left, right = left + start, right + begin
                if root is not None:
                    new = (left < right) & (root[left] != root[right])
                    left, right = left[new], right[new]
                for band, far_band in zip(one, other, strict=True):
                    alike = np.einsum("ij,ij->i", band[left], far_band[right]) >= LEAST
                    left, right = left[alike], right[alike]
                yield left, right


def _shortened(vectors: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return vectors along some directions, and the length of what is left of each."""
    along = vectors @ directions
    left = np.sqrt(np.maximum((vectors**2).sum(1) - (along**2).sum(1), 0))
    return np.hstack([along, left[:, None]])
