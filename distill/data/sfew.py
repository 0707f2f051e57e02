"""SFEW 2.0, faces of film frames with 7 emotions: list files, or a folder for each emotion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.data.common.emotions import SEVEN, SFEW, canonical, named, numbered
from distill.data.common.image_files import first_of, folder, lines, picture, source
from distill.data.common.labeled import Entry, class_entries, labeled
from distill.data.common.options import DataOptions
from distill.system.errors import ConfigError
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
FOLDERS = {
    "train": ("Train_Aligned_Faces", "Train/Train_Aligned_Faces", "Train"),
    "test": ("Val_Aligned_Faces", "Val_Aligned_Faces_new", "Val/Val_Aligned_Faces", "Val/Val_Aligned_Faces_new", "Val"),
}
LISTS = {"train": "sfew_train.txt", "test": "sfew_val.txt"}
LAYOUT = (
    "a folder with Train_Aligned_Faces and Val_Aligned_Faces, and with sfew_train.txt and sfew_val.txt (file and label "
    "0..6), or else folders Angry, Disgust, ... in both"
)
LICENSE = (
    "SFEW 2.0 (Dhall et al., EmotiW 2015): for research, under an agreement with its authors; do not redistribute it."
)


def sfew(store: str | Path, root: str | Path, **options: Any) -> Dataset:
    """Open SFEW; its published validation set is the test split, and validation is held out of training.

    Args:
        store: folder for everything that is computed once.
        root: the folder of the data set; with list files they tell the labels, without them the folders' names.
        options: fields of DataOptions.

    Raises:
        ConfigError: a root, file or row that cannot be used, in a message that says which and why.
    """
    home = folder(root, LAYOUT)
    images = {split: first_of(home, names, LAYOUT) for split, names in FOLDERS.items()}
    lists = {split: home / name for split, name in LISTS.items() if (home / name).exists()}
    if len(lists) == 1:
        missing = next(name for split, name in LISTS.items() if split not in lists)
        raise ConfigError(
            "data.root", f"{home} has no {missing} beside {next(iter(lists.values())).name}. Copy it there."
        )
    return labeled(
        store,
        "sfew",
        source("sfew", VERSION, [*images.values(), *lists.values()]),
        lambda: [entry for split in images for entry in _entries(split, images[split], lists.get(split))],
        SEVEN,
        walked=[*images.values()],
        words="SFEW, test is the published validation set (the labels of the test set are not public)",
        notes={"license": LICENSE},
        options=DataOptions(**{"size": 128} | options),
    )


def _entries(split: str, images: Path, list_file: Path | None) -> Iterator[Entry]:
    if list_file is None:
        yield from class_entries(split, images, lambda name, where: named(name, SEVEN, where), f"{split}/")
        return
    for (name, text, *_), where in lines(list_file, 2, "file label"):
        label = numbered(text, SFEW, SEVEN, where)
        beside = canonical(Path(name).parent.name)
        if beside is not None and beside != SEVEN[label]:
            raise ValueError(f"{where}: label {text} is {SEVEN[label]}, but {name} is in a folder of {beside}.")
        yield Entry(split, f"{split}/{name}", label, picture(images / name, where), where)
