"""Write a pack: rows decoded by a few threads, appended to arrays on disk, complete or not there at all."""

import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.system.console import bar
from distill.system.cores import cores
from distill.system.files import writing

AHEAD = 64  # pictures in memory that are being decoded
TOLD = 20  # pictures that one message names


class Unreadable(NamedTuple):
    """What stands for the pixels of a picture that cannot be read: the others are decoded before all are told at once."""

    picture: str  # its file and row, or path
    why: str  # what the decoder said
    listed: bool  # it has a row in a list file, which must go with it


class Row(NamedTuple):
    """One picture on its way into a pack.

    Shape:
        pixels:     [C, H, W] uint8, or a function that decodes them (or returns Unreadable), called from a thread.
        annotation: [V], votes or one-hot, stored as float32.
        where:      file and row, for a message about this picture.
    """

    split: str
    id: str
    pixels: np.ndarray | Callable[[], np.ndarray]
    annotation: np.ndarray
    where: str = ""


def write(folder: Path, manifest: dict, read: Callable[[], Iterable[Row]], facts: Callable[[], dict]) -> None:
    """Write a pack under `<folder>.partial` and give it its name when it is complete; the caller holds the lock.

    What a process left that was killed is removed, and all rows are decoded again.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    manifest["facts"] = facts()
    partial.mkdir()
    try:
        with writing(folder):
            _fill(partial, manifest, read)
            (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        os.replace(partial, folder)
    except BaseException:  # also Ctrl-C
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(partial: Path, manifest: dict, read: Callable[[], Iterable[Row]]) -> None:
    start, unreadable, splits = time.perf_counter(), list[Unreadable](), dict[str, _SplitWriter]()
    total, words = manifest["facts"].get("rows"), f"packing {manifest['name']}"
    try:
        with bar() as progress:
            for row in progress.track(_decoded(iter(read())), total=total, description=words):
                if isinstance(row.pixels, Unreadable):
                    unreadable.append(row.pixels)
                if unreadable:  # nothing will come of it, but all that cannot be read is told
                    continue
                if row.split not in splits:
                    shape = next(iter(splits.values())).shape if splits else row.pixels.shape
                    splits[row.split] = _SplitWriter(partial, row.split, shape)
                splits[row.split].append(row)
        if unreadable:
            raise ValueError(_all_unreadable(unreadable))
        if not splits:
            listed = ", ".join(manifest["source"].get("paths", [manifest["name"]]))
            raise ValueError(f"There is not one picture to pack in {listed}. Check data.root.")
        manifest["splits"] = {name: split.close() for name, split in splits.items()}
        manifest["seconds"] = round(time.perf_counter() - start, 3)
    finally:
        for split in splits.values():
            split.file.close()


class _SplitWriter:
    """Appends pictures to a .npy file whose header is written again when their number is known."""

    def __init__(self, folder: Path, split: str, shape: tuple[int, ...]):
        self.folder, self.split, self.shape = folder, split, shape
        self.ids: list[str] = []
        self.annotations: list[np.ndarray] = []
        self.sha256 = hashlib.sha256()
        self.file = open(folder / f"{split}.pixels.npy", "wb")  # noqa: SIM115 (closed by close and _fill)
        self.header = self._write_header()

    def _write_header(self) -> int:
        self.file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(self.ids), *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)  # numpy pads it, so that the first axis can grow
        return self.file.tell()

    def append(self, row: Row) -> None:
        assert row.pixels.dtype == np.uint8
        if row.pixels.shape != self.shape:
            (c, h, w), (channels, height, width) = row.pixels.shape, self.shape
            raise ValueError(
                f"{row.where or row.id}: the picture is {w}x{h} with {c} channel(s), those before it are {width}x{height} "
                f"with {channels}. All pictures of a data set must have one size: resize it or remove it."
            )
        data = row.pixels.tobytes()
        self.file.write(data)
        self.sha256.update(data)
        self.ids.append(row.id)
        self.annotations.append(np.asarray(row.annotation, np.float32))

    def close(self) -> dict:
        assert self._write_header() == self.header
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        annotations = np.stack(self.annotations)
        np.save(self.folder / f"{self.split}.annotations.npy", annotations)
        (self.folder / f"{self.split}.ids.json").write_text(json.dumps(self.ids), encoding="utf-8")
        files = [f"{self.split}.{array}" for array in ("pixels.npy", "annotations.npy", "ids.json")]
        sha256 = {"pixels": self.sha256.hexdigest(), "annotations": hash_array(annotations), "ids": hash_ids(self.ids)}
        return {
            "shape": [len(self.ids), *self.shape],
            "bytes": {file: (self.folder / file).stat().st_size for file in files},
            "sha256": sha256,
        }


def _all_unreadable(unreadable: list[Unreadable]) -> str:
    if len(unreadable) == 1:
        rows = " and its row" if unreadable[0].listed else ""
        return f"{unreadable[0].picture} cannot be read ({unreadable[0].why}). Put the whole picture there, or remove it{rows}."
    pictures = "; ".join(f"{each.picture} ({each.why})" for each in unreadable[:TOLD])
    more = f"; and {len(unreadable) - TOLD:,} more" if len(unreadable) > TOLD else ""
    rows = " and their rows" if unreadable[0].listed else ""
    return f"{len(unreadable):,} pictures cannot be read: {pictures}{more}. Put whole pictures there, or remove them{rows}."


def hash_array(array: np.ndarray) -> str:
    """Return the sha256 of an array's bytes, read in parts."""
    sha256 = hashlib.sha256()
    for start in range(0, len(array), 4096):
        sha256.update(np.ascontiguousarray(array[start : start + 4096]))
    return sha256.hexdigest()


def hash_ids(ids: Iterable[str]) -> str:
    """Return the sha256 of a list of names."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def _decoded(rows: Iterator[Row]) -> Iterator[Row]:
    """Pass rows on in their order, those that bring a function decoded by a few threads."""
    first = next(rows, None)
    if first is None or not callable(first.pixels):
        yield from () if first is None else chain([first], rows)
        return
    pool, waiting = ThreadPoolExecutor(min(8, cores()) + 1), deque[Any]()  # one more: this thread hashes and writes
    try:
        for row in chain([first], rows):
            waiting.append((row, pool.submit(row.pixels)))
            if len(waiting) == AHEAD:
                row, pixels = waiting.popleft()
                yield row._replace(pixels=pixels.result())
        for row, pixels in waiting:
            yield row._replace(pixels=pixels.result())
    finally:
        pool.shutdown(cancel_futures=True)
