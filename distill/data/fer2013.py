"""FER2013 with its own seven labels: the competition's csv file, or the class-named folders that circulate."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TextIO

import numpy as np
from PIL import Image

from distill.data.common.emotions import FER2013, SEVEN, named, numbered
from distill.data.common.image_files import csv_rows, source
from distill.data.common.labeled import Entry, class_entries, labeled
from distill.data.common.options import DataOptions
from distill.system.errors import ConfigError
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
NAMES = ("fer2013.csv", "icml_face_data.csv")
FILES = (*NAMES, "fer2013.csv.gz", "fer2013.tar.gz", "fer2013.zip", "archive.zip")
DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
USAGE = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
FOLDERS = {
    "train": ("train", "Training"),
    "valid": ("valid", "val", "validation", "PublicTest"),
    "test": ("test", "PrivateTest"),
}
SIDE = 48  # height and width of a picture in the csv [pixels]
LAYOUT = (
    f"{' or '.join(NAMES)}, a tar.gz, gz or zip of it, the folder with it, or a folder with train/ and test/ of class-named "
    "folders"
)
LICENSE = (
    "FER2013 (Goodfellow et al., 2013): pictures collected from the web for a research competition: research use only, "
    "do not redistribute them."
)


def fer2013(store: str | Path, root: str | Path, **options: Any) -> Dataset:
    """Open FER2013; PublicTest is the validation split, where it is distributed, and PrivateTest the test split.

    Args:
        store: folder for everything that is computed once.
        root: fer2013.csv or icml_face_data.csv, perhaps in a tar.gz, gz or zip, the folder with it, or a folder with train
            and test (perhaps valid).
        options: fields of DataOptions.

    Raises:
        ValueError: a root, file or row that cannot be used, in a message that says which and why.

    Reference:
        Goodfellow et al., Challenges in Representation Learning, ICONIP 2013. In the folders that circulate test is
        PublicTest and PrivateTest together, 7,178 pictures: figures of the two forms do not compare.
    """
    paths, entries, words = _reader(Path(root).expanduser().absolute())
    return labeled(
        store,
        "fer2013",
        source("fer2013", VERSION, paths),
        entries,
        SEVEN,
        walked=[] if paths[0].is_file() else paths,
        words=words,
        notes={"license": LICENSE},
        options=DataOptions(**{"size": SIDE, "channels": 1} | options),
    )


def _reader(root: Path):
    """Find out what a path holds: the paths to describe, what lists the entries, and words for the protocol."""
    candidates = [root] if root.is_file() else [root / at / name for at in ("", "fer2013") for name in FILES]
    file = next((path for path in candidates if path.is_file()), None)
    if file is not None:
        return [file], partial(_csv_entries, file), f"FER2013 {file.name}"
    folders = {s: next((root / n for n in names if (root / n).is_dir()), None) for s, names in FOLDERS.items()}
    if folders["train"] is None or folders["test"] is None:
        raise ConfigError("data.root", f"{root} holds no FER2013. Give {LAYOUT}.")
    folders = {split: path for split, path in folders.items() if path is not None}

    def entries() -> list[Entry]:
        of = [
            (split, path, lambda name, where: named(name, SEVEN, where), f"{path.name}/")
            for split, path in folders.items()
        ]
        return [entry for folder in of for entry in class_entries(*folder)]

    return [*folders.values()], entries, "FER2013 folders"


def _csv_entries(file: Path) -> list[Entry]:
    with _text(file) as text:
        rows = ((row, where) for row, where in csv_rows(text, str(file)) if row)
        header, where = next(rows, ([], f"{file} row 1"))
        header = [name.strip()[:40] for name in header]
        if not {"emotion", "pixels", "Usage"} <= set(header):
            raise ValueError(f"{where} must be a header with columns emotion, pixels and Usage; it is {header[:5]}.")
        columns = [header.index(name) for name in ("emotion", "pixels", "Usage")]
        entries = []
        for number, (row, where) in enumerate(rows):
            if len(row) <= max(columns):
                raise ValueError(f"{where} has {len(row)} columns; it must have emotion, pixels and Usage.")
            emotion, pixels, usage = (row[column].strip() for column in columns)
            if usage not in USAGE:
                raise ValueError(f"{where}: Usage is {usage[:40]!r}; it must be one of {', '.join(USAGE)}.")
            label = numbered(emotion, FER2013, SEVEN, where)
            entries.append(Entry(USAGE[usage], f"fer{number:07d}", label, partial(_image, pixels), where))
        return entries


@contextmanager
def _text(file: Path) -> Iterator[TextIO]:
    """Open the csv file, or the one in an archive, which may hold another one."""
    try:
        with open(file, "rb") as layer:
            while inner := _inner(layer, file):
                layer = inner
            yield io.TextIOWrapper(layer, "utf-8-sig", "surrogateescape", newline="")
    except DAMAGE as error:
        raise ConfigError("data.root", f"{file} is damaged ({error}). Copy or download it again.") from error


def _inner(layer: BinaryIO, file: Path) -> BinaryIO | None:
    """Return what a gzip, tar or zip file holds of FER2013; None where it is none of them."""
    start = layer.read(512)
    layer.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=layer)
    if start.startswith(b"PK\3\4"):
        archive = zipfile.ZipFile(layer)
        members = [archive.open(name) for known in FILES for name in archive.namelist() if _is(known, name)]
    elif start[257:262] == b"ustar":
        tar = tarfile.open(fileobj=layer)  # noqa: SIM115 (what it holds is read after this)
        named = [member for member in tar if any(_is(name, member.name) for name in FILES)]
        members = [content for member in named if (content := tar.extractfile(member))]
    elif b"\0" in start:
        raise ConfigError("data.root", f"{file} is no csv file. Give {LAYOUT}.")
    else:
        return None
    if not members:
        raise ConfigError("data.root", f"{file} holds no {' or '.join(NAMES)}. Unpack it, and give its folder.")
    return members[0]


def _is(known: str, name: str) -> bool:
    return PurePosixPath(name).name == known and not name.startswith("__MACOSX")


def _image(text: str) -> Image.Image:
    values = bytes(map(int, text.split()))
    if len(values) != SIDE * SIDE:
        raise ValueError(f"it has {len(values)} pixels instead of {SIDE * SIDE}")
    return Image.fromarray(np.frombuffer(values, np.uint8).reshape(SIDE, SIDE))
