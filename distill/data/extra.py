"""Faces without labels beside a labeled data set, data.extra=DIR: training pictures that the teacher alone says something of."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.data.common.entries import Entry, Listing
from distill.data.common.image_files import folder, picture, source
from distill.data.common.labeled import UNKNOWN
from distill.data.common.splits import evenly_spaced
from distill.data.common.twins import copied, near_duplicate, selected
from distill.data.common.walker import pictures_below
from distill.data.packing.reader import pack
from distill.system.errors import ConfigError
from distill.types import Dataset, Split

VERSION = 1  # of what is read; raise it when the same files would give other rows


class Joined:
    """Two packed arrays [M, C, H, W] and [N, C, H, W], read as one [M + N, C, H, W] without a copy."""

    def __init__(self, first: np.ndarray, second: np.ndarray):
        self.first, self.second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        head, pixels = index < len(self.first), np.empty((len(index), *self.shape[1:]), np.uint8)
        pixels[head], pixels[~head] = self.first[index[head]], self.second[index[~head] - len(self.first)]
        return pixels


def with_extra(data: Dataset, store: Path, root: str | Path, verify: bool = False, limit: int | None = None) -> Dataset:
    """Return a data set with the pictures of a folder as its `extra`, packed at the size of its own.

    Those that show a photograph of its valid or test split are left out.

    Args:
        data: a data set with train, valid and test.
        store: folder for everything that is computed once.
        root: folder of pictures, each one face, cropped as the data set crops its own; any depth.
        verify: compare the SHA-256 of the packed pixels at every start, too, where they take more than 256 MB.
        limit: keep so many, evenly spread; None keeps all.

    Raises:
        ConfigError: no such folder, a folder without pictures, a picture that cannot be read, or none is left.
    """
    home, train = folder(root, "a folder of pictures that each show one face", "data.extra"), data.splits["train"]
    channels, size = train.pixels.shape[1:3]

    def entries() -> list[Entry]:
        files = pictures_below(home, deep=True)
        return [Entry("train", f.relative_to(home).as_posix(), 0, picture(f, str(f)), str(f)) for f in files]

    listing = Listing(entries, ("",), size, channels, [home])
    key = source("extra", VERSION, [home]) | {"size": size, "channels": channels}
    packed = pack(Path(store), "extra", key, listing.rows, listing.facts, verify)
    pixels, _, ids, sha256 = packed.splits["train"]
    rows = evenly_spaced(np.arange(len(ids)), limit)
    target, label = np.zeros((len(rows), len(data.classes)), np.float32), np.full(len(rows), UNKNOWN)
    split = Split(
        "extra", pixels, rows, target, label, tuple(ids[row] for row in rows), sha256, *packed.copies["train"]
    )
    seen = near_duplicate(split, [data.splits["valid"], data.splits["test"]])
    if seen.all():
        raise ConfigError(
            "data.extra",
            f"each of the {len(split):,} pictures in {home} shows a photograph of valid or test. Give other faces.",
        )
    extra = selected(split, ~seen)
    shared = {
        "left_out": packed.manifest["facts"]["left_out"],
        "in_valid_or_test": int(seen.sum()),
        "in_train": 0 if train.content is None else int(copied(extra, [train]).sum()),
    }
    return replace(data, extra=extra, notes=data.notes | {"extra": shared})


def about_extra(data: Dataset) -> dict | None:
    """Return what result.json says of the faces without labels: how many, and the SHA-256 of their pixels."""
    return data.extra and {"faces": len(data.extra), "sha256": data.extra.sha256}


def to_learn_from(data: Dataset) -> Dataset:
    """Return a data set whose training split has the faces without labels behind its own: label -1, a target of zeros."""
    if (extra := data.extra) is None:
        return data
    train = data.splits["train"]
    joined = replace(
        train,
        pixels=Joined(train.pixels, extra.pixels),
        rows=np.concatenate([train.rows, len(train.pixels) + extra.rows]),
        target=np.concatenate([train.target, extra.target]),
        label=np.concatenate([train.label, extra.label]),
        ids=train.ids + extra.ids,
        sha256=f"{train.sha256}+{extra.sha256}",
        content=None,
        photo=None,
    )
    return replace(data, splits=data.splits | {"train": joined})
