"""RAF-DB's basic emotions, aligned faces: the official lists, or the folders 1 to 7 that circulate."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from distill.data.common.emotions import RAFDB, SEVEN, numbered
from distill.data.common.image_files import folder, lines, picture, source
from distill.data.common.labeled import Entry, class_entries, labeled
from distill.data.common.options import DataOptions
from distill.data.common.test_subsets import read_subsets
from distill.system.errors import ConfigError
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
BOTH = "list_patition_label.txt"  # spelled so by its authors; train and test in one list
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
LICENSE = "RAF-DB (Li, Deng and Du, CVPR 2017): for non-commercial research, on request; do not redistribute it."


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
        ValueError: a root, file or row that cannot be used, in a message that says which and why.

    Reference:
        Li, Deng and Du, Reliable Crowdsourcing and Deep Locality-Preserving Learning, CVPR 2017. The subsets: Wang et
        al., Region Attention Networks, TIP 2020; their lists have labels from 0, the official ones from 1.
    """
    home = folder(root, LAYOUT)
    paths, walked, entries = _reader(home)
    return labeled(
        store,
        "rafdb",
        source("rafdb", VERSION, paths),
        entries,
        SEVEN,
        subsets=read_subsets(test_subset, home, subset_dir, SUBSETS, _listed),
        walked=walked,
        words="RAF-DB basic",
        notes={"license": LICENSE, "official": OFFICIAL},
        options=DataOptions(**options),
    )


def _reader(root: Path) -> tuple[list[Path], list[Path], Callable[[], Iterator[Entry]]]:
    """Find out which layout a folder holds: the paths to describe, the folders of pictures, and the lister."""
    for home in (root / name for name in HOMES):
        lists = [home / "EmoLabel" / BOTH]
        if not lists[0].is_file():
            lists = [home / "EmoLabel" / name for name in LISTS.values()]
        if all(path.is_file() for path in lists):
            images = folder(home / "Image" / "aligned", LAYOUT)
            return [*lists, images], [images], partial(_of_lists, lists, images)
        if (home / "train" / "1").is_dir() and (home / "test").is_dir():
            parts = [home / "train", home / "test"]
            return parts, parts, partial(_of_folders, parts)
    raise ConfigError("data.root", f"{root} holds no RAF-DB. Give {LAYOUT}.")


def _of_lists(lists: list[Path], images: Path) -> Iterator[Entry]:
    """Read the official layout: lines `train_00001.jpg 5`, pictures Image/aligned/train_00001_aligned.jpg."""
    rows = chain.from_iterable(lines(path, 2, "file label, e.g. train_00001.jpg 5") for path in lists)
    for (name, text, *_), where in rows:
        label = numbered(text, RAFDB, SEVEN, where, first=1)
        split = name.partition("_")[0]
        if split not in ("train", "test"):
            raise ValueError(f"{where}: {name} must begin with train_ or test_.")
        yield Entry(split, name, label, picture(images / f"{PurePosixPath(name).stem}_aligned.jpg", where), where)


def _of_folders(parts: list[Path]) -> Iterator[Entry]:
    """Read the layout that circulates: train/1..7 and test/1..7, the number is the label."""
    for path in parts:
        for entry in class_entries(path.name, path, lambda name, where: numbered(name, RAFDB, SEVEN, where, first=1)):
            yield entry._replace(id=_id(entry.id))


def _id(name: str) -> str:
    """test_0003_aligned, or 0/test_0003_aligned.jpg -> test_0003.jpg."""
    return PurePosixPath(name).stem.removesuffix("_aligned") + ".jpg"


def _listed(words: list[str], where: str) -> tuple[str, int]:
    """Read `test_0003_aligned 3 4` (occlusion) or `0/test_0004_aligned.jpg` (pose); labels count from 0."""
    text, name = (words[1], words[0]) if len(words) > 1 else words[0].split("/", 1) if "/" in words[0] else ("", "")
    return _id(name), numbered(text, RAFDB, SEVEN, where)
