"""Read FER+ in its official layout, FER2013Train|Valid|Test with label.csv and PNG, from a folder, a tar or a zip."""

import io
import os
import re
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.common.image_files import csv_rows
from distill.data.common.image_reader import open_image
from distill.data.ferplus.protocols import VOTES
from distill.data.packing.reader import Row
from distill.system.errors import ConfigError

VERSION = 1  # of what is read; raise it when the same files would give other rows
LABELS = re.compile(r"(?:.*/)?FER2013(Train|Valid|Test|TrainValid)/label\.csv")
FIRST_VALID = 28638  # fer0028638.png is the first of FER2013Valid; the folder FER2013TrainValid holds both
LAYOUT = "FER2013Train, FER2013Valid and FER2013Test, each with its label.csv and PNG files"
DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Files:
    """A folder or an archive: the names in it, the text of each label.csv, and its pictures in a wanted order."""

    path: Path
    names: frozenset[str]
    labels: dict[str, str]
    stream: Callable[[list[str]], Iterator[bytes]]


def _keep(name: str) -> bool:
    return not name.startswith("__MACOSX/") and "/._" not in name and not name.startswith("._")


def label_folders(path: Path) -> list[Path]:
    """Return the FER2013* folders in a folder, or up to two folders deeper."""
    return [folder for deeper in ("", "*/", "*/*/") for folder in sorted(path.glob(deeper + "FER2013*/"))]


def folder_files(path: Path) -> Files:
    """List what is in those folders."""
    bases = [folder.relative_to(path).as_posix() for folder in label_folders(path)]
    names = frozenset(f"{base}/{name}" for base in bases for name in os.listdir(path / base) if _keep(name))
    labels = {name: (path / name).read_text("utf-8-sig", "replace") for name in sorted(names) if LABELS.fullmatch(name)}
    return Files(path, names, labels, lambda wanted: ((path / name).read_bytes() for name in wanted))


def zip_files(path: Path) -> Files:
    """List a zip archive."""
    archive = zipfile.ZipFile(path)
    names = frozenset(filter(_keep, archive.namelist()))
    texts = ((name, archive.read(name)) for name in sorted(names) if LABELS.fullmatch(name))
    labels = {name: text.decode("utf-8-sig", "replace") for name, text in texts}
    return Files(path, names, labels, lambda wanted: map(archive.read, wanted))


def tar_files(path: Path) -> Files:
    """List a tar archive, compressed or not, in one pass."""
    names, labels = set(), {}
    with tarfile.open(path) as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):
            name = member.name.removeprefix("./")
            if not _keep(name):
                continue
            names.add(name)
            if LABELS.fullmatch(name):
                labels[name] = archive.extractfile(member).read().decode("utf-8-sig", "replace")
    return Files(path, frozenset(names), labels, lambda wanted: _stream_tar(path, wanted))


def _stream_tar(path: Path, wanted: list[str]) -> Iterator[bytes]:
    """Read a tar once, in its own order; undecoded pictures that come early are held until their turn."""
    queue, missing, held = deque(wanted), set(wanted), {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name in missing:
                missing.discard(name)
                held[name] = archive.extractfile(member).read()
            while queue and queue[0] in held:
                yield held.pop(queue.popleft())


class Picture(NamedTuple):
    """One row of a label.csv: its picture's name in the archive, and where the row is."""

    split: str
    member: str
    votes: np.ndarray
    where: str


class LabelFolders:
    """FER+ in its official layout, at the root of a folder or archive or in folders below.

    `Labels/FER2013Test/label.csv` with `Images/FER2013Test/*.png` is read too, as is FER2013TrainValid. The second
    column, the face's box, is not used: in the published files it is the whole picture.
    """

    def __init__(self, path: Path, list_files: Callable[[Path], Files]):
        self.path, self.list_files = path, list_files
        self.read = label_folders(path) if path.is_dir() else [path]

    def facts(self) -> dict:
        """List the files and parse every label.csv.

        Returns:
            {"votes": name of the files, "rows": number of pictures, "left_out": as of Listing.facts}.

        Raises:
            ConfigError: the archive is damaged, or a split is missing.
            ValueError: a row cannot be read or has no picture.
        """
        try:
            self.files = self.list_files(self.path)
        except DAMAGE as error:
            raise ConfigError("data.root", f"{self.path} is damaged ({error}). Copy or download it again.") from error
        self.pictures = list(_pictures(self.files))
        unread = sorted(self.files.names.difference(self.files.labels, (picture.member for picture in self.pictures)))
        unread = {"in no label.csv": [len(unread), unread[0]]} if unread else {}
        return {"votes": "label.csv", "rows": len(self.pictures), "left_out": unread}

    def rows(self) -> Iterator[Row]:
        """Decode the pictures in the order of the label files.

        Raises:
            ValueError: a picture that cannot be read.
        """
        stream = iter(self.files.stream([picture.member for picture in self.pictures]))
        for picture in self.pictures:
            try:
                data = next(stream)
            except DAMAGE as error:
                raise ValueError(f"{picture.where} cannot be read ({error}). Copy or download it again.") from error
            pixels = decode(data, picture.where)
            yield Row(picture.split, Path(picture.member).name, pixels, picture.votes, picture.where)


def decode(data: bytes, where: str) -> np.ndarray:
    """Return one picture as gray, [1, H, W] uint8.

    Args:
        data: the bytes of its file.
        where: file and row, for messages.

    Raises:
        ValueError: it is cut off, or no picture.
    """
    try:
        return np.asarray(open_image(io.BytesIO(data))[0].convert("L"))[None]
    except ValueError as error:
        why = str(error).removeprefix("cannot be read: ")
        raise ValueError(
            f"{where} is not a whole picture ({why}). Put the original file back, or delete its row in label.csv."
        ) from error


def _pictures(files: Files) -> Iterator[Picture]:
    folders = {LABELS.fullmatch(name)[1]: name for name in files.labels}
    if len(folders) < len(files.labels) or {"Train", "TrainValid"} <= set(folders):
        raise ConfigError(
            "data.root",
            f"{files.path} holds FER+ more than once: {', '.join(sorted(files.labels))}. "
            "Give data.root the folder of one of them.",
        )
    for needed in ("Train", "Valid", "Test"):
        if needed not in folders and (needed == "Test" or "TrainValid" not in folders):
            raise ConfigError("data.root", f"{files.path} has no FER2013{needed}/label.csv. FER+ is {LAYOUT}.")
    for folder in ("Train", "TrainValid", "Valid", "Test"):
        if folder in folders:
            yield from _label_rows(files, folders[folder], folder)


def _label_rows(files: Files, label_file: str, folder: str) -> Iterator[Picture]:
    beside = label_file.removesuffix("/label.csv")
    folders = beside, re.sub(r"(^|/)Labels/", r"\1Images/", beside)
    seen: dict[str, str] = {}
    for row, where in csv_rows(io.StringIO(files.labels[label_file]), f"{files.path}: {label_file}"):
        if not row:
            continue
        if len(row) != 2 + len(VOTES):
            raise ValueError(
                f"{where} has {len(row)} columns instead of 12: file, box, and the votes for {', '.join(VOTES)}. "
                "Take label.csv from github.com/microsoft/FERPlus again."
            )
        name = row[0].strip()
        if not name:  # a blank not-a-face row
            continue
        if name in seen:
            raise ValueError(f"{where} lists {name} again, it was {seen[name]}. Delete one of the two rows.")
        seen[name] = f"row {where.rpartition(' row ')[2]}"
        member = next((f"{folder}/{name}" for folder in folders if f"{folder}/{name}" in files.names), None)
        if member is None:
            raise ValueError(
                f"{where}: {folders[-1]}/{name} is not there. Copy the picture (the FERPlus repository holds votes, no "
                "pictures), or delete the row."
            )
        split = folder.lower()
        if folder == "TrainValid":
            if not (number := re.fullmatch(r"fer(\d{7})\.png", name)):
                raise ValueError(
                    f"{where}: {name} is in FER2013TrainValid, where pictures must be named like fer0000123.png."
                )
            split = "train" if int(number[1]) < FIRST_VALID else "valid"
        yield Picture(split, member, votes_of(row[2:], where), f"{where}, {member}")


def votes_of(columns: list[str], where: str) -> np.ndarray:
    """Return vote counts as numbers, [10] float32.

    Args:
        columns: ten texts.
        where: file and row, for messages.

    Raises:
        ValueError: one is anything but a number of at least 0.
    """
    votes = np.empty(len(VOTES), np.float32)
    for k, text in enumerate(columns):
        if not re.fullmatch(r"\s*\d{1,6}(\.\d*)?\s*", text):
            raise ValueError(f"{where}: {text!r} is no number of votes for {VOTES[k]}. Write a number >= 0 there.")
        votes[k] = float(text)
    return votes
