"""The pictures that a command was given, and what tells this program's own drawings from them."""

import warnings
from os.path import realpath
from pathlib import Path

import numpy as np
from PIL import Image

from distill.data.common.image_reader import BROKEN, open_image
from distill.data.common.walker import left_out, pictures_below

SOFTWARE, DRAWN = 0x131, "drawn by distill.predict"  # an EXIF tag, and what it says in a drawing


def read(path: Path) -> tuple[np.ndarray, str]:
    """Decode a picture file, see open_image.

    Returns:
        [H, W, 3] uint8 RGB, and a note or "".

    Raises:
        ValueError: why it cannot be read.
    """
    with warnings.catch_warnings(action="ignore"):
        image, note = open_image(path)
    return np.asarray(image.convert("RGB")), note


def listed(folder: Path, without: Path | None) -> tuple[list[Path], dict[str, list]]:
    """Return the pictures below a folder, by name, and what is left out, see distill.data.common.walker.

    What cannot be opened under a picture's name, as a link to nothing, is among them: its reader says so.

    Args:
        folder: searched with the folders in it.
        without: a folder whose drawings are passed over; other pictures in it are not.
    """
    files = pictures_below(folder, deep=True)
    rest = left_out([folder], [str(file) for file in files])
    if without:
        inside = Path(realpath(without))
        files = [file for file in files if inside not in Path(realpath(file)).parents or not is_drawing(file)]
    return files, rest


def is_drawing(path: Path) -> bool:
    """Return whether a file is a drawing of this program, which says so in its EXIF part."""
    try:
        if not path.is_file():
            return False
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("JPEG", "PNG")) as image:
            return "exif" in image.info and image.getexif().get(SOFTWARE) == DRAWN
    except BROKEN:
        return False


def identity(path: Path) -> tuple[int, int] | str:
    """Return what two names of one file have in common, whatever links they are."""
    try:
        found = path.stat()
    except OSError:  # not there yet
        return realpath(path)
    return found.st_dev, found.st_ino
