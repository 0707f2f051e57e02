"""JAFFE as distributed, ten women whose names and expressions are in the file names; broken names are named."""

from functools import partial

import numpy as np
import pytest
from face_trees import refused_by
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.data.jaffe import jaffe

WOMEN = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
CODES = {"NE": "neutral", "AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "SA": "sadness"}
CODES |= {"SU": "surprise"}
NUMBER = {code: i for i, code in enumerate(CODES)}  # of the list file
NAMES = [f"{woman}.{code}{k}.{7 * i + 1}.tiff" for i, woman in enumerate(WOMEN) for code in CODES for k in (1, 2)]


def gray(name):
    return 20 + 30 * NUMBER[name[3:5]]


def code_of(name):
    return CODES[name[3:5]]


@pytest.fixture
def root(tmp_path):
    """Two pictures of each expression of each woman, gray, TIFF, and the notes that lie beside them."""
    root = tmp_path / "jaffedbase"
    (root / "jaffe").mkdir(parents=True)
    for name in NAMES:
        Image.new("L", (32, 32), gray(name)).save(root / "jaffe" / name)
    (root / "jaffe" / "README_FIRST.txt").write_text("ratings")
    return root


def open_it(root, **options):
    return jaffe(root.parent / "store", root, **{"size": 16} | options)


refused = partial(refused_by, open_it)


def women(split):
    return {name[:2] for name in split.ids}


@pytest.mark.parametrize("fold", range(10))
def test_a_fold_is_one_woman_and_no_woman_is_in_two_splits(root, fold):
    data = open_it(root, fold=fold)
    train, valid, test = (data.splits[split] for split in ("train", "valid", "test"))
    assert women(test) == {WOMEN[fold]} and len(test) == 14
    assert len(women(valid)) == 1 and len(women(train)) == 8
    assert women(train) | women(valid) | women(test) == set(WOMEN)
    assert f"test: fold {fold} of 10 by persons" in data.protocol


def test_jaffe_names_tell_person_and_expression(root):
    data = open_it(root)
    assert data.classes == EMOTIONS[:7]
    for split in data.splits.values():
        assert [EMOTIONS[k] for k in split.label] == [code_of(name) for name in split.ids]
        assert np.rint(split.pixels[split.rows].mean((1, 2, 3))).tolist() == [gray(name) for name in split.ids]


def test_the_folder_itself_is_a_root_too(root):
    assert len(open_it(root / "jaffe").splits["test"]) == 14


def test_jaffe_with_test_1_is_a_test_set_for_students_that_learned_elsewhere(root):
    data = open_it(root, fold=None, test=1)
    assert list(data.splits) == ["test"] and len(data.splits["test"]) == 140


def test_jaffe_without_folds_holds_women_out(root):
    data = open_it(root, fold=None, test=0.3)
    assert len(women(data.splits["test"])) == 3 and not women(data.splits["test"]) & women(data.splits["train"])


def test_fewer_folds_have_several_women(root):
    assert women(open_it(root, folds=5, fold=1).splits["test"]) == {"KM", "KR"}


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("fold", 10, r"expected 0 to 9, got 10\."),
        ("folds", 11, r"expected 2 or more, at most the 10 persons, got 11\."),
    ],
)
def test_a_fold_that_does_not_exist_is_named(root, key, value, match):
    with pytest.raises(ValueError, match=rf"data.{key}: .*{match}"):
        open_it(root, **{key: value})


LISTED = [name for name in NAMES if "1." in name[4:7]]


@pytest.fixture
def listed(root):
    (root / "jaffe_test.txt").write_text("".join(f"{name} {NUMBER[name[3:5]]}\n" for name in LISTED))
    return root


def edit(root, row, text):
    rows = (root / "jaffe_test.txt").read_text().splitlines()
    rows[row - 1] = text
    (root / "jaffe_test.txt").write_text("\n".join(rows))


def test_jaffe_with_a_list_reads_its_pictures_alone(listed):
    data = open_it(listed, list_file="jaffe_test.txt", fold=None, test=1)
    assert data.splits["test"].ids == tuple(LISTED) and len(LISTED) == 70
    assert [EMOTIONS[k] for k in data.splits["test"].label] == [code_of(name) for name in LISTED]
    assert "jaffe_test.txt" in data.protocol


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{LISTED[1]} 7", r"row 2: '7' is no label. Write one of 0 neutral, 1 anger, 2 disgust"),
        (f"{LISTED[1]} 2", r"row 2: label 2 is disgust, but KA.AN1.1.tiff is anger by its name"),
        (f"{LISTED[0]} 0", r"row 2 lists KA.NE1.1.tiff again, it was .*jaffe_test.txt row 1"),
        (LISTED[1], r"row 2 is 'KA.AN1.1.tiff'; it must be: file label"),
        ("KA.AN9.99.tiff 1", r"row 2: .*KA.AN9.99.tiff is not there"),
        ("KA.XX1.1.tiff 1", r"row 2: KA.XX1.1.tiff tells no person and expression"),
    ],
)
def test_a_broken_row_of_a_list_is_named(listed, text, match):
    edit(listed, 2, text)
    refused(listed, rf"jaffe_test.txt {match}", list_file="jaffe_test.txt")


def test_a_list_that_is_not_there_is_named(root):
    refused(
        root, r"data.list_file: .*jaffe_test.txt is not there. Give a path from data.root", list_file="jaffe_test.txt"
    )


@pytest.mark.parametrize("name", ["KA.XX1.1.tiff", "KA-AN1-39.tiff", "face.png"])
def test_a_picture_whose_name_tells_nothing_is_named(root, name):
    Image.new("L", (8, 8)).save(root / "jaffe" / name)
    refused(root, rf"{name} tells no person and expression; names must be like NA.NE2.200.tiff, with one of NE, HA")


def test_a_picture_that_is_cut_off_is_named(root):
    path = root / "jaffe" / NAMES[5]
    path.write_bytes(path.read_bytes()[:300])
    refused(root, rf"{NAMES[5]} cannot be read")


def test_jaffe_root_with_two_folders_of_pictures_or_none_names_them(root, tmp_path):
    (root / "aligned").mkdir()
    Image.new("L", (8, 8)).save(root / "aligned" / NAMES[0])
    refused(root, r"data.root: .* must have one folder of pictures \(aligned, jaffe found\)")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"must have one folder of pictures \(none found\)")


def test_a_picture_that_the_list_leaves_out_is_counted(root):
    (root / "list.txt").write_text("".join(f"{name} {NUMBER[name[3:5]]}\n" for name in NAMES[1:]))
    counts = open_it(root, list_file="list.txt").notes["left_out"]
    assert counts == {"no picture": [1, "README_FIRST.txt"], "in no list and no class's folder": [1, NAMES[0]]}
