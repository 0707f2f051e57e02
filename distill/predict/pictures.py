"""Any picture file as upright 8-bit RGB, or one sentence that says why not."""

import warnings
from os.path import realpath
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from distill.data.common.image_files import PICTURES, UNREADABLE
from distill.system.cli import format_error

NAMES = (*PICTURES, ".gif", ".apng", ".ppm", ".jfif")
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")  # no others: some start programs
MOST_PIXELS = 89_478_485  # 256 MB as RGB; a file of 2 MB can ask for 7.5 GB
WORDS = "JPEG, PNG, GIF, WebP, TIFF, BMP and PPM can"
SOFTWARE, DRAWN = 0x131, "drawn by distill.predict"  # an EXIF tag, and what it says in a drawing
BROKEN = (*UNREADABLE, MemoryError, OverflowError, TypeError, KeyError, IndexError, AttributeError)


def read(path: Path) -> tuple[np.ndarray, str]:
    """Decode a picture file.

    EXIF orientation is applied, transparency becomes white, 16 bits become 8, and of an animation the first picture is
    taken. The size is looked at before anything is decoded.

    Returns:
        [H, W, 3] uint8 RGB, and a note or "".

    Raises:
        ValueError: why it cannot be read.
    """
    if not path.is_file():  # to open a pipe would wait for its writer
        raise ValueError("cannot be opened: it is no file, or a link to none")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            several = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its preview
            image.load()
            pixels = np.asarray(_rgb(_upright(image)))
    except Image.DecompressionBombError:
        raise ValueError(
            f"not decoded: it has more than {MOST_PIXELS / 1e6:.0f} million pixels; make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(
            "the file is empty" if not path.stat().st_size else f"no picture that can be read ({WORDS})"
        ) from None
    except BROKEN as error:
        raise ValueError(f"cannot be read: {format_error(error, inside=True)}") from error
    return pixels, f"holds {several} pictures; the first one is used" if several > 1 else ""


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (*UNREADABLE, TypeError, KeyError):  # its EXIF part is damaged, its pixels are not
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """Return an 8-bit RGB picture; white shows through where it is transparent."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have more than 16 bits; save it with 8")
        return Image.fromarray((values / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 bits")
    if image.mode.lower() in ("rgba", "la", "pa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def listed(folder: Path, without: Path | None) -> tuple[list[Path], int]:
    """Return what has a picture's name below a folder, by name, and how many other files are there; hidden ones are skipped.

    What cannot be opened under such a name, as a link to nothing, is among them: its reader says so.

    Args:
        folder: searched with the folders in it.
        without: a folder whose drawings are left out; other pictures in it are not.
    """
    files = [file for file in sorted(folder.rglob("*")) if not file.is_dir() and not file.name.startswith(".")]
    if without:
        inside = Path(realpath(without))
        files = [file for file in files if inside not in Path(realpath(file)).parents or not is_drawing(file)]
    pictures = [file for file in files if file.suffix.lower() in NAMES]
    return pictures, len(files) - len(pictures)


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


def shown(path: Path | str) -> str:
    """Return a path as text that every terminal and file can hold."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(path))
