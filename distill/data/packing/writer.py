"""Write a pack: rows decoded by a few threads, appended to arrays on disk, and continued where a process was killed."""

import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill.system.processes import cores

FLUSH = 4096  # pictures that a killed process loses at most
AHEAD = 64  # pictures in memory that are being decoded
TOLD = 20  # pictures that one sentence names
PROGRESS = "progress.json"


class Unreadable(NamedTuple):
    """What stands for the pixels of a picture that cannot be read: the others are decoded before all are told at once.

    Args:
        picture: its file and row, or path.
        why: what the decoder said.
        listed: it has a row in a list file, which must go with it.
    """

    picture: str
    why: str
    listed: bool


class Row(NamedTuple):
    """One picture on its way into a pack.

    Shape:
        pixels:     [C, H, W] uint8, or a function that decodes them (or returns Unreadable), called from a thread.
        annotation: [V], votes or one-hot, stored as float32.
        where:      file and row, for a sentence about this picture.
    """

    split: str
    id: str
    pixels: np.ndarray | Callable[[], np.ndarray]
    annotation: np.ndarray
    where: str = ""


def write(folder: Path, manifest: dict, read: Callable[[], Iterable[Row]], facts: Callable[[], dict]) -> None:
    """Write a pack under `<folder>.partial` and give it its name when it is complete; the caller holds the lock.

    A process that stops before its end leaves the rows up to its last flush, every 4096 rows. The next one lists the
    same rows again, and when they are the same it goes on behind them without decoding them. Less is removed.
    """
    partial = folder.with_name(folder.name + ".partial")
    manifest["facts"] = facts()
    try:
        _fill(partial, manifest, read)
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        os.replace(partial, folder)
        (folder / PROGRESS).unlink(missing_ok=True)
    except BaseException:  # also Ctrl-C
        if not (partial / PROGRESS).exists():
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(partial: Path, manifest: dict, read: Callable[[], Iterable[Row]]) -> None:
    start, unreadable = time.perf_counter(), []
    arrays, rows = _begin(partial, read)
    try:
        for row in _watched(_decoded(rows), arrays.done, manifest["facts"].get("rows"), f"packing {manifest['name']}"):
            if isinstance(row.pixels, Unreadable):
                unreadable.append(row.pixels)
            if unreadable:  # nothing is packed behind a gap
                continue
            arrays.append(row)
            if arrays.done % FLUSH == 0:
                arrays.flush(time.perf_counter() - start)
        if unreadable:
            raise ValueError(_all_unreadable(unreadable))
        if not arrays.done:
            raise ValueError(f"There is not one picture to pack in {manifest['source']}. Check data.root.")
        manifest["splits"] = arrays.close()
        manifest["seconds"] = round(arrays.seconds + time.perf_counter() - start, 3)
    finally:
        arrays.stop()


def _begin(partial: Path, read: Callable[[], Iterable[Row]]) -> tuple["_Arrays", Iterator[Row]]:
    """Open the arrays and the rows that are still to be decoded: behind what was kept, or all."""
    try:
        kept = json.loads((partial / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if kept:
        arrays, rows = _Arrays(partial), iter(read())
        if arrays.restore(islice(rows, kept["rows"]), kept):
            return arrays, rows
        arrays.stop()
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    return _Arrays(partial), iter(read())


class _Arrays:
    """The arrays of all splits while they grow, and the file that says how far they are safely on disk."""

    def __init__(self, partial: Path):
        self.partial, self.shape, self.done, self.seconds, self.mode = partial, None, 0, 0.0, "w+b"
        self.splits: dict[str, _SplitWriter] = {}
        self.listing = hashlib.sha256()  # of split, id and annotation of every row so far

    def append(self, row: Row) -> None:
        self.shape = self.shape or row.pixels.shape
        if row.pixels.shape != self.shape:
            raise ValueError(_other_size(row, self.shape))
        self._list(row).append(row.pixels)

    def _list(self, row: Row) -> "_SplitWriter":
        if row.split not in self.splits:
            self.splits[row.split] = _SplitWriter(self.partial, row.split, self.shape, self.mode)
        split = self.splits[row.split]
        split.ids.append(row.id)
        split.annotations.append(np.asarray(row.annotation, np.float32))
        self.listing.update(f"{row.split}\n{row.id}\n".encode() + split.annotations[-1].tobytes())
        self.done += 1
        return split

    def restore(self, rows: Iterable[Row], kept: dict) -> bool:
        """List rows again that were packed before; False when they are others or their pixels are not all there."""
        self.shape, self.seconds, self.mode = tuple(kept["shape"]), kept["seconds"], "r+b"
        try:
            for row in rows:
                self._list(row)
        except FileNotFoundError:
            return False
        self.mode = "w+b"
        if (self.done, self.listing.hexdigest()) != (kept["rows"], kept["listing"]):
            return False
        return all(split.restore() for split in self.splits.values())

    def flush(self, seconds: float) -> None:
        for split in self.splits.values():
            split.file.flush()
            os.fsync(split.file.fileno())
        state = {"rows": self.done, "shape": self.shape, "seconds": round(self.seconds + seconds, 3)}
        file = self.partial / f"{PROGRESS}.new"
        file.write_text(json.dumps(state | {"listing": self.listing.hexdigest()}), encoding="utf-8")
        os.replace(file, self.partial / PROGRESS)

    def close(self) -> dict:
        return {name: split.close() for name, split in self.splits.items()}

    def stop(self) -> None:
        for split in self.splits.values():
            split.file.close()


class _SplitWriter:
    """Appends pictures to a .npy file whose header is written again when their number is known."""

    def __init__(self, folder: Path, split: str, shape: tuple[int, ...], mode: str):
        self.folder, self.split, self.shape = folder, split, shape
        self.ids: list[str] = []
        self.annotations: list[np.ndarray] = []
        self.sha256 = hashlib.sha256()
        self.file = open(folder / f"{split}.pixels.npy", mode)  # noqa: SIM115 (closed by close and stop)
        self.header = self._write_header()

    def _write_header(self) -> int:
        self.file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(self.ids), *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)  # numpy pads it, so that the first axis can grow
        return self.file.tell()

    def restore(self) -> bool:
        """Cut the file behind the rows that are listed and hash them; False when it is shorter."""
        left = len(self.ids) * int(np.prod(self.shape))
        self.file.truncate(min(self.header + left, self.file.seek(0, os.SEEK_END)))
        self.file.seek(self.header)
        while chunk := self.file.read(1 << 22):
            self.sha256.update(chunk)
            left -= len(chunk)
        return left == 0

    def append(self, pixels: np.ndarray) -> None:
        assert pixels.dtype == np.uint8
        data = pixels.tobytes()
        self.file.write(data)
        self.sha256.update(data)

    def close(self) -> dict:
        assert self._write_header() == self.header
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


def _all_unreadable(found: list[Unreadable]) -> str:
    if len(found) == 1:
        rows = " and its row" if found[0].listed else ""
        return f"{found[0].picture} cannot be read ({found[0].why}). Put the whole picture there, or remove it{rows}."
    told = "; ".join(f"{each.picture} ({each.why})" for each in found[:TOLD])
    more = f"; and {len(found) - TOLD:,} more" if len(found) > TOLD else ""
    rows = " and their rows" if found[0].listed else ""
    return f"{len(found):,} pictures cannot be read: {told}{more}. Put whole pictures there, or remove them{rows}."


def _other_size(row: Row, shape: tuple[int, ...]) -> str:
    (c, h, w), (channels, height, width) = row.pixels.shape, shape
    return (
        f"{row.where or row.id}: the picture is {w}x{h} with {c} channel(s), those before it are {width}x{height} with "
        f"{channels}. All pictures of a data set must have one size: resize it or remove it."
    )


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
    pool, waiting = ThreadPoolExecutor(min(8, cores()) + 1), deque()  # one more: this thread hashes and writes
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


def _watched(rows: Iterable[Row], done: int, total: int | None, title: str) -> Iterator[Row]:
    """Pass rows on, with a progress bar when a person is watching and it takes longer than a second."""
    console = Console(stderr=True)
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, disable=not console.is_interactive)
    task, start, shown = bar.add_task(title, total=total, completed=done), time.monotonic(), False
    try:
        for number, row in enumerate(rows, done):
            if not shown and time.monotonic() - start > 1:
                bar.start()
                shown = True
            if shown and number % 128 == 0:
                bar.update(task, completed=number)
            yield row
        bar.update(task, completed=total)
    finally:
        bar.stop()
