"""Procedural faces: a seeded data set of grey drawings with eight expressions; nothing to download.

python -m distill.data.procedural OUT.png draws its contact sheet: a column is a person, a row an expression.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from distill.types import Dataset, Split

from .labels import EMOTIONS
from .pack import Row, pack
from .procedural_camera import render
from .procedural_people import ANNOTATORS, people

SPLITS = ("train", "valid", "test")
SHEET = 3  # the number of a fourth split: people of the contact sheet
BLOCK = 2048  # pictures in memory at a time; a multiple of the eight that show one person
MODULES = ("procedural.py", "procedural_people.py", "procedural_faces.py", "procedural_camera.py")


def procedural(
    store: str | Path,
    seed: int,
    size: int,
    train: int,
    valid: int,
    test: int,
    intensity: float,
    mixture: float,
    occlusion: float,
    pose: float,
    light: float,
) -> Dataset:
    """Draw faces that show eight expressions, or open them where they have been drawn before.

    Picture i of a split depends on (seed, split, i) and the knobs alone; eight in a row show one person, once with each
    expression, and no person is in two splits. Ten simulated annotators see an ambiguous expression differently:

        target = votes / 10, label = argmax target

    Args:
        store: folder for everything that is computed once.
        seed: whole number, 0 or more.
        size: height and width [pixels], 24 or more.
        train, valid, test: pictures per split, 8 or more.
        intensity: weakest expression drawn, in [0, 1]; 1 = always full.
        mixture: share of pictures that mix two expressions, in [0, 1].
        occlusion: share of pictures with sunglasses, a hand, a bar or a scarf, in [0, 1].
        pose: 0 = straight on, 1 = turned by up to about 30 degrees; at most 1.5.
        light: 0 = evenly lit, sharp and without grain, 1 = varied; at most 1.5.

    Returns:
        Splits with pixels [M, 1, H, H] uint8.

    Raises:
        ValueError: a key outside its range.

    Reference:
        Expressions follow the action units of Ekman and Friesen, Facial Action Coding System, 1978, by eye.
    """
    counts = dict(zip(SPLITS, (train, valid, test), strict=True))
    knobs = {"intensity": intensity, "mixture": mixture, "occlusion": occlusion, "pose": pose, "light": light}
    _check({"seed": (seed, 0, 2**63), "size": (size, 24, 1024)}, whole=True)
    _check({name: (count, 8, 2**32) for name, count in counts.items()}, whole=True)
    _check({name: (knob, 0, 1.5 if name in ("pose", "light") else 1) for name, knob in knobs.items()}, whole=False)
    drawn_by = hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in MODULES)).hexdigest()
    source = {"drawn_by": drawn_by, "seed": seed, "size": size, **counts, **knobs}
    facts = {"rows": sum(counts.values())}
    packed = pack(Path(store), "procedural", source, lambda: _rows(seed, size, counts, knobs), lambda: facts)
    splits = {name: _split(name, packed.splits[name]) for name in SPLITS}
    notes = {"packed": packed.folder.name, **source}
    return Dataset("procedural", EMOTIONS, f"procedural seed {seed}, votes of {ANNOTATORS}", splits, notes)


def _check(values: dict, whole: bool) -> None:
    for name, (value, low, high) in values.items():
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not (number and low <= value <= high):
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"data.{name}: {value!r} was asked for; give {kind} from {low} to {high}.")


def draw(seed: int, split: int, count: int, size: int, first: int = 0, **knobs) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures `first` to `first + count` of a split.

    Args:
        seed: of the data set.
        split: 0 train, 1 valid, 2 test, 3 contact sheet.
        count: number of pictures N.
        size: their side H [pixels].
        first: a multiple of 8.
        knobs: intensity, mixture, occlusion, pose, light.

    Returns:
        pictures [N, H, H] uint8 and votes [N, 8].
    """
    faces, votes, grain = people(seed, split, count, size, first, **knobs)
    return render(faces, grain), votes


def _rows(seed: int, size: int, counts: dict, knobs: dict) -> Iterator[Row]:
    for number, (name, count) in enumerate(counts.items()):
        for first in range(0, count, BLOCK):
            pictures, votes = draw(seed, number, min(BLOCK, count - first), size, first, **knobs)
            for i, (picture, vote) in enumerate(zip(pictures, votes, strict=True), first):
                yield Row(name, f"{name}-{i:06d}", picture[None], vote)


def _split(name, packed) -> Split:
    target = packed.annotations / np.float32(ANNOTATORS)
    label = packed.annotations.argmax(1).astype(np.int64)
    rows = np.arange(len(label), dtype=np.int64)
    return Split(name, packed.pixels, rows, target, label, packed.ids, packed.sha256)


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


def main(arguments: list[str]) -> None:
    """Draw the contact sheet into the one file that is named."""
    if arguments in (["-h"], ["--help"]):
        sys.exit(print(__doc__))
    if len(arguments) != 1:
        sys.exit("Which file? Type: python -m distill.data.procedural OUT.png")
    contact_sheet(arguments[0])
    print(f"{arguments[0]}: {', '.join(EMOTIONS)}, from above")


if __name__ == "__main__":
    main(sys.argv[1:])
