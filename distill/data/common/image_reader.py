"""The one reader of picture files, for training and use: any picture as an upright 8-bit image, or a message that says why not."""

import struct
import zlib
from contextlib import suppress
from os.path import getsize, isfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from distill.system.cli import format_error

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")  # no others: some start programs
WORDS = "JPEG, PNG, GIF, WebP, TIFF, BMP and PPM can"
MOST_PIXELS = 89_478_485  # 256 MB as RGB; a file of 2 MB can ask for 7.5 GB
BROKEN = (
    OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error, MemoryError, OverflowError, TypeError, KeyError,
    IndexError, AttributeError,
)  # fmt: skip


def open_image(file: str | Path | BinaryIO) -> tuple[Image.Image, str]:
    """Decode a picture.

    EXIF orientation is applied, transparency becomes white, 16 bits become 8, and of an animation the first picture is
    taken. The size is looked at before anything is decoded. Pillow's warnings are the caller's to silence: that is not
    for threads to do.

    Args:
        file: its path, or an open file.

    Returns:
        An image of mode L where the file's is gray, else RGB; and a note or "".

    Raises:
        ValueError: why it cannot be read.
    """
    if isinstance(file, str | Path) and not isfile(file):  # to open a pipe would wait for its writer
        raise ValueError("cannot be opened: it is no file, or a link to none")
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            several = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its preview
            image.load()
            ready = upright(image)
    except Image.DecompressionBombError:
        raise ValueError(
            f"not decoded: it has more than {MOST_PIXELS / 1e6:.0f} million pixels; make it smaller"
        ) from None
    except UnidentifiedImageError:
        empty = isinstance(file, str | Path) and not getsize(file)
        raise ValueError("the file is empty" if empty else f"no picture that can be read ({WORDS})") from None
    except BROKEN as error:
        raise ValueError(f"cannot be read: {format_error(error, inside=True)}") from error
    return ready, f"holds {several} pictures; the first one is used" if several > 1 else ""


def upright(image: Image.Image) -> Image.Image:
    """Return a decoded picture as open_image does: upright, of mode L or RGB.

    Raises:
        ValueError: its pixels are not of 8 or 16 bits.
    """
    if image.mode == "I" and image.format is None:  # made in memory
        raise ValueError("its pixels are 32-bit numbers of unknown range; make it of mode L or RGB")
    with suppress(*BROKEN):  # its EXIF part may be damaged, its pixels are not
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have more than 16 bits; save it with 8")
        return Image.fromarray((values / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 bits")
    if image.mode.lower() in ("rgba", "la", "pa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
