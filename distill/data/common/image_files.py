"""What readers of labelled pictures share: roots, list files, pictures, and what a source looked like when it was read."""

import csv
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm")
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


def folder(root: str | Path, layout: str, key: str = "data.root") -> Path:
    """Return an existing folder as an absolute path.

    Args:
        root: as given by the user, ~ is expanded.
        layout: what belongs there, for the sentence.
        key: the config key that it came from.

    Raises:
        ValueError: it does not exist or is no folder.
    """
    path = Path(root).expanduser().absolute()
    if not path.is_dir():
        raise ValueError(f"{key}: {path} {'is no folder' if path.exists() else 'does not exist'}. Give {layout}.")
    return path


def first_of(root: Path, names: Iterable[str], layout: str) -> Path:
    """Return the first of some files or folders that exists below root.

    Raises:
        ValueError: none of them does.
    """
    names = tuple(names)
    found = next((root / name for name in names if (root / name).exists()), None)
    if found is None:
        raise ValueError(f"data.root: {root} has no {' or '.join(names)}. Give {layout}.")
    return found


def lines(path: Path, columns: int, meaning: str) -> Iterator[tuple[list[str], str]]:
    """Read a list file of words between blanks; blank lines are skipped.

    Args:
        path: text file.
        columns: how many words a line must have at least.
        meaning: what the words are, e.g. "file label".

    Yields:
        the words of a line, and its file and row for sentences.

    Raises:
        ValueError: a line with fewer words.
    """
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            words, where = line.split(), f"{path} row {number}"
            if words and len(words) < columns:
                raise ValueError(f"{where} is {line.strip()!r}; it must be: {meaning}.")
            if words:
                yield words, where


def table(path: Path) -> Iterator[tuple[list[str], str]]:
    """Read a csv file, its header too; yields the cells of a row, and its file and row for sentences."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if row:
                yield row, f"{path} row {number}"


def opened(path: str | Path) -> Image.Image:
    """Open a picture and read it to its end."""
    with Image.open(path) as image:
        image.load()
    return image


def picture(path: Path, where: str) -> Callable[[], Image.Image]:
    """Return what opens a picture that is there, for Entry.load.

    Raises:
        ValueError: the file is not there.
    """
    if not path.is_file():
        raise ValueError(f"{where}: {path} is not there. Copy the picture, or delete the row.")
    return partial(opened, str(path))


def pictures_below(path: Path, deep: bool = False) -> list[Path]:
    """List the pictures in a folder by name, with deep=True also those of the folders in it; hidden files are skipped."""
    names = path.rglob("*") if deep else path.iterdir()
    return sorted(file for file in names if file.suffix.lower() in PICTURES and not file.name.startswith("."))


def by_class(path: Path, label: Callable[[str, str], int]) -> Iterator[tuple[str, int, Path]]:
    """Walk a folder that holds a folder of pictures per class, by name; hidden ones are skipped.

    Args:
        path: the folder.
        label: a folder's name, and the folder for sentences -> its class.

    Yields:
        the folder's name, its class, and a picture in it.
    """
    for of_class in sorted(path.iterdir()):
        if of_class.is_dir() and not of_class.name.startswith("."):
            found = label(of_class.name, str(of_class))
            for file in pictures_below(of_class):
                yield of_class.name, found, file


def source(reader: str, version: int, paths: Iterable[Path]) -> dict:
    """Describe files by sizes and times, and folders by the hash of those of all files in them (60,000 files a second).

    Args:
        reader: its name.
        version: of what the reader makes of the files; raise it when the same files would give other rows.
        paths: files and folders that are read. List files alone will do for a data set too large to look at every time.
    """
    return {"reader": reader, "version": version, "paths": {str(path): _described(path) for path in paths}}


def _described(path: Path) -> list:
    if path.is_file():
        return [path.stat().st_size, path.stat().st_mtime_ns]
    listed = sorted((entry.path[len(str(path)) :], *_stat(entry)) for entry in _files(str(path)))
    return [len(listed), hashlib.sha256(repr(listed).encode()).hexdigest()]


def _stat(entry: os.DirEntry) -> tuple[int, int]:
    stat = entry.stat()
    return stat.st_size, stat.st_mtime_ns


def _files(path: str) -> Iterator[os.DirEntry]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            else:
                yield entry
