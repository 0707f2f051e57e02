"""Labeled pictures that are not as they should be: file and row are named, and no pack is left behind."""

import numpy as np
import pytest
from face_trees import no_pack_left, save
from listed_faces import entry, listed, opened, persons
from PIL import Image

from distill.data.common.image_files import picture


def refused(tmp_path, entries, match, **options):
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, entries, **options)


def test_a_subset_of_which_nothing_is_there_is_refused(tmp_path):
    refused(
        tmp_path,
        listed(train=30, test=9),
        "none of the 1 pictures listed for pose45 is among the 9",
        subsets={"pose45": ["x"]},
    )


def test_a_picture_listed_twice_is_named_with_both_places(tmp_path):
    entries = [*listed(train=30, test=9), entry("train", 7, where="list.txt row 99")]
    refused(tmp_path, entries, "list.txt row 99 lists train/007.png again, it was list.txt row 8. Delete one")
    assert no_pack_left(tmp_path)


def test_a_class_that_never_occurs_in_train_is_named(tmp_path):
    entries = [e for e in listed(train=30, test=9) if e.label != 1 or e.split == "test"]
    refused(tmp_path, entries, "faces has no picture of b among its 18 for train")


@pytest.mark.parametrize(("sizes", "missing"), [({"train": 9}, "test"), ({"test": 9}, "train")])
def test_a_split_without_pictures_is_named(tmp_path, sizes, missing):
    refused(tmp_path, listed(**sizes), f"data.root: faces holds no picture for {missing}")


def test_a_list_without_pictures_is_refused(tmp_path):
    refused(tmp_path, [], r"There is not one picture to pack in faces\. Check data\.root\.")


def truncated(tmp_path):
    path = save(tmp_path / "cut.png")
    path.write_bytes(path.read_bytes()[:400])
    return picture(path, "row")


def no_picture(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    return picture(tmp_path / "text.jpg", "row")


def floating(tmp_path):
    Image.fromarray(np.ones((20, 20), np.float32)).save(tmp_path / "floating.tif")
    return picture(tmp_path / "floating.tif", "row")


@pytest.mark.parametrize(
    ("write", "words"), [(truncated, ""), (no_picture, "no picture that can be read"), (floating, "floating-point")]
)
def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_left_behind(tmp_path, write, words):
    entries = listed(train=30, test=9)
    entries[7] = entry("train", 7, load=write(tmp_path))
    refused(tmp_path, entries, rf"list.txt row 8: train/007.png cannot be read \(.*{words}.*\). Put the whole picture")
    assert no_pack_left(tmp_path)


def test_rows_of_a_list_go_with_their_unreadable_pictures(tmp_path):
    entries = listed(train=30, test=9)
    entries[7], entries[9] = entry("train", 7, load=truncated(tmp_path)), entry("train", 9, load=truncated(tmp_path))
    refused(
        tmp_path, entries, r"^2 pictures .* row 8: train/007.png \(.*; .*009.png .*or remove them and their rows\.$"
    )


def test_a_picture_that_is_not_there_is_named_with_its_row(tmp_path):
    with pytest.raises(ValueError, match=r"list.txt row 3: .*gone.png is not there. Copy the picture, or delete"):
        picture(tmp_path / "gone.png", "list.txt row 3")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 4}, "data.size: expected 8 to 1024.*, got 4"),
        ({"channels": 2}, "data.channels: expected 1.*, got 2"),
        ({"valid": 0}, "data.valid: expected a share between 0 and 1.*, got 0"),
        ({"valid": 1.0}, "data.valid: expected a share .*, got 1.0"),
        ({"test": 0}, "data.test: expected .*, got 0"),
        ({"limit": 0}, "data.limit: expected 1 or more pictures of each split.*, got 0"),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_read(tmp_path, options, match):
    refused(tmp_path, None, match, **options)
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("entries", "options", "match"),
    [
        (persons(), {"fold": 10, "folds": 10}, "data.fold: expected 0 to 9, got 10"),
        (persons(), {"fold": 0, "folds": 81}, "data.folds: expected 2 or more, at most the 80 persons, got 81"),
        (persons(), {"fold": 0, "folds": [["1", "2"], ["2"]]}, "persons 2 are in two folds"),
        (persons(), {"fold": 0, "folds": [["x"], ["2"]]}, "holds no picture for .*test"),
        (listed(all=30), {"fold": 0, "folds": 3}, "tells no persons to make folds of"),
        (listed(train=30, test=9), {"fold": 0, "folds": 3}, "divided as distributed, it has no folds"),
        (persons(1), {}, "holds no picture for valid, test"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(tmp_path, entries, options, match):
    refused(tmp_path, entries, match, **options)
