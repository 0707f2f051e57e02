"""A contact sheet of all corruptions: a row is a corruption, a column a severity, from none to 5.

python -m distill.evaluation.robustness.sheet OUT.png draws it from procedural faces, two of them per severity.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from distill.data.procedural import SHEET, draw
from distill.evaluation.robustness import CORRUPTIONS, SEVERITIES, corrupt
from distill.system.cli import command_line, parser, user_path
from distill.system.files import atomic

CLEAR = {"intensity": 0.9, "mixture": 0.0, "occlusion": 0.0, "pose": 0.0, "light": 0.2}


def faces(size: int = 96, seed: int = 3) -> np.ndarray:
    """Return [N, 1, size, size] straight faces that fill the picture, as aligned crops are."""
    whole = round(size / 0.76)
    left, top = round(0.12 * whole), round(0.17 * whole)
    drawn = draw(seed, SHEET, 96, whole, **CLEAR)[0]
    return drawn[:, None, top : top + size, left : left + size]


def contact_sheet(out: str | Path, chosen: tuple[int, ...] = (72, 37), size: int = 96) -> None:
    """Draw every corruption (rows) of the chosen faces at every severity (columns)."""
    pictures = faces(size)[list(chosen)]
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
    with atomic(Path(out)) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


@command_line()
def main(arguments: list[str]) -> None:
    """Draw the contact sheet into the one file that is named."""
    options = parser("python -m distill.evaluation.robustness.sheet", __doc__)
    options.add_argument("out", type=user_path, metavar="OUT.png")
    out = options.parse_args(arguments).out
    contact_sheet(out)
    print(f"{out}: {', '.join(CORRUPTIONS)}, from above")


if __name__ == "__main__":
    main(sys.argv[1:])
