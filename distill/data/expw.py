"""ExpW and lists like its label.lst: pictures from the web, a box and a label for each face in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from distill.data.common.emotions import EXPW, SEVEN, numbered
from distill.data.common.image_files import first_of, folder, lines, picture, source
from distill.data.common.image_reader import open_image
from distill.data.common.labeled import Entry, labeled
from distill.data.common.options import DataOptions
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
LISTS = ("label/label.lst", "label.lst")
IMAGES = ("image/origin", "image", "origin", "images")
COLUMNS = "image face_id top left right bottom confidence label"
LAYOUT = f"a folder with label/label.lst (lines: {COLUMNS}) and image/origin/*.jpg"
LICENSE = "ExpW (Zhang et al., IJCV 2018): for non-commercial research; do not redistribute it."


def expw(store: str | Path, root: str | Path, **options: Any) -> Dataset:
    """Open ExpW, every face cut out at its box; it is published without splits, so that test is held out too.

    Faces of one picture stay together. A box that leaves its picture is cut at the edge, and one that is not square is
    made so by the resize.

    Args:
        store: folder for everything that is computed once.
        root: a folder with label/label.lst and image/origin.
        options: fields of DataOptions.

    Raises:
        ValueError: a root, file or row that cannot be used, in a message that says which and why.

    Reference:
        Zhang, Luo, Loy and Tang, From Facial Expression Recognition to Interpersonal Relation Prediction, IJCV 2018.
    """
    home = folder(root, LAYOUT)
    list_file, images = first_of(home, LISTS, LAYOUT), first_of(home, IMAGES, LAYOUT)
    return labeled(
        store,
        "expw",
        source("expw", VERSION, [list_file, images]),
        lambda: list(_entries(list_file, images)),
        SEVEN,
        walked=[images],
        words="ExpW",
        notes={"license": LICENSE},
        options=DataOptions(**options),
    )


def _entries(list_file: Path, images: Path) -> Iterator[Entry]:
    for words, where in lines(list_file, 8, COLUMNS):
        name, face, *box, _, text = words[0], words[1], *words[2:8]
        label = numbered(text, EXPW, SEVEN, where)
        try:
            top, left, right, bottom = map(int, box)
        except ValueError as error:
            raise ValueError(
                f"{where}: the box {' '.join(box)} is not four whole numbers. It must be: {COLUMNS}."
            ) from error
        load = Face(picture(images / name, where).path, (left, top, right, bottom))
        yield Entry("all", f"{name} {face}", label, load, where, subject=name)


class Face(NamedTuple):
    """A picture file and the box of a face in it, left, top, right, bottom, which a call cuts out."""

    path: str
    box: tuple[int, int, int, int]

    def __call__(self) -> Image.Image:
        """Decode it."""
        image, box = open_image(self.path)[0], self.box
        left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], image.width), min(box[3], image.height)
        if left >= right or top >= bottom:
            raise ValueError(f"its box, left {box[0]} top {box[1]} right {box[2]} bottom {box[3]}, is empty or outside")
        return image.crop((left, top, right, bottom))
