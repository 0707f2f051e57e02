"""What readers of labeled pictures share: roots, list files, pictures, and what a source looked like when it was read."""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from distill.data.common.image_reader import open_image
from distill.data.common.walker import shown, walk
from distill.system.errors import ConfigError


def folder(root: str | Path, layout: str, key: str = "data.root") -> Path:
    """Return an existing folder as an absolute path.

    Args:
        root: as given by the user, ~ is expanded.
        layout: what belongs there, for the message.
        key: the config key that it came from.

    Raises:
        ConfigError: it does not exist or is no folder.
    """
    path = Path(root).expanduser().absolute()
    if not path.is_dir():
        raise ConfigError(key, f"{path} {'is no folder' if path.exists() else 'does not exist'}. Give {layout}.")
    return path


def first_of(root: Path, names: Iterable[str], layout: str) -> Path:
    """Return the first of some files or folders that exists below root.

    Raises:
        ConfigError: none of them does.
    """
    names = tuple(names)
    path = next((root / name for name in names if (root / name).exists()), None)
    if path is None:
        raise ConfigError("data.root", f"{root} has no {' or '.join(names)}. Give {layout}.")
    return path


def find_below(root: Path, names: Iterable[str], deep: int = 1) -> Path | None:
    """Return the first of some names, patterns of glob, that is in a folder or at most so many folders deeper, or None."""
    return next(
        (path for name in names for at in range(deep + 1) for path in sorted(root.glob("*/" * at + name))), None
    )


def lines(path: Path, columns: int, meaning: str) -> Iterator[tuple[list[str], str]]:
    """Read a list file of words between blanks; blank lines are skipped.

    Args:
        path: text file.
        columns: how many words a line must have at least.
        meaning: what the words are, e.g. "file label".

    Yields:
        the words of a line, and its file and row for messages.

    Raises:
        ValueError: a line with fewer words.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            words, where = line.split(), f"{path} row {number}"
            if words and len(words) < columns:
                raise ValueError(f"{where} is {line.strip()!r}; it must be: {meaning}.")
            if words:
                yield words, where


def csv_file(path: Path) -> Iterator[tuple[list[str], str]]:
    """Read every row of a csv file, see csv_rows."""
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        yield from csv_rows(file, str(path))


def csv_rows(text: Iterable[str], name: str) -> Iterator[tuple[list[str], str]]:
    """Read an open csv file, its header too; yields the cells of a row, none of a blank one, and its file and row for messages.

    Args:
        text: the open file.
        name: what it is called in messages.

    Raises:
        ValueError: a quote that is never closed, or a file in UTF-16.
    """
    number = 0
    try:
        for number, row in enumerate(csv.reader(text, strict=True), 1):
            if any("\0" in cell for cell in row):
                raise ValueError(f"{name} is no UTF-8 text. Save it as CSV UTF-8, or take the file as published.")
            yield row, f"{name} row {number}"
    except csv.Error as error:
        raise ValueError(
            f"{name} row {number + 1} cannot be read ({error}). Close the quotes that it opens, or take the file as published."
        ) from error


class Picture(NamedTuple):
    """A picture file, which a call opens: what Entry.load may be."""

    path: str

    def __call__(self) -> Image.Image:
        """Decode it."""
        return open_image(self.path)[0]


def picture(path: Path, where: str) -> Picture:
    """Return what opens a picture that is there, for Entry.load.

    Raises:
        ValueError: the file is not there.
    """
    if not path.is_file():
        raise ValueError(f"{where}: {shown(path)} is not there. Copy the picture, or delete the row.")
    return Picture(str(path))


def source(reader: str, version: int, paths: Iterable[Path]) -> dict:
    """Describe files by sizes and times, and folders by the hash of those of all files in them (60,000 files a second).

    Args:
        reader: its name.
        version: of what the reader makes of the files; raise it when the same files would give other rows.
        paths: files and folders that are read. List files alone will do for a data set too large to look at every time.
    """

    def stat(path: str) -> tuple[int, int]:
        status = os.stat(path) if os.path.exists(path) else os.lstat(path)
        return status.st_size, status.st_mtime_ns

    described: dict[str, list] = {}
    for path in paths:
        if path.is_file():
            described[str(path)] = [*stat(str(path))]
            continue
        listed = sorted((entry.path[len(str(path)) :], *stat(entry.path)) for entry in walk(path) if not entry.hidden)
        described[str(path)] = [len(listed), hashlib.sha256(repr(listed).encode()).hexdigest()]
    return {"reader": reader, "version": version, "paths": described}
