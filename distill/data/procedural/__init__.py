"""Procedural faces: a seeded data set of gray drawings with eight expressions; nothing to download."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill.data.common.emotions import EMOTIONS
from distill.data.packing.reader import Row, pack
from distill.data.procedural.camera import render
from distill.data.procedural.people import ANNOTATORS, people
from distill.system.errors import ConfigError
from distill.system.typed import as_typed
from distill.types import Dataset, Split

SPLITS = ("train", "valid", "test")
SHEET = 3  # the number of a fourth split: people of the contact sheet
BLOCK = 2048  # pictures in memory at a time; a multiple of the eight that show one person
MODULES = ("__init__.py", "people.py", "faces.py", "camera.py")


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

    Picture i of a split depends on (seed, split, i) and the parameters alone; eight in a row show one person, once with each
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
    parameters = {"intensity": intensity, "mixture": mixture, "occlusion": occlusion, "pose": pose, "light": light}
    _check({"seed": (seed, 0, 2**63), "size": (size, 24, 1024)}, integer=True)
    _check({name: (count, 8, 2**32) for name, count in counts.items()}, integer=True)
    _check(
        {name: (knob, 0, 1.5 if name in ("pose", "light") else 1) for name, knob in parameters.items()}, integer=False
    )
    renderer_sha256 = hashlib.sha256(
        b"".join(Path(__file__).with_name(name).read_bytes() for name in MODULES)
    ).hexdigest()
    source = {"renderer_sha256": renderer_sha256, "seed": seed, "size": size, **counts, **parameters}
    facts = {"rows": sum(counts.values())}
    packed = pack(Path(store), "procedural", source, lambda: _rows(seed, size, counts, parameters), lambda: facts)
    splits = {name: _split(name, packed.splits[name]) for name in SPLITS}
    notes = {"packed": packed.folder.name, **source}
    return Dataset("procedural", EMOTIONS, f"procedural seed {seed}, votes of {ANNOTATORS}", splits, notes)


def _check(values: dict, integer: bool) -> None:
    for name, (value, low, high) in values.items():
        number = isinstance(value, int if integer else int | float) and not isinstance(value, bool)
        if not (number and low <= value <= high):
            kind = "a whole number" if integer else "a number"
            raise ConfigError(f"data.{name}", f"expected {kind} from {low} to {high}, got {as_typed(value)}.")


def draw(seed: int, split: int, count: int, size: int, first: int = 0, **parameters) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures `first` to `first + count` of a split.

    Args:
        seed: of the data set.
        split: 0 train, 1 valid, 2 test, 3 contact sheet.
        count: number of pictures N.
        size: their side H [pixels].
        first: a multiple of 8.
        parameters: intensity, mixture, occlusion, pose, light.

    Returns:
        pictures [N, H, H] uint8 and votes [N, 8].
    """
    faces, votes, grain = people(seed, split, count, size, first, **parameters)
    return render(faces, grain), votes


def _rows(seed: int, size: int, counts: dict, parameters: dict) -> Iterator[Row]:
    for number, (name, count) in enumerate(counts.items()):
        for first in range(0, count, BLOCK):
            pictures, votes = draw(seed, number, min(BLOCK, count - first), size, first, **parameters)
            for i, (picture, vote) in enumerate(zip(pictures, votes, strict=True), first):
                yield Row(name, f"{name}-{i:06d}", picture[None], vote)


def _split(name, packed) -> Split:
    target = packed.annotations / np.float32(ANNOTATORS)
    label = packed.annotations.argmax(1).astype(np.int64)
    rows = np.arange(len(label), dtype=np.int64)
    return Split(name, packed.pixels, rows, target, label, packed.ids, packed.sha256)
