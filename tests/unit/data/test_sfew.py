"""SFEW with list files and with class folders, written by the test; broken rows are named with file and row."""

from functools import partial

import numpy as np
import pytest
from face_trees import refused_by
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.data.sfew import sfew

ORDER = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry")  # the numbers of the lists
SPLITS = {"train": ("Train_Aligned_Faces", 28), "val": ("Val_Aligned_Faces", 14)}


def name(i):
    return f"{ORDER[i % 7]}/Airheads_{i:09d}_{i:08d}.png"


def write_folders(root):
    """Write 28 + 14 pictures in folders Angry, Disgust, ...; the gray tells the emotion."""
    for folder, count in SPLITS.values():
        for i in range(count):
            path = root / folder / name(i)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (36, 45), (30 * (i % 7) + 10,) * 3).save(path)
    return root


def write_lists(root):
    for split, (_, count) in SPLITS.items():
        (root / f"sfew_{split}.txt").write_text("".join(f"{name(i)} {i % 7}\n" for i in range(count)))
    return root


def edit(path, row, text):
    rows = path.read_text().splitlines()
    rows[row - 1] = text
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture
def root(tmp_path):
    return write_lists(write_folders(tmp_path / "SFEW"))


def open_it(root, **options):
    return sfew(root.parent / "store", root, **{"size": 16, "valid": 0.25} | options)


refused = partial(refused_by, open_it)


def grays(split):
    return np.rint(split.pixels[split.rows].mean((1, 2, 3))).tolist()


CANONICAL = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")


def test_lists_are_read_in_the_canonical_order_and_validation_is_the_test_split(root):
    data = open_it(root)
    assert data.classes == EMOTIONS[:7]
    assert {split: len(data.splits[split]) for split in data.splits} == {"train": 21, "valid": 7, "test": 14}
    test = data.splits["test"]
    assert [EMOTIONS[k] for k in test.label] == [CANONICAL[i % 7] for i in range(14)]
    assert grays(test) == [30 * (i % 7) + 10 for i in range(14)], "each label is that of its own picture"
    assert "test is the published validation set" in data.protocol and "valid: 25% of train held out" in data.protocol
    assert not set(data.splits["train"].ids) & set(data.splits["valid"].ids)


@pytest.mark.parametrize("names", [("Train", "Val"), ("Train_Aligned_Faces", "Val_Aligned_Faces_new")])
def test_sfew_without_lists_reads_labels_from_folders(tmp_path, names):
    root = write_folders(tmp_path / "SFEW")
    for (folder, _), renamed in zip(SPLITS.values(), names, strict=True):
        (root / folder).rename(root / renamed)
    test = open_it(root).splits["test"]
    assert len(test) == 14
    assert sorted(zip([EMOTIONS[k] for k in test.label], grays(test), strict=True)) == sorted(
        (CANONICAL[i % 7], 30 * (i % 7) + 10) for i in range(14)
    )


def test_sfew_with_one_list_alone_is_refused(root):
    (root / "sfew_val.txt").unlink()
    refused(root, r"data.root: .* has no sfew_val.txt beside sfew_train.txt. Copy it there")


def test_a_missing_folder_is_named(root):
    (root / "Val_Aligned_Faces").rename(root / "Validation")
    refused(root, r"has no Val_Aligned_Faces or .*Give a folder with Train_Aligned_Faces and Val_Aligned_Faces")


def test_a_label_that_is_none_is_named(root):
    edit(root / "sfew_val.txt", 3, f"{name(2)} 7")
    refused(root, r"sfew_val.txt row 3: '7' is no label. Write one of 0 neutral, 1 happiness, 2 sadness")


def test_a_label_that_its_folder_contradicts_is_named(root):
    edit(root / "sfew_val.txt", 3, f"{name(2)} 1")
    refused(root, r"sfew_val.txt row 3: label 1 is happiness, but Sad/Airheads_.* is in a folder of sadness")


def test_a_row_without_label_is_named(root):
    edit(root / "sfew_train.txt", 5, name(4))
    refused(root, r"sfew_train.txt row 5 is 'Fear/.*png'; it must be: file label")


def test_a_picture_that_is_not_there_and_one_that_is_cut_off_are_named(root):
    picture = root / "Train_Aligned_Faces" / name(4)
    whole = picture.read_bytes()
    picture.write_bytes(whole[:50])
    refused(root, rf"sfew_train.txt row 5: train/{name(4)} cannot be read")
    picture.unlink()
    refused(root, rf"sfew_train.txt row 5: .*{name(4)} is not there")


def test_a_picture_listed_twice_is_named(root):
    edit(root / "sfew_train.txt", 8, f"{name(0)} 0")
    refused(root, rf"sfew_train.txt row 8 lists train/{name(0)} again, it was .*sfew_train.txt row 1")


def test_a_folder_that_is_no_emotion_is_named(tmp_path):
    root = write_folders(tmp_path / "SFEW")
    (root / "Train_Aligned_Faces" / "Bored").mkdir()
    refused(root, r"Train_Aligned_Faces/Bored: 'Bored' is none of the classes neutral, happiness")


def test_an_empty_list_and_a_class_without_pictures_are_named(root):
    whole = (root / "sfew_val.txt").read_text()
    (root / "sfew_val.txt").write_text("")
    with pytest.raises(ValueError, match=r"data.root: sfew holds no picture for test"):
        open_it(root)
    (root / "sfew_val.txt").write_text(whole)
    rows = (root / "sfew_train.txt").read_text().splitlines()
    (root / "sfew_train.txt").write_text("\n".join(row for row in rows if not row.startswith("Fear")))
    with pytest.raises(ValueError, match=r"data.root: sfew has no picture of fear among its 18 for train"):
        open_it(root)


def test_a_picture_that_no_row_names_is_counted(root):
    edit(root / "sfew_train.txt", 1, "")
    assert open_it(root).notes["left_out"] == {"in no list and no class's folder": [1, name(0)]}
