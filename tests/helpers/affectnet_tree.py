"""Writes a tiny AffectNet of plain pictures in the official forms: the csv release and the npy release."""

import csv

import numpy as np
from PIL import Image

COLUMNS = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
HEADER = COLUMNS.split()
ORDER = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")  # AffectNet's numbers
NONE, UNCERTAIN, NO_FACE = 8, 9, 10


def shade(expression, number=0):
    """Return the grey of a picture, which tells its expression."""
    return 20 + 20 * expression + number % 5


def face(path, expression, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (shade(expression, number),) * 3).save(path, quality=95)


def name(split, i):
    return f"{i % 3 + 1}/{split}{i:053d}.jpg"  # the published names: a folder, a hash of 56 digits


def row(path, expression):
    return [path, 5, 5, 30, 20, "1.5;2.5;3.5;4.5", expression, 0.1, -0.2]


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def edit(path, change):
    """Change the rows of one csv file."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    write(path, rows)


def write_csv_release(root):
    """Write 48 training and 16 validation pictures of 8 classes, and rows of no emotion whose pictures nobody needs."""
    for file, split, count, rows in (("training", "aaa", 48, [HEADER]), ("validation", "bbb", 16, [])):
        for i in range(count):
            face(root / "Manually_Annotated_Images" / name(split, i), i % 8, i)
            rows.append(row(name(split, i), i % 8))
        rows += [row(f"9/{split}-none.jpg", n) for n in (NONE, UNCERTAIN, NO_FACE)]
        write(root / f"{file}.csv", rows)
    return root


def write_npy_release(root):
    """Write train_set and val_set with images/<n>.jpg and annotations/<n>_{exp,val,aro,lnd}.npy; numbers have gaps."""
    for split, count in (("train_set", 24), ("val_set", 16)):
        (root / split / "annotations").mkdir(parents=True)
        for i in range(count):
            face(root / split / "images" / f"{3 * i}.jpg", i % 8, i)
            annotation = {"exp": str(i % 8), "val": "0.1", "aro": "-0.2", "lnd": np.arange(136.0)}
            for key, value in annotation.items():
                np.save(root / split / "annotations" / f"{3 * i}_{key}.npy", np.array(value))
    return root
