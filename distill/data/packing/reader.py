"""Decode a data set once: a memory-mapped uint8 array per split, its annotations and ids, and a manifest of hashes."""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from distill.data.packing.near_duplicates import Copies
from distill.data.packing.near_duplicates import copies as find_copies
from distill.data.packing.writer import Row, hash_array, hash_ids, write
from distill.system.processes import locked

__all__ = ["FORMAT", "Packed", "PackedSplit", "Row", "open_pack", "pack"]

QUICK = 256 << 20  # bytes of pixels that are hashed whenever a pack is opened: a quarter of a second
FORMAT = 1  # of the folder; another number is another folder


class PackedSplit(NamedTuple):
    """One split as stored.

    Shape:
        pixels:      [M, C, H, W] uint8, memory-mapped read-only.
        annotations: [M, V] float32.
        ids:         [M].
        sha256:      of the bytes of pixels.
    """

    pixels: np.ndarray
    annotations: np.ndarray
    ids: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Packed:
    """A packed data set: its folder, what manifest.json says, and the arrays by split name."""

    folder: Path
    manifest: dict
    splits: dict[str, PackedSplit]

    @cached_property
    def copies(self) -> dict[str, Copies]:
        """Split name -> which of its pictures are copies of others; found once, then stored beside the arrays."""
        return find_copies(self.folder, {name: split.pixels for name, split in self.splits.items()})


def pack(
    store: Path,
    name: str,
    source: dict,
    read: Callable[[], Iterable[Row]],
    facts: Callable[[], dict] = dict,
    verify: bool = False,
) -> Packed:
    """Open the pack of a source, and decode the source into it first where there is none yet.

    The folder is `<store>/packed/<name>-<key>`, key = first 12 hex digits of sha256(source). It is written under a lock
    in a temporary folder and renamed at the end: it is complete or absent. What a process left that was killed is removed
    by the next call for this name.

    Args:
        store: folder for everything that is computed once.
        name: the data set's name, the beginning of the folder's name.
        source: what will be read, plain values only: reader version, absolute path, sizes and times of files.
        read: yields the rows in the order to store them; called only when the pack has to be written. Where Row.pixels
            is a function, threads call it a few rows ahead.
        facts: called before read; kept in the manifest. A fact named `rows` tells the progress bar where the end is.
        verify: compare the SHA-256 of pixels above 256 MB, too, with the manifest (reads everything); others always are.

    Raises:
        ValueError: pictures of two sizes, nothing to pack, or a pack that is damaged.
    """
    key = hashlib.sha256(json.dumps([FORMAT, source], sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(store).absolute() / "packed" / f"{name}-{key}"
    if not folder.exists():
        with locked(folder.with_name(folder.name + ".lock")):
            if not folder.exists():  # another process may have written it while this one waited
                _remove_stale(folder, name)
                with warnings.catch_warnings(action="ignore"):  # Pillow's, of pictures that it reads all the same
                    write(folder, {"format": FORMAT, "name": name, "source": source}, read, facts)
    return open_pack(folder, verify)


def _remove_stale(folder: Path, name: str) -> None:
    """Remove what stopped processes left of other sources under this name; nobody may come back for it."""
    for other in folder.parent.glob("*.partial"):
        if other.stem != folder.name and re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{12}}", other.stem):
            try:
                with FileLock(other.with_suffix(".lock"), timeout=0):
                    shutil.rmtree(other, ignore_errors=True)
            except Timeout:  # another process is writing it
                continue


def open_pack(folder: Path, verify: bool = False) -> Packed:
    """Open a pack that exists; sizes and hashes are compared with its manifest, those of large pixels with verify=True alone.

    Raises:
        ValueError: the manifest cannot be read, or a file is not what the manifest says.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        splits = {split: _open_split(folder, split, entry, verify) for split, entry in manifest["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = error if type(error) is ValueError else f"its manifest or an array cannot be read ({error})"
        raise ValueError(f"The packed data set {folder} is damaged: {fault}. Delete it and start again.") from error
    return Packed(folder, manifest, splits)


def _open_split(folder: Path, split: str, entry: dict, verify: bool) -> PackedSplit:
    for file, bytes_written in entry["bytes"].items():
        size = (folder / file).stat().st_size
        if size != bytes_written:
            raise ValueError(f"{file} has {size:,} bytes instead of {bytes_written:,}")
    pixels = np.load(folder / f"{split}.pixels.npy", mmap_mode="r")
    annotations = np.load(folder / f"{split}.annotations.npy")
    ids = tuple(json.loads((folder / f"{split}.ids.json").read_text(encoding="utf-8")))
    if list(pixels.shape) != entry["shape"] or not len(pixels) == len(annotations) == len(ids):
        raise ValueError(f"{split} has arrays of {len(pixels)}, {len(annotations)} and {len(ids)} rows")
    hashes = {"annotations": hash_array(annotations), "ids": hash_ids(ids)}
    if verify or pixels.nbytes <= QUICK:
        hashes["pixels"] = hash_array(pixels)
    for array, sha256 in hashes.items():
        if sha256 != entry["sha256"][array]:
            raise ValueError(f"the {array} of {split} do not have the sha256 that the manifest states")
    return PackedSplit(pixels, annotations, ids, entry["sha256"]["pixels"])
