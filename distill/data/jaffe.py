"""JAFFE: ten Japanese women with 7 expressions; names such as NA.NE2.200.tiff tell person and expression."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.data.common.emotions import JAFFE, SEVEN, numbered
from distill.data.common.image_files import folder, lines, picture, source
from distill.data.common.labeled import Entry, labeled
from distill.data.common.options import DataOptions
from distill.data.common.walker import class_folders, pictures_below
from distill.system.errors import ConfigError
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
CODES = {name[:2].upper(): name for name in SEVEN}  # NE, HA, SU, SA, AN, DI, FE
NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(CODES)})\d*\.\d+\.\w+")
LAYOUT = "the folder with pictures such as NA.NE2.200.tiff, or the folder around it"
LICENSE = "JAFFE (Lyons, Kamachi and Gyoba, 1998): for non-commercial research; do not redistribute it."


def jaffe(store: str | Path, root: str | Path, list_file: str | None = None, **options: Any) -> Dataset:
    """Open JAFFE; with ten folds, each is one person.

    Args:
        store: folder for everything that is computed once.
        root: folder of the pictures, or the one around it.
        list_file: file of lines `NA.NE2.200.tiff 0`, a path from root: these pictures alone are read, and the labels
            are compared with the names; None reads every picture.
        options: fields of DataOptions.

    Raises:
        ConfigError: a root, file or row that cannot be used, in a message that says which and why.
    """
    home = folder(root, LAYOUT)
    images = home
    if not pictures_below(home):
        folders = [path for path in class_folders(home) if pictures_below(path)]
        if len(folders) != 1:
            names = ", ".join(path.name for path in folders) or "none"
            raise ConfigError("data.root", f"{home} must have one folder of pictures ({names} found). Give {LAYOUT}.")
        images = folders[0]
    listed = home / Path(list_file).expanduser() if list_file is not None else None
    if listed is not None and not listed.is_file():
        raise ConfigError("data.list_file", f"{listed} is not there. Give a path from data.root, or null.")
    return labeled(
        store,
        "jaffe",
        source("jaffe", VERSION, [images, *filter(None, [listed])]),
        lambda: list(_entries(images, listed)),
        SEVEN,
        walked=[images],
        words="JAFFE" if listed is None else f"JAFFE, {listed.name}",
        notes={"license": LICENSE},
        options=DataOptions(**{"fold": 0, "size": 128, "channels": 1} | options),
    )


def _entry(images: Path, name: str, where: str) -> Entry:
    match = NAME.fullmatch(name)
    if not match:
        raise ValueError(
            f"{where}: {name} tells no person and expression; names must be like NA.NE2.200.tiff, with one of "
            f"{', '.join(CODES)}. Rename or remove it."
        )
    return Entry("all", name, SEVEN.index(CODES[match[2]]), picture(images / name, where), where, match[1])


def _entries(images: Path, path: Path | None) -> Iterator[Entry]:
    if path is None:
        yield from (_entry(images, file.name, str(file)) for file in pictures_below(images))
        return
    for (name, text, *_), where in lines(path, 2, "file label"):
        entry = _entry(images, name, where)
        label = numbered(text, JAFFE, SEVEN, where)
        if label != entry.label:
            raise ValueError(
                f"{where}: label {text} is {SEVEN[label]}, but {name} is {SEVEN[entry.label]} by its name."
            )
        yield entry
