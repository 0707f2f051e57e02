"""RAF-DB's basic emotions, aligned faces: the official lists, or the folders 1 to 7 that circulate."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from distill.data.common.emotions import RAFDB, SEVEN, numbered
from distill.data.common.image_files import by_class, folder, lines, picture, source
from distill.data.common.labelled import Entry, labelled
from distill.data.common.options import DataOptions
from distill.data.common.test_subsets import read_subsets
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
BOTH = "list_patition_label.txt"  # spelt so by its authors; train and test in one list
LISTS = {"train": "train_label.txt", "test": "test_label.txt"}
HOMES = ("", "basic/", "RAFDB/", "DATASET/")
LAYOUT = (
    f"the folder with EmoLabel/{BOTH} (or train_label.txt and test_label.txt there) and Image/aligned/*.jpg, or the one "
    "with train/1..7 and test/1..7"
)
SUBSETS = {
    "occlusion": ("rafdb_occlusion_list.txt",),
    "pose30": ("val_raf_db_list_pose_30.txt", "val_raf_db_list.txt"),
    "pose45": ("val_raf_db_list_pose_45.txt", "val_raf_db_list_45.txt"),
}
OFFICIAL = {"train": 12271, "test": 3068}
LICENCE = "RAF-DB (Li, Deng and Du, CVPR 2017): for non-commercial research, on request; do not redistribute it."


def rafdb(
    store: str | Path,
    root: str | Path,
    test_subset: str | list[str] | None = None,
    subset_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Open RAF-DB's seven basic emotions; train and test as distributed, validation held out of train.

    Args:
        store: folder for everything that is computed once.
        root: a folder with EmoLabel and Image/aligned, or with train/1..7 and test/1..7, or the folder around it.
        test_subset: occlusion, pose30, pose45 or a list of them: measured beside the test split; None for none.
        subset_dir: where the subsets' lists are; None is root.
        options: fields of DataOptions.

    Raises:
        ValueError: a root, file or row that cannot be used, in a sentence that says which and why.

    Reference:
        Li, Deng and Du, Reliable Crowdsourcing and Deep Locality-Preserving Learning, CVPR 2017. The subsets: Wang et
        al., Region Attention Networks, TIP 2020; their lists have labels from 0, the official ones from 1.
    """
    home = folder(root, LAYOUT)
    read = _reader(home)
    return labelled(
        store,
        "rafdb",
        source("rafdb", VERSION, read.paths),
        read,
        SEVEN,
        subsets=read_subsets(test_subset, home, subset_dir, SUBSETS, _listed),
        walked=read.walked,
        words="RAF-DB basic",
        notes={"licence": LICENCE, "official": OFFICIAL},
        options=DataOptions(**options),
    )


def _reader(root: Path) -> "Lists | Folders":
    for home in (root / name for name in HOMES):
        lists = [home / "EmoLabel" / BOTH]
        if not lists[0].is_file():
            lists = [home / "EmoLabel" / name for name in LISTS.values()]
        if all(path.is_file() for path in lists):
            return Lists(home, lists)
        if (home / "train" / "1").is_dir() and (home / "test").is_dir():
            return Folders(home)
    raise ValueError(f"data.root: {root} holds no RAF-DB. Give {LAYOUT}.")


class Lists:
    """The official layout: lines `train_00001.jpg 5`, pictures Image/aligned/train_00001_aligned.jpg."""

    def __init__(self, home: Path, lists: list[Path]):
        self.home, self.lists = home, lists
        self.images = folder(home / "Image" / "aligned", LAYOUT)
        self.paths, self.walked = [*lists, self.images], ()

    def __call__(self) -> list[Entry]:
        return [entry for path in self.lists for entry in self._entries(path)]

    def _entries(self, path: Path) -> Iterator[Entry]:
        for (name, text, *_), where in lines(path, 2, "file label, e.g. train_00001.jpg 5"):
            label = numbered(text, RAFDB, SEVEN, where, first=1)
            split = _split(name, where)
            file = self.images / f"{PurePosixPath(name).stem}_aligned.jpg"
            yield Entry(split, name, label, picture(file, where), where)


class Folders:
    """The layout that circulates: train/1..7 and test/1..7, the number is the label."""

    def __init__(self, home: Path):
        self.home = home
        self.paths = self.walked = [home / "train", home / "test"]

    def __call__(self) -> list[Entry]:
        return [entry for path in self.paths for entry in self._entries(path)]

    def _entries(self, path: Path) -> Iterator[Entry]:
        for _, label, file in by_class(path, lambda name, where: numbered(name, RAFDB, SEVEN, where, first=1)):
            yield Entry(path.name, _id(file.name), label, picture(file, str(file)), str(file))


def _split(name: str, where: str) -> str:
    split = name.partition("_")[0]
    if split not in ("train", "test"):
        raise ValueError(f"{where}: {name} must begin with train_ or test_.")
    return split


def _id(name: str) -> str:
    """test_0003_aligned, or 0/test_0003_aligned.jpg -> test_0003.jpg."""
    return PurePosixPath(name).stem.removesuffix("_aligned") + ".jpg"


def _listed(words: list[str], where: str) -> tuple[str, int]:
    """Read `test_0003_aligned 3 4` (occlusion) or `0/test_0004_aligned.jpg` (pose); labels count from 0."""
    text, name = (words[1], words[0]) if len(words) > 1 else words[0].split("/", 1) if "/" in words[0] else ("", "")
    return _id(name), numbered(text, RAFDB, SEVEN, where)
