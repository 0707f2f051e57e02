"""Oulu-CASIA: 80 persons with 6 emotions and neutral; a list of aligned faces, or the sequences as distributed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.common.emotions import OULU_CASIA, SEVEN, named, numbered
from distill.data.common.image_files import find_below, folder, lines, picture, source
from distill.data.common.labeled import Entry, labeled
from distill.data.common.options import DataOptions
from distill.data.common.walker import pictures_below
from distill.system.errors import ConfigError, expect
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
PERSONS = 80
LIST, IMAGES = "ourOluCasia_labelstest.txt", "ourOluCasiatest"
LAST = 3  # frames of a sequence that show its emotion
NEUTRAL = SEVEN.index("neutral")
LAYOUT = f"a folder with {LIST} and {IMAGES}, or one of sequences such as VL/Strong/P001/Anger"
LICENSE = (
    "Oulu-CASIA NIR&VIS (Zhao et al., 2011): for research, under an agreement with its authors; do not redistribute."
)


def oulucasia(
    store: str | Path,
    root: str | Path,
    list_file: str | None = None,
    images: str | None = None,
    light: str = "VL/Strong",
    **options: Any,
) -> Dataset:
    """Open Oulu-CASIA; of ten folds, fold k is persons 8 k to 8 k + 7, counted from 0.

    Args:
        store: folder for everything that is computed once.
        root: the folder of the data set, or the one around it.
        list_file: file of lines `path <person>_<label>`, a path from root; None looks for ourOluCasia_labelstest.txt
            and, where it is not there, for sequences: the last three frames of each and its first as neutral.
        images: folder that the list's paths start from, or of sequences, below root; None looks for it by its usual name.
        light: which of the sequences, camera and light: VL or NI / Strong, Weak or Dark.
        options: fields of DataOptions; persons 0 to 79 are cut into folds, whoever of them is there.

    Raises:
        ConfigError: a root, file or row that cannot be used, in a message that says which and why.
    """
    chosen = DataOptions(**{"fold": 0, "size": 128} | options)
    expect(
        2 <= chosen.folds <= PERSONS, "data.folds", f"2 to {PERSONS}, the number of persons, such as 10", chosen.folds
    )
    home = folder(root, LAYOUT)
    listed = _given(home, list_file, "list_file") or find_below(home, [LIST])
    pictures = _given(home, images, "images") or find_below(home, [f"{IMAGES if listed else light}/"])
    if pictures is None:
        missing = f"{listed} but no {IMAGES}" if listed else f"neither {LIST} nor {light}"
        raise ConfigError("data.root", f"{home} has {missing}. Give {LAYOUT}.")
    return labeled(
        store,
        "oulucasia",
        source("oulucasia", VERSION, [pictures, *filter(None, [listed])]),
        lambda: list(_listed(pictures, listed) if listed else _sequences(pictures)),
        SEVEN,
        walked=[pictures] if listed else (),
        folds=[{str(person) for person in part} for part in np.array_split(range(PERSONS), chosen.folds)],
        words=f"Oulu-CASIA, {listed.name if listed else f'{light}, last three frames and the first'}",
        notes={"license": LICENSE},
        options=chosen,
    )


def _given(home: Path, name: str | None, key: str) -> Path | None:
    if name is None:
        return None
    path = home / Path(name).expanduser()
    if not (path.is_file() if key == "list_file" else path.is_dir()):
        raise ConfigError(f"data.{key}", f"{path} is not there. Give a path from data.root, or null.")
    return path


def _listed(images: Path, path: Path) -> Iterator[Entry]:
    for (name, text, *_), where in lines(path, 2, "file <person>_<label>"):
        match = re.fullmatch(r"(\d{1,2})_(\d+)", text)
        if not match or int(match[1]) >= PERSONS:
            raise ValueError(f"{where}: {text!r} is no <person>_<label> such as 7_4, persons from 0 to {PERSONS - 1}.")
        label = numbered(match[2], OULU_CASIA, SEVEN, where)
        yield Entry("all", name, label, picture(images / name, where), where, str(int(match[1])))


def _sequences(images: Path) -> Iterator[Entry]:
    """List P001/Anger/000.jpeg, ...: the last three frames, and the first as neutral."""
    for home in sorted(images.glob("P*/*/")):
        match = re.fullmatch(r"P(\d{3})", home.parent.name)
        if not match or not 1 <= int(match[1]) <= PERSONS:
            raise ValueError(f"{home}: persons are P001 to P{PERSONS:03}. Rename or remove it.")
        label, frames = named(home.name, SEVEN, str(home)), pictures_below(home)
        if len(frames) <= LAST:
            raise ValueError(f"{home} has {len(frames)} frames, {LAST + 1} or more are needed. Copy or remove it.")
        for frame, index in [(frames[0], NEUTRAL), *((frame, label) for frame in frames[-LAST:])]:
            name = frame.relative_to(images).as_posix()
            yield Entry("all", name, index, picture(frame, str(frame)), str(frame), str(int(match[1]) - 1))
