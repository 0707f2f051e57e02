"""AffectNet with 7 or 8 emotions: the csv release, and the release of one file per annotation."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from distill.data.common.emotions import AFFECTNET, EMOTIONS, SEVEN, numbered
from distill.data.common.image_files import csv_file, find_below, folder, picture, source
from distill.data.common.image_reader import BROKEN
from distill.data.common.labeled import Entry, labeled
from distill.data.common.options import DataOptions
from distill.data.common.test_subsets import read_subsets
from distill.system.errors import ConfigError, expect
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
NO_EMOTION = ("8", "9", "10")  # none, uncertain, no face
PICTURES = "Manually_Annotated*/"
LAYOUT = (
    "a folder with training.csv, validation.csv and Manually_Annotated_Images, or one with train_set and val_set, each "
    "with images and annotations"
)
LISTS = {
    "occlusion": ("occlusion_affectnet_list.txt",),
    "pose30": ("pose_30_affectnet_list.txt",),
    "pose45": ("pose_45_affectnet_list.txt",),
}
LICENSE = (
    "AffectNet (Mollahosseini, Hasani and Mahoor, IEEE Trans. Affective Computing 2017): for research, under an "
    "agreement with its authors; do not redistribute it."
)


def affectnet(
    store: str | Path,
    root: str | Path,
    classes: int = 8,
    images: str | None = None,
    test_subset: str | list[str] | None = None,
    subset_dir: str | None = None,
    **options: Any,
) -> Dataset:
    """Open AffectNet; its published validation set is the test split, and validation is held out of training.

    Whole pictures are stored: as in the published readers, the face's box of the csv release is not used. Rows of no
    emotion (none, uncertain, no face) are left out. One pack serves 7 and 8 classes and every test subset.

    Args:
        store: folder for everything that is computed once.
        root: the folder of one of the two releases.
        classes: 8, or 7 without contempt.
        images: folder of pictures below root, where the csv release has several, e.g. aligned and not.
        test_subset: occlusion, pose30, pose45 or a list of them: the published lists' pictures are measured beside the
            test split; csv release.
        subset_dir: folder of the lists, None is root.
        options: fields of DataOptions.

    Raises:
        ConfigError: a root, file, row, class or subset that cannot be used, in a message that says which and why.

    Reference:
        The lists: Wang et al., Region Attention Networks for Pose and Occlusion Robust Facial Expression Recognition,
        IEEE Trans. Image Processing 2020.
    """
    expect(classes in (7, 8), "data.classes", "8, or 7 without contempt", classes)
    release = _release(folder(root, LAYOUT), images)
    if test_subset and isinstance(release, NpyRelease):
        raise ConfigError(
            "data.test_subset",
            f"{test_subset} lists pictures of the csv release; {release.train} has numbers for names. "
            "Give data.root the csv release, or use data.test_subset=null.",
        )
    return labeled(
        store,
        "affectnet",
        release.source(),
        lambda: [*release.rows(release.train, "train"), *release.rows(release.test, "test")],
        EMOTIONS,
        keep=EMOTIONS if classes == 8 else SEVEN,
        subsets=read_subsets(test_subset, root, subset_dir, LISTS, _listed),
        words=f"AffectNet-{classes}, test is the published validation set (no test set is public)",
        notes={"release": release.name, "license": LICENSE},
        options=DataOptions(**{"size": 128, "valid": 0.05} | options),
    )


@dataclass(frozen=True)
class CsvRelease:
    """training.csv and validation.csv, and the folder that their first column starts from."""

    name: ClassVar = "csv"
    train: Path
    test: Path
    images: Path

    def source(self) -> dict:
        """Describe the two lists; a million pictures are too many to look at every time."""
        return source("affectnet", VERSION, [self.train, self.test]) | {"images": str(self.images)}

    def rows(self, path: Path, split: str) -> Iterator[Entry]:
        """List the rows of an emotion.

        Raises:
            ValueError: a row that cannot be read.
        """
        for cells, where in csv_file(path):
            # published: a header in training.csv, none in validation.csv
            if not cells or tuple(map(str.strip, cells)) == COLUMNS:
                continue
            if len(cells) != len(COLUMNS) or cells[0].strip() == COLUMNS[0]:
                other = f"{len(cells)} columns" if len(cells) != len(COLUMNS) else "other columns"
                raise ValueError(
                    f"{where} has {other} instead of {len(COLUMNS)}: {', '.join(COLUMNS)}. Take {path.name} as published."
                )
            name, expression = cells[0].strip(), cells[6].strip()
            if expression not in NO_EMOTION:
                label = numbered(expression, AFFECTNET, EMOTIONS, where)
                yield Entry(split, name, label, picture(self.images / name, where), where)


@dataclass(frozen=True)
class NpyRelease:
    """train_set and val_set, each with images/<n>.jpg and annotations/<n>_exp.npy (_val, _aro and _lnd are not read)."""

    name: ClassVar = "npy"
    train: Path
    test: Path

    def source(self) -> dict:
        """Describe the four folders by their times: a file that comes, goes or is renamed changes them."""
        parts = [path / part for path in (self.train, self.test) for part in ("images", "annotations")]
        for part in parts:
            folder(part, LAYOUT)
        return source("affectnet", VERSION, []) | {"times": {str(part): part.stat().st_mtime_ns for part in parts}}

    def rows(self, path: Path, split: str) -> Iterator[Entry]:
        """Read every expression.

        Raises:
            ValueError: pictures and annotations that do not go in pairs.
        """
        annotated = re.findall(r"^(.+)_exp\.npy$", "\n".join(os.listdir(path / "annotations")), re.MULTILINE)
        pictures = {name for name in os.listdir(path / "images") if name.endswith(".jpg")}
        if alone := sorted(pictures - {f"{number}.jpg" for number in annotated}):
            raise ValueError(
                f"{path}/images/{alone[0]}: annotations/{alone[0][:-4]}_exp.npy is not there, as for {len(alone):,} "
                "pictures. Copy the annotations, or remove the pictures."
            )
        for number in sorted(annotated, key=lambda text: (len(text), text)):
            where = f"{path}/annotations/{number}_exp.npy"
            try:
                expression = _expression(Path(where).read_bytes())
            except BROKEN as error:
                raise ValueError(f"{where} is not one expression ({error}). Copy the file again.") from error
            if expression not in NO_EMOTION:
                label = numbered(expression, AFFECTNET, EMOTIONS, where)
                file = path / "images" / f"{number}.jpg"
                yield Entry(split, f"{path.name}/{file.name}", label, picture(file, where), where)


@lru_cache(64)  # 288,000 files hold but eleven texts
def _expression(data: bytes) -> str:
    """Read one number, stored as text or as a number."""
    return str(np.load(io.BytesIO(data)).item()).removesuffix(".0").strip()


def _release(root: Path, images: str | None) -> CsvRelease | NpyRelease:
    """Find out which release a folder, or a folder in it, holds."""
    names = ("training.csv", "validation.csv", "train_set/", "val_set/")
    train, valid, train_set, val_set = (find_below(root, [name], deep=2) for name in names)
    if train and train_set:
        raise ConfigError(
            "data.root", f"{root} holds AffectNet twice: {train} and {train_set}. Give the folder of one."
        )
    if train_set and val_set:
        return NpyRelease(train_set, val_set)
    if not (train and valid):
        raise ConfigError("data.root", f"{root} holds no AffectNet, or half of it. Give {LAYOUT}.")
    return CsvRelease(train, valid, _images(root, images))


def _images(root: Path, images: str | None) -> Path:
    if images is not None:
        return folder(root / images, "the folder that the first column of training.csv starts from", "data.images")
    folders = [path for at in ("", "*/") for path in sorted(root.glob(at + PICTURES)) if next(path.glob("*/"), None)]
    folders = [path for path in folders if not any(path in deep.parents for deep in folders)]  # as the archives unpack
    if not folders:
        raise ConfigError("data.root", f"{root} has no folder of pictures {PICTURES}. Give {LAYOUT}.")
    if len(folders) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in folders)
        raise ConfigError(
            "data.images", f"{root} has several folders of pictures: {names}. Give data.images one of them."
        )
    return folders[0]


def _listed(words: list[str], where: str) -> tuple[str, int]:
    """Read `val/<label>/<name>/`, `<label>/<name>.jpg` or `<label>/<name>/8.jpg`: the picture's name and its label."""
    match = re.fullmatch(r"(?:val/)?(\d+)/([^/]+?)(?:\.jpg)?(?:/(?:\d+\.jpg)?)?", words[0])
    if not match:
        raise ValueError(f"{where}: {words[0]!r} is no <label>/<name>. Take the published list.")
    return match[2], numbered(match[1], AFFECTNET, EMOTIONS, where)
