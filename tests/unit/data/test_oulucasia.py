"""Oulu-CASIA as a list of aligned faces and as sequences: fold k is persons 8 k to 8 k + 7; broken rows are named."""

from functools import partial

import numpy as np
import pytest
from face_trees import refused_by
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.data.oulucasia import oulucasia

ORDER = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")  # Oulu-CASIA's numbers
LIST = "ourOluCasia_labelstest.txt"


def write(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 16), (level,) * 3).save(path)


def name(person, label):
    return f"{person}/{label}_{person:03}.png"


@pytest.fixture
def root(tmp_path):
    """One picture of each emotion of 80 persons, and the published list."""
    root = tmp_path / "AuthorOluCasia"
    rows = [(person, label) for person in range(80) for label in range(7)]
    for person, label in rows:
        write(root / "ourOluCasiatest" / name(person, label), 3 * person % 200 + label)
    (root / LIST).write_text("".join(f"{name(p, label)} {p}_{label}\n" for p, label in rows))
    return root


def open_it(root, **options):
    return oulucasia(root.parent / "store", root, **{"size": 8} | options)


refused = partial(refused_by, open_it)


def persons(split):
    return {int(name.split("/")[0]) for name in split.ids}


@pytest.mark.parametrize("fold", [0, 4, 9])
def test_fold_k_tests_persons_8k_to_8k_plus_7(root, fold):
    data = open_it(root, fold=fold)
    train, valid, test = (persons(data.splits[split]) for split in ("train", "valid", "test"))
    assert test == set(range(8 * fold, 8 * fold + 8)) and len(data.splits["test"]) == 56
    assert not train & valid and train | valid | test == set(range(80)) and len(valid) == 7
    assert f"test: fold {fold} of 10 by persons" in data.protocol and LIST in data.protocol


def test_labels_are_read_in_the_canonical_order(root):
    data = open_it(root)
    assert data.classes == EMOTIONS[:7]
    for split in data.splits.values():
        numbers = [int(name.split("/")[1][0]) for name in split.ids]
        assert [EMOTIONS[k] for k in split.label] == [ORDER[number] for number in numbers]
        levels = [3 * int(name.split("/")[0]) % 200 + k for name, k in zip(split.ids, numbers, strict=True)]
        assert np.rint(split.pixels[split.rows].mean((1, 2, 3))).tolist() == levels


def test_a_person_who_is_not_there_moves_nobody_into_another_fold(root):
    rows = (root / LIST).read_text().splitlines(True)
    (root / LIST).write_text("".join(row for row in rows if not row.startswith(("2/", "9/"))))
    assert persons(open_it(root, fold=0).splits["test"]) == {0, 1, 3, 4, 5, 6, 7}
    assert persons(open_it(root, fold=1).splits["test"]) == {8, 10, 11, 12, 13, 14, 15}


def test_other_numbers_of_folds_and_none(root):
    assert persons(open_it(root, folds=5, fold=1).splits["test"]) == set(range(16, 32))
    assert len(open_it(root, fold=None, test=1).splits["test"]) == 560
    with pytest.raises(ValueError, match=r"data.fold: expected 0 to 9, got 10"):
        open_it(root, fold=10)
    with pytest.raises(ValueError, match=r"data.folds: expected 2 to 80, the number of persons, such as 10, got 81"):
        open_it(root, folds=81)


def test_list_and_pictures_may_have_other_names(root):
    (root / LIST).rename(root / "mine.txt")
    (root / "ourOluCasiatest").rename(root / "aligned")
    data = open_it(root, list_file="mine.txt", images="aligned")
    assert len(data.splits["test"]) == 56 and "mine.txt" in data.protocol
    with pytest.raises(ValueError, match=r"data.list_file: .*yours.txt is not there. Give a path from data.root"):
        open_it(root, list_file="yours.txt")
    with pytest.raises(ValueError, match=r"data.images: .*pictures is not there"):
        open_it(root, list_file="mine.txt", images="pictures")
    with pytest.raises(ValueError, match=r"data.root: .*mine.txt but no ourOluCasiatest"):
        open_it(root, list_file="mine.txt")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{name(0, 1)} 0_7", r"row 2: '7' is no label. Write one of 0 neutral, 1 anger, 2 disgust"),
        (f"{name(0, 1)} 80_1", r"row 2: '80_1' is no <person>_<label> such as 7_4, persons from 0 to 79"),
        (f"{name(0, 1)} 1", r"row 2: '1' is no <person>_<label>"),
        (name(0, 1), r"row 2 is '0/1_000.png'; it must be: file <person>_<label>"),
        (f"{name(0, 0)} 0_0", r"row 2 lists 0/0_000.png again, it was .*row 1"),
        ("0/9.png 0_1", r"row 2: .*0/9.png is not there"),
    ],
)
def test_a_broken_row_is_named(root, text, match):
    rows = (root / LIST).read_text().splitlines()
    rows[1] = text
    (root / LIST).write_text("\n".join(rows))
    refused(root, rf"{LIST} {match}")


def test_a_picture_that_is_cut_off_is_named(root):
    picture = root / "ourOluCasiatest" / name(3, 2)
    picture.write_bytes(picture.read_bytes()[:45])
    refused(root, rf"{LIST} row 24: {name(3, 2)} cannot be read")


def test_an_empty_list_is_named(root):
    (root / LIST).write_text("")
    refused(root, "There is not one picture|holds no picture")


def test_oulucasia_root_without_oulucasia_is_told_its_layout(root, tmp_path):
    (root / LIST).unlink()
    refused(root, rf"data.root: .* has neither {LIST} nor VL/Strong. Give a folder with {LIST} and ourOluCasiatest")
    refused(tmp_path / "nowhere", r"data.root: .*nowhere does not exist")


# Sequences as distributed

FOLDERS = {"Anger": 1, "Disgust": 2, "Fear": 3, "Happiness": 4, "Sadness": 5, "Surprise": 6}


@pytest.fixture
def sequences(tmp_path):
    """Five frames of each emotion of 20 persons, in OriginalImg/VL/Strong/P001/Anger."""
    root = tmp_path / "Oulu"
    for person in range(1, 21):
        for folder, label in FOLDERS.items():
            for k in range(5):
                write(root / f"OriginalImg/VL/Strong/P{person:03}/{folder}/{k:03}.jpeg", 20 * label + 4 * k)
    return root


def test_sequences_give_their_last_three_frames_and_the_first_as_neutral(sequences):
    data = open_it(sequences, fold=1)
    test = data.splits["test"]
    assert {name.split("/")[0] for name in test.ids} == {f"P{n:03}" for n in range(9, 17)}, "P001 is person 0"
    assert len(test) == 8 * 6 * 4 and "VL/Strong" in data.protocol
    for one, label in zip(test.ids, test.label, strict=True):
        _, folder, frame = one.split("/")
        assert EMOTIONS[label] == ("neutral" if frame == "000.jpeg" else ORDER[FOLDERS[folder]])
        assert frame != "001.jpeg"


def test_oulucasia_broken_sequence_is_named(sequences):
    home = sequences / "OriginalImg/VL/Strong"
    (home / "P004/Fear").rename(home / "P004/Boredom")
    refused(sequences, r"P004/Boredom: 'Boredom' is none of the classes")
    (home / "P004/Boredom").rename(home / "P004/Fear")
    for k in (0, 1):
        (home / f"P004/Fear/{k:03}.jpeg").unlink()
    refused(sequences, r"P004/Fear has 3 frames, 4 or more are needed")
    (home / "P004").rename(home / "P081")
    refused(sequences, r"P081/\w+: persons are P001 to P080")


def test_another_light_must_be_there(sequences):
    refused(sequences, r"has neither .* nor NI/Weak", light="NI/Weak")


def test_a_picture_that_the_list_leaves_out_is_counted(root):
    write(root / "ourOluCasiatest" / "0" / "other.png", 3)
    assert open_it(root).notes["left_out"] == {"in no list and no class's folder": [1, "0/other.png"]}
