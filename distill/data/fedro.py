"""FED-RO, faces with real occlusions in class-named folders: published as a test set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.data.common.emotions import SEVEN, named
from distill.data.common.image_files import folder, lines, picture, source
from distill.data.common.labeled import Entry, class_entries, labeled
from distill.data.common.options import DataOptions
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
LIST = "occlusion_emotion_fedro_our_list.txt"
IMAGES = "FED_RO_crop"
LAYOUT = f"the folder with {IMAGES}/<emotion>/<file> and perhaps {LIST} (lines: emotion/file), or the one around it"
LICENSE = "FED-RO (Li et al., TIP 2019): for non-commercial research, on request; do not redistribute it."


def fedro(store: str | Path, root: str | Path, **options: Any) -> Dataset:
    """Open FED-RO's 400 faces with seven emotions.

    The papers train elsewhere and test on all of it: that is test=1, a test split and no other. With less, train and
    valid are held apart by hash, so that a network can be trained on it like on any other data set; persons are unknown.

    Args:
        store: folder for everything that is computed once.
        root: a folder with FED_RO_crop, or one with a folder FED_RO of that kind.
        options: fields of DataOptions.

    Raises:
        ValueError: a root, file or row that cannot be used, in a message that says which and why.

    Reference:
        Li, Zeng, Shan and Chen, Occlusion Aware Facial Expression Recognition Using CNN With Attention Mechanism,
        TIP 2019.
    """
    home = folder(root, LAYOUT)
    home = home / "FED_RO" if (home / "FED_RO").is_dir() else home
    images = folder(home / IMAGES, LAYOUT)
    lists = [path for path in (home / LIST, images / LIST) if path.is_file()][:1]
    return labeled(
        store,
        "fedro",
        source("fedro", VERSION, [images, *lists]),
        lambda: list(_entries(images, *lists)),
        SEVEN,
        walked=[images],
        words="FED-RO",
        notes={"license": LICENSE},
        options=DataOptions(**options),
    )


def _entries(images: Path, list_file: Path | None = None) -> Iterator[Entry]:
    if list_file is None:
        yield from class_entries("all", images, lambda name, where: named(name, SEVEN, where))
        return
    for words, where in lines(list_file, 1, "emotion/file"):
        name = " ".join(words)  # file names from the web hold blanks
        label = named(name.partition("/")[0], SEVEN, where)
        yield Entry("all", name, label, picture(images / name, where), where)
