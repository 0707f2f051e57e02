"""A data set that is one CSV file and a folder of pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.data.common.emotions import SEVEN, named
from distill.data.common.image_files import csv_file, folder, picture, source
from distill.data.common.labeled import Entry, labeled
from distill.data.common.options import DataOptions
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
LAYOUT = "the folder with faces.csv (lines: picture,emotion,person)"


def listed_faces(store: str | Path, root: str | Path, **options: Any) -> Dataset:
    """Open faces that faces.csv lists; whole persons are held out for test and validation.

    Args:
        store: folder for everything that is computed once.
        root: the folder with faces.csv; its first column is a path from there.
        options: fields of DataOptions: size, channels, valid, test, seed, limit, verify.

    Raises:
        ValueError: a root, file or row that cannot be used, in a sentence that says which and why.
    """
    home = folder(root, LAYOUT)
    return labeled(
        store,
        "listed_faces",
        source("listed_faces", VERSION, [home]),
        lambda: list(_rows(home)),
        SEVEN,
        options=DataOptions(**options),
        words="faces.csv",
    )


def _rows(home: Path) -> Iterator[Entry]:
    for cells, where in csv_file(home / "faces.csv"):
        if cells:  # none in a blank row
            name, emotion, person = cells
            yield Entry("all", name, named(emotion, SEVEN, where), picture(home / name, where), where, person)
