"""The contact sheet of the procedural faces: a column is a person, a row an expression.

python -m distill.data.procedural OUT.png draws it.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from distill.data.common.emotions import EMOTIONS
from distill.data.procedural import SHEET
from distill.data.procedural.camera import render
from distill.data.procedural.people import people
from distill.system.cli import command_line, parser, user_path


def contact_sheet(out: str | Path, seed: int = 3, columns: int = 12, size: int = 96) -> None:
    """Draws every expression (rows) of some people (columns): clear and without grain, pose and light vary less."""
    knobs = {"intensity": 0.9, "mixture": 0.0, "occlusion": 0.09, "pose": 0.7, "light": 0.4}
    faces, votes, grain = people(seed, SHEET, 8 * columns, size, 0, **knobs)
    pictures = render(faces, np.full_like(grain, 0.5))
    order = votes.argmax(1).reshape(columns, 8).argsort(1, kind="stable") + 8 * np.arange(columns)[:, None]
    margin = 84
    sheet = Image.new("L", (margin + columns * size, 8 * size), 255)
    pen = ImageDraw.Draw(sheet)
    for y, emotion in enumerate(EMOTIONS):
        pen.text((margin - 8, (y + 0.5) * size), emotion, fill=0, anchor="rm", font_size=14)
        sheet.paste(Image.fromarray(np.hstack(pictures[order[:, y]])), (margin, y * size))
    partial = Path(out).with_name(Path(out).name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(partial, format="PNG", optimize=True)
    os.replace(partial, out)


@command_line()
def main(arguments: list[str]) -> None:
    """Draw the contact sheet into the one file that is named."""
    options = parser("python -m distill.data.procedural", __doc__)
    options.add_argument("out", type=user_path, metavar="OUT.png")
    out = options.parse_args(arguments).out
    contact_sheet(out)
    print(f"{out}: {', '.join(EMOTIONS)}, from above")


if __name__ == "__main__":
    main(sys.argv[1:])
