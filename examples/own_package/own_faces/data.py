"""A data set that is one CSV file and a folder of pictures."""

from collections.abc import Iterator
from pathlib import Path

from distill.data.common.emotions import SEVEN, named
from distill.data.common.image_files import folder, picture, source, table
from distill.data.common.labelled import Entry, labelled
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
LAYOUT = "the folder with faces.csv (lines: picture,emotion,person)"


def listed_faces(
    store: str | Path,
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    valid: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    verify: bool = False,
) -> Dataset:
    """Open faces that faces.csv lists; whole persons are held out for test and validation.

    Args:
        store: folder for everything that is computed once.
        root: the folder with faces.csv; its first column is a path from there.
        size: height and width to store [pixels].
        channels: 1 (grey) or 3 (RGB).
        valid: share of the remaining pictures held out for validation, by persons, in (0, 1).
        test: share held out for test, by persons, in (0, 1].
        seed: of what is held out.
        limit: keep so many pictures of each split; None keeps all.
        verify: compare the sha256 of every packed array with the manifest.

    Raises:
        ValueError: a root, file or row that cannot be used, in a sentence that says which and why.
    """
    home = folder(root, LAYOUT)
    return labelled(
        store,
        "listed_faces",
        source("listed_faces", VERSION, [home]),
        lambda: list(_rows(home)),
        SEVEN,
        size=size,
        channels=channels,
        valid=valid,
        test=test,
        seed=seed,
        limit=limit,
        verify=verify,
        words="faces.csv",
    )


def _rows(home: Path) -> Iterator[Entry]:
    for (name, emotion, person, *_), where in table(home / "faces.csv"):
        yield Entry("all", name, named(emotion, SEVEN, where), picture(home / name, where), where, person)
