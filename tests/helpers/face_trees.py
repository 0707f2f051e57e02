"""Writes tiny labelled data sets of noise in the layouts in which they are distributed."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.common.emotions import SEVEN


def face(name: str, size: int = 20) -> Image.Image:
    """Noise that depends on the name alone, RGB."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))


def save(path: Path, name: str | None = None, size: int = 20) -> Path:
    """Save the noise of a name, the path's own without one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    face(name or path.name, size).save(path)
    return path


def pixels(split, name: str) -> np.ndarray:
    """What a split stores for one id, [C, H, W]."""
    return split.pixels[split.rows[split.ids.index(name)]]


def labels(data) -> dict[str, str]:
    """Id -> class name over all splits."""
    pairs = [(i, data.classes[k]) for s in data.splits.values() for i, k in zip(s.ids, s.label, strict=True)]
    assert len(dict(pairs)) == len(pairs), "a picture is in two splits"
    return dict(pairs)


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_class_folders(root: Path, names=SEVEN, number: int = 10, suffix: str = ".png") -> Path:
    """Write `root/<name>/<name><i>.png`."""
    for name in names:
        for i in range(number):
            save(root / name / f"{root.name}_{name}{i}{suffix}")
    return root


def no_pack_left(store: Path) -> bool:
    return [p for p in store.glob("packed/*") if p.suffix != ".lock"] == []


def refused_by(open_it, root: Path, match: str, **options) -> None:
    """Check that a data set is refused with a sentence and that no complete pack is left in the store beside it."""
    with pytest.raises(ValueError, match=match):
        open_it(root, **options)
    assert not list((root.parent / "store").glob("packed/*/manifest.json"))
