"""A labeled picture before it is opened, and the way of a list of them into a pack."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distill.data.common.image_files import picture
from distill.data.common.image_reader import BROKEN
from distill.data.common.walker import class_folders, left_out, pictures_below, shown
from distill.data.packing.reader import Row
from distill.data.packing.writer import Unreadable

SPLITS = ("train", "valid", "test")


class Entry(NamedTuple):
    """One labeled picture before it is opened."""

    split: str  # train, valid or test as distributed, or all where folds or hash decide; all goes with no other
    id: str  # unique name, usually the path below the root
    label: int  # index into the classes that labeled() is told
    # () -> PIL.Image: opens the picture, any size, gray or color; called only while packing, from several threads. What it raises
    # (ValueError, OSError, ...) is told with `where` in front, so its own words need no file or row.
    load: Any
    where: str  # file and row, for messages
    subject: str = ""  # the person where known, so that no person is in two splits that are made here


def class_entries(split: str, path: Path, label: Callable[[str, str], int], above: str = "") -> Iterator[Entry]:
    """List the pictures of a folder that holds a folder per class, by name; hidden ones are skipped.

    Args:
        split: of all of them.
        path: the folder.
        label: a folder's name, and the folder for messages -> its class.
        above: what an id has before CLASS/FILE.
    """
    for of_class in class_folders(path):
        index = label(of_class.name, str(of_class))
        for file in pictures_below(of_class):
            yield Entry(split, f"{above}{of_class.name}/{file.name}", index, picture(file, str(file)), str(file))


class Listing:
    """The entries of a reader on their way into a pack: checked when facts() is called, decoded one by one by rows()."""

    def __init__(
        self,
        entries: Callable[[], Iterable[Entry]],
        classes: tuple[str, ...],
        size: int,
        channels: int,
        walked: Sequence[Path] = (),
        lists: Collection[str] = (),
    ):
        self.entries, self.classes, self.walked, self.lists = entries, classes, walked, lists
        self.size, self.mode = size, {1: "L", 3: "RGB"}[channels]

    def facts(self) -> dict:
        """List the entries.

        Returns:
            {"rows": number of pictures, "subjects": names of the persons, "left_out": what of `walked` is not read}.

        Raises:
            ValueError: an id that occurs twice.
        """
        self.listed = [
            e._replace(id=shown(e.id), where=shown(e.where), subject=shown(e.subject)) for e in self.entries()
        ]
        seen: dict[str, str] = {}
        for entry in self.listed:
            assert entry.split in (*SPLITS, "all") and 0 <= entry.label < len(self.classes)
            if entry.id in seen:
                raise ValueError(
                    f"{entry.where} lists {entry.id} again, it was {seen[entry.id]}. Delete one of the two."
                )
            seen[entry.id] = entry.where
        self.subjects = sorted({entry.subject for entry in self.listed} - {""})
        read = (*self.lists, *(entry.load.path for entry in self.listed)) if self.walked else ()
        unread = left_out(self.walked, read)
        return {"rows": len(self.listed), "subjects": self.subjects, "left_out": unread}

    def rows(self) -> Iterator[Row]:
        """Yield the rows with annotations (label, number of the person or -1); pixels are functions."""
        number = {subject: i for i, subject in enumerate(self.subjects)}
        for entry in self.listed:
            annotation = np.array([entry.label, number.get(entry.subject, -1)], np.float32)
            yield Row(entry.split, entry.id, partial(self._pixels, entry), annotation, entry.where)

    def _pixels(self, entry: Entry) -> np.ndarray | Unreadable:
        """Decode one picture, [C, H, W] uint8, or say why it cannot be read."""
        try:
            image = entry.load()
            image = image if image.mode == self.mode else image.convert(self.mode)
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)  # antialiased when it shrinks
        except BROKEN as error:
            name = entry.where if entry.where.endswith(entry.id) else f"{entry.where}: {entry.id}"
            return Unreadable(name, str(error).removeprefix("cannot be read: "), listed=" row " in entry.where)
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
