"""Your own pictures: a folder for each class, perhaps in folders train, valid and test."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.common.emotions import EMOTIONS, canonical
from distill.data.common.image_files import Picture, source
from distill.data.common.image_files import folder as existing
from distill.data.common.labeled import UNKNOWN, Entry, labeled
from distill.data.common.options import DataOptions
from distill.data.common.walker import class_folders, pictures_below, shown
from distill.system.errors import ConfigError, expect
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
LAYOUT = "a folder with a folder of pictures for each class, or with train, test and perhaps valid above them"


def folder(
    store: str | Path,
    root: str | Path,
    subject: str | None = None,
    labels: str = "folders",
    classes: list[str] | None = None,
    **options: Any,
) -> Dataset:
    """Open class-named folders with any classes, or pictures of which nobody has said what they show.

    Emotions and well-known synonyms (happy, Angry) get their canonical name and come first in canonical order, other
    classes follow by the alphabet. Folders beside train, valid and test are not looked at.

    Args:
        store: folder for everything that is computed once.
        root: a folder of class-named folders, or of train, test and perhaps valid (val, validation) with those in them;
            pictures may lie deeper in a class's folder.
        subject: regular expression whose first group names the person in a path below root, such as `(S\\d+)_`; whole
            persons are held out then. None where persons are unknown.
        labels: folders, whose names are the classes; or none: whatever the folders are called, each picture has the label -1
            and a target of zeros.
        classes: of labels=none alone: what the teacher is asked about.
        options: fields of DataOptions.

    Raises:
        ConfigError: a root, folder or picture that cannot be used, in a message that says which and why.
    """
    home = existing(root, LAYOUT)
    person = None
    if subject is not None:
        try:
            person = re.compile(subject)
        except re.error as error:
            raise ConfigError("data.subject", f"{subject!r} is no regular expression ({error}).") from error
        if not person.groups:
            raise ConfigError(
                "data.subject", f"{subject!r} has no group. Put the person in brackets, such as '(S\\d+)_'."
            )
    splits = _splits(home)
    expect(labels in ("folders", "none"), "data.labels", "folders, whose names are the classes, or none", repr(labels))
    if labels == "folders" and classes is not None:
        raise ConfigError(
            "data.classes",
            f"expected null, as data.labels=folders takes the folders' names, got {classes!r}. Type data.labels=none.",
        )
    if labels == "none" and len(set(classes or ())) < 2:
        raise ConfigError(
            "data.classes",
            "faces without labels have only a teacher's outputs to learn from. Choose one that has learned, such as "
            "teacher=ferplus, or type two classes or more, such as data.classes=[neutral,happiness].",
        )
    if labels == "none":
        of_split, names = {split: {"": path} for split, path in splits.items()}, ("",)
        more, words = {"labels": "none"}, f"{shown(home.name)}, without labels"
    else:
        of_split = {split: _class_folders(path) for split, path in splits.items()}
        every = {name for folders in of_split.values() for name in folders}
        if len(every) < 2:
            raise ConfigError(
                "data.root",
                f"{home}: expected two class-named folders or more, got {len(every)}; a list of faces, such as a .csv file, is "
                f"not read. Give {LAYOUT}.",
            )
        known = [name for name in EMOTIONS if name in every]
        names = (*known, *sorted(every.difference(known)))
        more, words = {}, shown(home.name)
    data = labeled(
        store,
        "folder",
        source("folder", VERSION, [home]) | {"subject": subject} | more,
        lambda: [
            entry
            for split, folders in of_split.items()
            for name, path in folders.items()
            for entry in _entries(split, path, home, name, names, person)
        ],
        names,
        walked=[home],
        words=words,
        options=DataOptions(**options),
    )
    if classes is None:
        return data
    splits = {}
    for name, split in data.splits.items():
        target, label = np.zeros((len(split), len(classes)), np.float32), np.full(len(split), UNKNOWN)
        splits[name] = replace(split, target=target, label=label)
    return replace(data, classes=tuple(map(str, classes)), splits=splits)


def _splits(home: Path) -> dict[str, Path]:
    names = {path.name.lower(): path for path in sorted(home.iterdir()) if path.is_dir()}
    folders = {split: next((names[n] for n in known if n in names), None) for split, known in SPLITS.items()}
    folders = {split: path for split, path in folders.items() if path is not None}
    if folders and not {"train", "test"} <= set(folders):
        missing = " and ".join({"train", "test"} - set(folders))
        raise ConfigError(
            "data.root",
            f"{home} has {', '.join(path.name for path in folders.values())} but no folder {missing}. Name one "
            "so (valid is held out of train where it is missing), or put the class-named folders into data.root.",
        )
    return folders or {"all": home}


def _class_folders(path: Path) -> dict[str, Path]:
    """Class name -> folder, in the order of the folders."""
    named: dict[str, list[Path]] = {}
    for sub in class_folders(path):
        named.setdefault(canonical(sub.name) or shown(sub.name), []).append(sub)
    for name, folders in named.items():
        if len(folders) > 1:
            together = f"{', '.join(map(str, folders[:-1]))} and {folders[-1]}"
            raise ConfigError("data.root", f"{together} are one class, {name}. Put their pictures together.")
    return {name: folders[0] for name, folders in named.items()}


def _entries(split: str, path: Path, home: Path, name: str, classes: tuple[str, ...], person) -> Iterator[Entry]:
    for file in pictures_below(path, deep=True):
        below = file.relative_to(home).as_posix()
        match = person.search(below) if person else None
        if person and not match:
            raise ConfigError(
                "data.subject", f"{person.pattern!r} finds no person in {below}. Change it or the file's name."
            )
        who = match[1] or "" if match else ""
        yield Entry(split, below, classes.index(name), Picture(str(file)), str(file), who)
