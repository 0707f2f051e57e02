"""Labeled pictures become train, valid and test: what is stored, who is held out, and what is refused."""

import importlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from face_trees import face, labels, pixels
from listed_faces import ABC, entry, listed, opened, persons
from PIL import Image

from distill.data.common.emotions import EMOTIONS, RAFDB, SEVEN, canonical, named, numbered
from distill.data.common.labeled import labeled
from distill.data.common.options import DataOptions


def lengths(data):
    return {name: len(split) for name, split in data.splits.items()}


# What is stored


def test_pictures_labels_and_ids_come_back_as_listed(tmp_path):
    data = opened(tmp_path, listed(train=30, valid=6, test=9))
    assert lengths(data) == {"train": 30, "valid": 6, "test": 9} and data.classes == ABC
    for name, split in data.splits.items():
        assert split.ids == tuple(e.id for e in listed(**{name: len(split)}))
        np.testing.assert_array_equal(split.label, np.arange(len(split)) % 3)
        np.testing.assert_array_equal(split.target, np.eye(3, dtype=np.float32)[split.label])
        for i in split.ids:
            np.testing.assert_array_equal(pixels(split, i).transpose(1, 2, 0), np.asarray(face(i)))
    assert data.splits["train"].target.dtype == np.float32 and data.splits["train"].rows.dtype == np.int64


def test_gray_is_stored_as_one_channel_and_color_as_three(tmp_path):
    gray, color = (opened(tmp_path, listed(train=30, test=9), channels=c).splits["test"] for c in (1, 3))
    name = "test/004.png"
    np.testing.assert_array_equal(pixels(gray, name)[0], np.asarray(face(name).convert("L")))
    assert pixels(color, name).shape == (3, 20, 20)


def test_a_gray_picture_is_repeated_where_color_is_stored(tmp_path):
    entries = [e._replace(load=lambda e=e: face(e.id).convert("L")) for e in listed(train=30, test=9)]
    stored = pixels(opened(tmp_path, entries).splits["test"], "test/004.png")
    assert (stored == stored[0]).all()


def test_pictures_are_resized_with_antialiasing(tmp_path):
    board = Image.fromarray((np.indices((160, 160)).sum(0) % 2 * 255).astype(np.uint8))
    entries = [e._replace(load=lambda: board) for e in listed(train=30, test=9)]
    stored = opened(tmp_path, entries, channels=1, size=20).splits["train"].pixels
    assert stored.shape[1:] == (1, 20, 20) and np.abs(stored.astype(int) - 127).max() <= 3


def test_the_second_call_neither_lists_nor_opens_anything(tmp_path):
    first = opened(tmp_path, listed(train=30, test=9))
    must_not = map(pytest.fail, ["listed again"])
    again = opened(tmp_path, must_not, size=20, valid=0.3, seed=2, limit=5)
    assert again.notes["packed"] == first.notes["packed"] and len(again.splits["valid"]) == 5


def test_a_reader_of_ones_own_that_was_changed_packs_again(tmp_path):
    file = tmp_path / "mine.py"

    def read(label: str) -> list[int]:
        file.write_text(f"entries = lambda: [e._replace(label={label}) for e in given]")
        inside = {"__name__": "mine", "given": listed(train=30, test=9)}
        exec(compile(file.read_text(), file, "exec"), inside)
        data = labeled(tmp_path, "faces", {"reader": "test"}, inside["entries"], ABC, options=DataOptions(size=20))
        return data.splits["test"].label.tolist()

    assert read("e.label") == [k % 3 for k in range(9)]
    assert read("2 - e.label") == [2 - k % 3 for k in range(9)]


def test_a_reader_of_ones_own_packs_again_when_the_module_beside_it_was_changed_that_it_takes_names_from(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_reader.py").write_text("from own_lines import rows\n\ndef entries(given): return rows(given)\n")

    def read(label: str) -> list[int]:
        (tmp_path / "own_lines.py").write_text(f"def rows(given): return [e._replace(label={label}) for e in given]\n")
        for name in ("own_reader", "own_lines"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        entries = partial(importlib.import_module("own_reader").entries, listed(train=30, test=9))
        data = labeled(tmp_path, "faces", {"reader": "test"}, entries, ABC, options=DataOptions(size=20))
        return data.splits["test"].label.tolist()

    assert read("e.label") == [k % 3 for k in range(9)]
    assert read("2 - e.label") == [2 - k % 3 for k in range(9)]


def test_classes_that_are_left_out_share_the_pack_of_all(tmp_path):
    entries = [entry(split, i, label=i % 8) for split in ("train", "test") for i in range(80)]
    eight = opened(tmp_path, entries, EMOTIONS)
    seven = opened(tmp_path, entries, EMOTIONS, keep=SEVEN)
    assert eight.notes["packed"] == seven.notes["packed"] and seven.classes == SEVEN
    assert labels(seven) == {i: name for i, name in labels(eight).items() if name != "contempt"}
    assert seven.splits["train"].target.shape[1] == 7
    other = opened(tmp_path, entries, EMOTIONS, keep=("surprise", "sadness"))
    assert set(labels(other).values()) == {"surprise", "sadness"} and len(other.splits["test"]) == 20


# What is held out


def test_validation_is_held_out_of_every_class_of_train_where_there_is_none(tmp_path):
    data = opened(tmp_path, listed(train=300, test=30), valid=0.2)
    assert lengths(data) == {"train": 240, "valid": 60, "test": 30}
    assert np.bincount(data.splits["valid"].label).tolist() == [20, 20, 20]
    assert len(labels(data)) == 330 and data.protocol == "valid: 20% of train held out by pictures, seed 0"
    assert all((np.diff(split.rows) > 0).all() for split in data.splits.values())


def test_the_same_pictures_are_held_out_whatever_their_order_and_others_for_another_seed(tmp_path):
    entries = listed(train=300, test=30)
    held = set(opened(tmp_path / "a", entries).splits["valid"].ids)
    assert held == set(opened(tmp_path / "b", entries[::-1]).splits["valid"].ids)
    other = set(opened(tmp_path / "a", entries, seed=1).splits["valid"].ids)
    assert len(held) == len(other) == 30 and len(held & other) < 15


def test_a_distributed_validation_split_stays_as_it_is(tmp_path):
    data = opened(tmp_path, listed(train=30, valid=6, test=9), valid=0.5, words="official")
    assert lengths(data) == {"train": 30, "valid": 6, "test": 9} and data.protocol == "official"


def test_a_class_keeps_a_picture_for_training_and_gives_one_to_validation(tmp_path):
    entries = [entry("train", i, label=min(i, 2)) for i in range(60)] + [entry("train", 99, label=1)] + listed(test=3)
    data = opened(tmp_path, entries)
    assert np.bincount(data.splits["train"].label, minlength=3).tolist() == [1, 1, 52]
    assert np.bincount(data.splits["valid"].label, minlength=3).tolist() == [0, 1, 6]


def test_labeled_without_splits_holds_test_out_too(tmp_path):
    data = opened(tmp_path, listed(all=300), valid=0.25, test=0.2)
    assert lengths(data) == {"train": 180, "valid": 60, "test": 60} and len(labels(data)) == 300
    assert len({id(split.pixels) for split in data.splits.values()}) == 1
    assert data.protocol.startswith("test: 20% held out by pictures, seed 0; valid: 25% of the rest")


def test_test_1_leaves_a_test_split_alone(tmp_path):
    data = opened(tmp_path, listed(all=30), test=1)
    assert lengths(data) == {"test": 30} and data.protocol == "test: all pictures"


def who(data):
    return {name: {int(i[4:7]) // 6 for i in split.ids} for name, split in data.splits.items()}


@pytest.mark.parametrize("options", [{}, {"fold": 0, "folds": 10}, {"fold": 3, "folds": 4}])
def test_labeled_person_is_in_one_split(tmp_path, options):
    data = opened(tmp_path, persons(), **options)
    found = who(data)
    assert sum(map(len, found.values())) == 80 and set.union(*found.values()) == set(range(80))
    assert 0.05 < len(data.splits["valid"]) / (480 - len(data.splits["test"])) < 0.15


def test_persons_of_a_distributed_train_split_are_held_out_whole(tmp_path):
    entries = [e._replace(split="train") for e in persons(20)] + [entry("test", i) for i in range(6)]
    valid = opened(tmp_path, entries).splits["valid"]
    assert len(valid) == 12 and len({i[4:7] for i in valid.ids}) == 12


def test_fold_k_of_80_persons_in_10_folds_tests_persons_8_k_to_8_k_plus_7(tmp_path):
    for fold in range(10):
        data = opened(tmp_path, persons(), fold=fold, folds=10)
        assert who(data)["test"] == set(range(8 * fold, 8 * fold + 8))
    assert data.protocol.startswith("test: fold 9 of 10 by persons; valid: 10% of the rest held out by persons")


def test_folds_may_be_told_as_lists_of_persons_and_others_are_left_out(tmp_path):
    data = opened(tmp_path, persons(), fold=1, folds=[["5", "6"], ["70", "2"], [str(i) for i in range(20, 40)]])
    assert who(data)["test"] == {70, 2} and who(data)["train"] | who(data)["valid"] == {5, 6, *range(20, 40)}


def test_limit_keeps_all_classes_of_pictures_that_come_class_by_class(tmp_path):
    entries = [entry(split, i, label=i // 30) for split in ("train", "test") for i in range(90)]
    data = opened(tmp_path, entries, limit=9)
    assert lengths(data) == {"train": 9, "valid": 9, "test": 9}
    assert all(np.bincount(split.label).tolist() == [3, 3, 3] for split in data.splits.values())


# Test subsets


def test_a_subset_is_the_listed_pictures_by_id_or_stem_and_counts_what_is_missing(tmp_path):
    asked = {"pose30": ["test/004.png", "007", "nobody", "train/003.png"], "pose45": ["008"]}
    data = opened(tmp_path, listed(train=30, test=30), subsets=asked)
    ids = {name: split.ids for name, split in data.extra_test_splits.items()}
    assert ids == {"pose30": ("test/004.png", "test/007.png"), "pose45": ("test/008.png",)}
    assert data.notes["test_subset"]["pose30"] == {"listed": 4, "found": 2, "missing": 2}
    assert len(data.splits["train"]) == 27 and len(data.splits["test"]) == 30
    assert pixels(data.extra_test_splits["pose45"], "test/008.png").shape == (3, 20, 20)


def test_labels_of_a_subsets_list_are_compared(tmp_path):
    data = opened(tmp_path, listed(train=30, test=30), subsets={"pose30": {"004": 1, "007": 1, "008": 0, "009": 0}})
    assert data.notes["test_subset"]["pose30"]["other_label"] == 1


def test_a_stem_that_two_pictures_have_names_neither(tmp_path):
    entries = [*listed(train=30, test=30), entry("test", 40)._replace(id="test/more/004.jpg")]
    data = opened(tmp_path, entries, subsets={"pose30": ["004", "005"]})
    assert data.extra_test_splits["pose30"].ids == ("test/005.png",)


# Names


def test_numbers_and_names_of_label_files_find_their_class():
    assert [numbered(str(i), RAFDB, SEVEN, "row 1", first=1) for i in range(1, 8)] == [2, 6, 5, 1, 3, 4, 0]
    assert named("Happy", SEVEN, "row 1") == named(" happiness", SEVEN, "row 1") == SEVEN.index("happiness")
    assert canonical("neural") == "neutral" and canonical("bored") is None


@pytest.mark.parametrize("text", ["0", "8", "-1", "x", "", "1.5"])
def test_a_number_that_is_no_label_is_refused_with_the_known_ones(text):
    with pytest.raises(ValueError, match=rf"a.txt row 3: '{text}' is no label. Write one of 1 surprise, 2 fear"):
        numbered(text, RAFDB, SEVEN, "a.txt row 3", first=1)


@pytest.mark.parametrize("name", ["bored", "contempt"])
def test_a_name_that_is_no_class_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is none of the classes neutral, happiness"):
        named(name, SEVEN, str(Path("a") / name))
