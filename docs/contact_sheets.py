"""The pictures of the pages: every procedural expression, or every corruption at every severity, on procedural faces.

python docs/contact_sheets.py OUT.png draws docs/procedural.png into OUT.png, with --corruptions docs/robustness.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from distill.data.common.emotions import EMOTIONS
from distill.data.procedural import SHEET, draw
from distill.data.procedural.camera import render
from distill.data.procedural.people import people
from distill.evaluation.robustness import CORRUPTIONS, SEVERITIES, corrupt

CLEAR = {"intensity": 0.9, "mixture": 0.0, "occlusion": 0.0, "pose": 0.0, "light": 0.2}


def expressions(seed: int = 3, columns: int = 12, size: int = 96) -> Image.Image:
    """Return every expression (rows) of some people (columns): clear and without grain, pose and light vary less."""
    parameters = {"intensity": 0.9, "mixture": 0.0, "occlusion": 0.09, "pose": 0.7, "light": 0.4}
    faces, votes, grain = people(seed, SHEET, 8 * columns, size, 0, **parameters)
    pictures = render(faces, np.full_like(grain, 0.5))
    order = votes.argmax(1).reshape(columns, 8).argsort(1, kind="stable") + 8 * np.arange(columns)[:, None]
    margin = 84
    sheet = Image.new("L", (margin + columns * size, 8 * size), 255)
    pen = ImageDraw.Draw(sheet)
    for y, emotion in enumerate(EMOTIONS):
        pen.text((margin - 8, (y + 0.5) * size), emotion, fill=0, anchor="rm", font_size=14)
        sheet.paste(Image.fromarray(np.hstack(pictures[order[:, y]])), (margin, y * size))
    return sheet


def straight_faces(size: int = 96, seed: int = 3) -> np.ndarray:
    """Return [N, 1, size, size] straight faces that fill the picture, as aligned crops are."""
    canvas = round(size / 0.76)
    left, top = round(0.12 * canvas), round(0.17 * canvas)
    drawn = draw(seed, SHEET, 96, canvas, **CLEAR)[0]
    return drawn[:, None, top : top + size, left : left + size]


def corruptions(chosen: tuple[int, ...] = (72, 37), size: int = 96) -> Image.Image:
    """Return every corruption (rows) of the chosen faces at every severity (columns)."""
    pictures = straight_faces(size)[list(chosen)]
    margin, header, gap = 92, 26, 6
    cell = len(chosen) * size + gap
    sheet = Image.new("L", (margin + 6 * cell - gap, header + len(CORRUPTIONS) * (size + gap) - gap), 255)
    pen = ImageDraw.Draw(sheet)
    for column, severity in enumerate((0, *SEVERITIES)):
        pen.text((margin + column * cell, 4), f"severity {severity}" if severity else "clean", fill=0, font_size=14)
        for line, name in enumerate(CORRUPTIONS):
            shown = corrupt(pictures, name, severity, rows=chosen) if severity else pictures
            place = (margin + column * cell, header + line * (size + gap))
            sheet.paste(Image.fromarray(np.hstack(shown[:, 0])), place)
            if severity == 0:
                pen.text((margin - 8, place[1] + size / 2), name, fill=0, anchor="rm", font_size=14)
    return sheet


def main(words: list[str]) -> None:
    """Draw a sheet into the one file that is named."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("out", type=Path, metavar="OUT.png")
    options.add_argument("--corruptions", action="store_true")
    args = options.parse_args(words)
    sheet = corruptions() if args.corruptions else expressions()
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
