"""Decode a data set once: a memory-mapped uint8 array per split, its annotations and ids, and a manifest of hashes."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FORMAT = 1  # of the folder; another number is another folder


class Row(NamedTuple):
    """One decoded picture on its way into a pack.

    Shape:
        pixels:     [C, H, W] uint8.
        annotation: [V], votes or one-hot, stored as float32.
        where:      file and row, for a sentence about this picture.
    """

    split: str
    id: str
    pixels: np.ndarray
    annotation: np.ndarray
    where: str = ""


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
    in a temporary folder and renamed at the end: it is complete or absent, and what a killed process left is removed.

    Args:
        store: folder for everything that is computed once.
        name: the data set's name, the beginning of the folder's name.
        source: what will be read, plain values only: reader version, absolute path, sizes and times of files.
        read: yields the rows in the order to store them; called only when the pack has to be written.
        facts: called before read; kept in the manifest. A fact named `rows` tells the progress bar where the end is.
        verify: hash every array and compare with the manifest (reads everything; sizes are always compared).

    Raises:
        ValueError: pictures of two sizes, nothing to pack, or a pack that is damaged.
    """
    key = hashlib.sha256(json.dumps([FORMAT, source], sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(store).absolute() / "packed" / f"{name}-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.exists():  # another process may have written it while this one waited
                _write(folder, {"format": FORMAT, "name": name, "source": source}, read, facts)
    return open_pack(folder, verify)


def open_pack(folder: Path, verify: bool = False) -> Packed:
    """Open a pack that exists; sizes are compared with its manifest, and with verify=True hashes too.

    Raises:
        ValueError: the manifest cannot be read, or a file is not what the manifest says.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        splits = {split: _open_split(folder, split, entry, verify) for split, entry in manifest["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = error if type(error) is ValueError else f"its manifest or an array cannot be read ({error})"
        raise ValueError(f"The packed data set {folder} is damaged: {fault}. Delete it and start again.") from error
    return Packed(folder, manifest, splits)


def _open_split(folder: Path, split: str, entry: dict, verify: bool) -> PackedSplit:
    for file, bytes_written in entry["bytes"].items():
        found = (folder / file).stat().st_size
        if found != bytes_written:
            raise ValueError(f"{file} has {found:,} bytes instead of {bytes_written:,}")
    pixels = np.load(folder / f"{split}.pixels.npy", mmap_mode="r")
    annotations = np.load(folder / f"{split}.annotations.npy")
    ids = tuple(json.loads((folder / f"{split}.ids.json").read_text()))
    if list(pixels.shape) != entry["shape"] or not len(pixels) == len(annotations) == len(ids):
        raise ValueError(f"{split} has arrays of {len(pixels)}, {len(annotations)} and {len(ids)} rows")
    if verify:
        hashes = {"pixels": _hash(pixels), "annotations": _hash(annotations), "ids": _hash_ids(ids)}
        for array, sha256 in hashes.items():
            if sha256 != entry["sha256"][array]:
                raise ValueError(f"the {array} of {split} do not have the sha256 that the manifest states")
    return PackedSplit(pixels, annotations, ids, entry["sha256"]["pixels"])


def _write(folder: Path, manifest: dict, read: Callable[[], Iterable[Row]], facts: Callable[[], dict]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # ours: we hold the lock
    partial.mkdir()
    writers: dict[str, _SplitWriter] = {}
    try:
        start = time.perf_counter()
        manifest["facts"] = facts()
        shape = None
        for row in _watched(read(), manifest["facts"].get("rows"), f"packing {manifest['name']}"):
            shape = shape or row.pixels.shape
            if row.pixels.shape != shape:
                raise ValueError(_other_size(row, shape))
            if row.split not in writers:
                writers[row.split] = _SplitWriter(partial, row.split, shape)
            writers[row.split].append(row)
        if not writers:
            raise ValueError(f"There is not one picture to pack in {manifest['source']}. Check data.root.")
        manifest["splits"] = {split: writer.close() for split, writer in writers.items()}
        manifest["seconds"] = round(time.perf_counter() - start, 3)
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        os.replace(partial, folder)
    except BaseException:  # also Ctrl-C
        for writer in writers.values():
            writer.file.close()
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _other_size(row: Row, shape: tuple[int, ...]) -> str:
    (c, h, w), (channels, height, width) = row.pixels.shape, shape
    return (
        f"{row.where or row.id}: the picture is {w}x{h} with {c} channel(s), those before it are {width}x{height} with "
        f"{channels}. All pictures of a data set must have one size: resize it or remove it."
    )


class _SplitWriter:
    """Appends pictures to a .npy file whose header is written again when their number is known."""

    def __init__(self, folder: Path, split: str, shape: tuple[int, ...]):
        self.folder, self.split, self.shape = folder, split, shape
        self.ids: list[str] = []
        self.annotations: list[np.ndarray] = []
        self.sha256 = hashlib.sha256()
        self.file = open(folder / f"{split}.pixels.npy", "wb")  # noqa: SIM115 (closed by close)
        self.header = self._write_header()

    def _write_header(self) -> int:
        self.file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(self.ids), *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)  # numpy pads it, so that the first axis can grow
        return self.file.tell()

    def append(self, row: Row) -> None:
        assert row.pixels.dtype == np.uint8
        data = np.ascontiguousarray(row.pixels).tobytes()
        self.file.write(data)
        self.sha256.update(data)
        self.ids.append(row.id)
        self.annotations.append(np.asarray(row.annotation, np.float32))

    def close(self) -> dict:
        assert self._write_header() == self.header
        self.file.close()
        annotations = np.stack(self.annotations)
        np.save(self.folder / f"{self.split}.annotations.npy", annotations)
        (self.folder / f"{self.split}.ids.json").write_text(json.dumps(self.ids))
        files = [f"{self.split}.{array}" for array in ("pixels.npy", "annotations.npy", "ids.json")]
        sha256 = {"pixels": self.sha256.hexdigest(), "annotations": _hash(annotations), "ids": _hash_ids(self.ids)}
        return {
            "shape": [len(self.ids), *self.shape],
            "bytes": {file: (self.folder / file).stat().st_size for file in files},
            "sha256": sha256,
        }


def _hash(array: np.ndarray) -> str:
    sha256 = hashlib.sha256()
    for start in range(0, len(array), 4096):
        sha256.update(np.ascontiguousarray(array[start : start + 4096]))
    return sha256.hexdigest()


def _hash_ids(ids: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def _watched(rows: Iterable[Row], total: int | None, title: str) -> Iterator[Row]:
    """Pass rows on, with a progress bar when a person is watching and it takes longer than a second."""
    console = Console(stderr=True)
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, disable=not console.is_interactive)
    task, start, shown = bar.add_task(title, total=total), time.monotonic(), False
    try:
        for number, row in enumerate(rows):
            if not shown and time.monotonic() - start > 1:
                bar.start()
                shown = True
            if shown and number % 128 == 0:
                bar.update(task, completed=number)
            yield row
        bar.update(task, completed=total)
    finally:
        bar.stop()
