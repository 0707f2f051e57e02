"""Boxes in a picture, and beside it each face's probabilities as bars."""

import math
from collections.abc import Sequence
from unicodedata import combining, normalize

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLORS = ("#8d99ae", "#ffb703", "#fb8500", "#3a86ff", "#e63946", "#6a994e", "#8338ec", "#c77dff")
DARK, LIGHT, FAINT = "#1b1d26", "#f4f4f6", "#3a3d4d"
LEAST = 360  # height below which a picture is enlarged, that words can be read


def draw(picture: np.ndarray, boxes: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return a picture with numbered boxes and a column of bars at its right, of the same size for any number of faces.

    Faces whose bars find no room any more have their box and its words alone.

    Shape:
        picture: [H, W, 3] uint8; boxes: [N, 4] as x, y, width, height; probabilities: [N, K] -> [H', W', 3] uint8.
    """
    height, width = picture.shape[:2]
    scale = max(1, min(math.ceil(LEAST / height), 4096 // width))
    image = Image.fromarray(picture)
    image = image if scale == 1 else image.resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    letters = int(min(max(image.height / 32, 11), 40))
    font = ImageFont.load_default(letters)
    classes = _legible(classes, font)
    canvas = Image.new("RGB", (image.width + 17 * letters, image.height), DARK)
    canvas.paste(image)
    pen = ImageDraw.Draw(canvas)
    for number, (box, row) in enumerate(zip(boxes * scale, probabilities, strict=True)):
        answer = int(row.argmax())
        words, color = f"{number + 1} {classes[answer]} {row.max():.0%}", COLORS[answer % len(COLORS)]
        (left, top), (right, bottom) = np.maximum(box[:2], 0), np.minimum(box[:2] + box[2:], image.size) - 1
        left, top, right, bottom = (round(float(v)) for v in (left, top, max(right, left), max(bottom, top)))
        pen.rectangle((left, top, right, bottom), outline=color, width=max(2, font.size // 6))
        wide, high = pen.textlength(words, font) + font.size // 2, round(1.3 * font.size)
        x, y = (
            max(0, min(left, image.width - wide)),
            top - high if top >= high else top,
        )  # inside where no room is above
        pen.rectangle((x, y, x + wide, y + high), fill=color)
        pen.text((x + font.size // 4, y + high / 2), words, DARK, font, anchor="lm")
    _column(pen, probabilities, classes, font, image.width, image.height)
    return np.asarray(canvas)


def _legible(classes: Sequence[str], font) -> list[str]:
    """Return class names without accents, which the font does not have; of one in other letters its number."""
    plain = ["".join(c for c in normalize("NFKD", name) if not combining(c)) for name in classes]
    none = bytes(font.getmask("\U0010ffff"))  # what it draws for those
    return [f"class {k}" if none in (bytes(font.getmask(c)) for c in name) else name for k, name in enumerate(plain)]


def _column(
    pen: ImageDraw.ImageDraw, probabilities: np.ndarray, classes: Sequence[str], font, left: int, height: int
) -> None:
    letters = font.size
    line = min(1.35 * letters, height / (len(classes) + 1.6))
    block = (len(classes) + 1.6) * line
    x, bar, end = left + letters // 2, left + 7 * letters, left + 14 * letters
    for number, row in enumerate(probabilities[: max(1, int(height / block))]):
        y = number * block + 0.8 * line
        pen.text((x, y), f"face {number + 1}", LIGHT, font, anchor="lm")
        for k, value in enumerate(row):
            y += line
            pen.text((x, y), classes[k], LIGHT, font, anchor="lm")
            pen.rectangle((bar, y - 0.35 * line, end, y + 0.3 * line), fill=FAINT)
            full = bar + (end - bar) * float(value)
            pen.rectangle((bar, y - 0.35 * line, full, y + 0.3 * line), fill=COLORS[k % len(COLORS)])
            pen.text((end + letters // 4, y), f"{value:.0%}", LIGHT, font, anchor="lm")
