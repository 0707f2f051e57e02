"""Writes a tiny FER+ of noise in the official forms: label.csv and PNG in folders, their archive, the csv pair."""

import csv
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
FOLDERS = {"train": "FER2013Train", "valid": "FER2013Valid", "test": "FER2013Test"}
USAGE = {"train": "Training", "valid": "PublicTest", "test": "PrivateTest"}
FIRST = {"train": 0, "valid": 28638, "test": 32220}  # number of the first picture of each split, as published
SIZES = {"train": 24, "valid": 10, "test": 12}


def faces(seed: int = 0, sizes: dict[str, int] = SIZES) -> dict[str, list[tuple[str, np.ndarray, list[int]]]]:
    """Draw noise pictures and votes: {split: [(name, [48, 48] uint8, ten votes)]}; every picture has a majority."""
    rng = np.random.default_rng(seed)
    made = {}
    for split, number in sizes.items():
        rows = []
        for i in range(number):
            votes = [0] * 10
            votes[i % 8], votes[(i + 1) % 8], votes[8] = 7, 2, 1
            rows.append((f"fer{FIRST[split] + i:07d}.png", rng.integers(0, 256, (48, 48), np.uint8), votes))
        made[split] = rows
    return made


def write_folders(root: Path, made=None) -> Path:
    """Write FER2013Train|Valid|Test, each with label.csv (no header: file, box, ten votes) and PNG."""
    for split, rows in (made or faces()).items():
        folder = root / FOLDERS[split]
        folder.mkdir(parents=True)
        for name, pixels, _ in rows:
            Image.fromarray(pixels).save(folder / name)
        write_labels(folder / "label.csv", [[name, "(0, 0, 48, 48)", *votes] for name, _, votes in rows])
    return root


def write_labels(path: Path, rows: list[list]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def read_labels(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def edit(root: Path, change: Callable[[list], object], split: str = "train") -> None:
    """Change the rows of one label.csv."""
    path = root / FOLDERS[split] / "label.csv"
    rows = read_labels(path)
    change(rows)
    write_labels(path, rows)


def archive(root: Path, path: Path) -> Path:
    """Put the folders below root into a .tar.gz (pictures before label.csv, as published) or a .zip."""
    files = sorted((p for p in root.rglob("*") if p.is_file()), key=lambda p: (p.parent, p.suffix == ".csv", p.name))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as out:
            for file in files:
                out.write(file, file.relative_to(root).as_posix())
    else:
        with tarfile.open(path, "w:gz") as out:
            for file in files:
                out.add(file, file.relative_to(root).as_posix())
    return path


def write_csv_pair(root: Path, made=None, blank_rows: int = 2) -> Path:
    """Write fer2013.csv (emotion, pixels, Usage) and fer2013new.csv; the first rows are blank, without image name."""
    root.mkdir(parents=True, exist_ok=True)
    pixels, votes = [["emotion", "pixels", "Usage"]], [["Usage", "Image name", *VOTES]]
    for _ in range(blank_rows):
        pixels.append([0, " ".join(["0"] * 48 * 48), "Training"])
        votes.append(["Training", "", *[0] * 9, 10])
    for split, rows in (made or faces()).items():
        for name, picture, ten in rows:
            pixels.append([0, " ".join(map(str, picture.ravel())), USAGE[split]])
            votes.append([USAGE[split], name, *ten])
    write_labels(root / "fer2013.csv", pixels)
    write_labels(root / "fer2013new.csv", votes)
    return root
