"""AffectNet in both releases, written by the test in the official layout; broken rows are named with file and row."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from affectnet_tree import HEADER, NONE, ORDER, edit, name, row, shade, write, write_csv_release, write_npy_release
from face_trees import refused_by

from distill.data.affectnet import affectnet
from distill.data.common.emotions import EMOTIONS


@pytest.fixture
def root(tmp_path):
    return write_csv_release(tmp_path / "affectnet")


@pytest.fixture
def npy(tmp_path):
    return write_npy_release(tmp_path / "affectnet")


def open_it(root, **options):
    return affectnet(root.parent / "store", root, **{"size": 16, "valid": 0.25} | options)


refused = partial(refused_by, open_it)


def test_a_csv_release_is_read_in_the_canonical_order_and_its_validation_set_is_the_test_split(root):
    data = open_it(root)
    assert data.classes == EMOTIONS and data.notes["release"] == "csv"
    assert {split: len(data.splits[split]) for split in data.splits} == {"train": 40, "valid": 8, "test": 16}
    test = data.splits["test"]
    assert test.ids == tuple(name("bbb", i) for i in range(16)), "in the order of validation.csv, first row included"
    assert [EMOTIONS[k] for k in test.label] == [ORDER[i % 8] for i in range(16)]
    gray = test.pixels[test.rows].mean((1, 2, 3))
    assert np.abs(gray - [shade(i % 8, i) for i in range(16)]).max() < 3, "each label is that of its own picture"
    assert "test is the published validation set" in data.protocol and "valid: 25% of train held out" in data.protocol
    assert not set(data.splits["train"].ids) & set(data.splits["valid"].ids)


def test_seven_classes_leave_contempt_out_and_use_the_same_pack(root):
    eight, seven = open_it(root), open_it(root, classes=7)
    assert seven.classes == EMOTIONS[:7] and seven.notes["packed"] == eight.notes["packed"]
    assert len(seven.splits["test"]) == 14 and seven.splits["test"].target.shape == (14, 7)
    assert seven.splits["train"].label.max() == 6
    assert "AffectNet-7" in seven.protocol and "AffectNet-8" in eight.protocol


def test_a_training_file_without_header_and_a_validation_file_with_one_lose_no_row(root):
    edit(root / "training.csv", lambda rows: rows.pop(0))
    edit(root / "validation.csv", lambda rows: rows.insert(0, HEADER))
    data = open_it(root)
    assert len(data.splits["train"]) + len(data.splits["valid"]) == 48 and len(data.splits["test"]) == 16


def test_lists_in_a_folder_beside_the_pictures_are_found(root):
    (root / "Affectnetmetadata").mkdir()
    for file in ("training.csv", "validation.csv"):
        (root / file).rename(root / "Affectnetmetadata" / file)
    assert len(open_it(root).splits["test"]) == 16


def test_the_archives_are_read_as_they_unpack(root):
    expected = open_it(root)
    for part, files in (
        ("Manually_Annotated", ["Manually_Annotated_Images"]),
        ("Manually_Annotated_file_lists", ["training.csv", "validation.csv"]),
    ):
        (root / part).mkdir()
        for file in files:
            (root / file).rename(root / part / file)
    data = open_it(root)
    assert [data.splits[split].ids for split in data.splits] == [expected.splits[split].ids for split in data.splits]


def test_affectnet_with_several_folders_of_pictures_wants_one_named(root):
    (root / "Manually_Annotated_Images_aligned" / "1").mkdir(parents=True)
    refused(root, r"data.images: .* Manually_Annotated_Images, Manually_Annotated_Images_aligned. Give data.images one")
    assert len(open_it(root, images="Manually_Annotated_Images").splits["test"]) == 16
    with pytest.raises(ValueError, match=r"data.images: .*nowhere does not exist"):
        open_it(root, images="nowhere")


LINES = {
    "occlusion": ("occlusion_affectnet_list.txt", "val/{label}/{stem}/"),
    "pose30": ("pose_30_affectnet_list.txt", "{label}/{stem}.jpg"),
    "pose45": ("pose_45_affectnet_list.txt", "{label}/{stem}/8.jpg"),
    "pose45, as pose30 is written": ("pose_45_affectnet_list.txt", "{label}/{stem}.jpg"),
}


def listed(form, pictures):
    return "".join(LINES[form][1].format(label=i % 8, stem=f"bbb{i:053d}") + "\n" for i in pictures)


@pytest.mark.parametrize("form", LINES)
def test_a_published_list_chooses_the_test_pictures_by_name(root, form):
    (root / LINES[form][0]).write_text(listed(form, [7, 2, 2, 15, 99]))
    asked = form[:9].split(",")[0]
    data = open_it(root, test_subset=asked)
    assert data.extra_test_splits[asked].ids == (name("bbb", 2), name("bbb", 7), name("bbb", 15))
    assert [EMOTIONS[k] for k in data.extra_test_splits[asked].label] == ["sadness", "contempt", "contempt"]
    assert data.notes["test_subset"] == {asked: {"listed": 4, "found": 3, "missing": 1, "other_label": 0}}
    assert len(data.splits["train"]) == 40 and len(data.splits["test"]) == 16
    assert open_it(root).notes["packed"] == data.notes["packed"], "a subset needs no pack of its own"


def test_affectnet_subset_with_seven_classes_has_no_contempt(root):
    (root / "pose_30_affectnet_list.txt").write_text(listed("pose30", [1, 7]))
    assert open_it(root, test_subset="pose30", classes=7).extra_test_splits["pose30"].ids == (name("bbb", 1),)


def test_lists_are_looked_for_where_they_are_said_to_be(root):
    lists = root.parent / "lists"
    lists.mkdir()
    (lists / "occlusion_affectnet_list.txt").write_text(listed("occlusion", [3]))
    with pytest.raises(ValueError, match=r"data.test_subset: occlusion needs occlusion_affectnet_list.txt in"):
        open_it(root, test_subset="occlusion")
    assert len(open_it(root, test_subset="occlusion", subset_dir=str(lists)).extra_test_splits["occlusion"]) == 1


@pytest.mark.parametrize("line", ["bbb.jpg", "pose/0/bbb.jpg", "0/bbb/left.jpg", "11/bbb.jpg"])
def test_a_line_of_a_subset_list_that_is_none_is_named(root, line):
    (root / "pose_30_affectnet_list.txt").write_text(f"{listed('pose30', [1])}{line}\n")
    refused(root, r"pose_30_affectnet_list.txt row 2: .* (is no <label>/<name>|is no label)", test_subset="pose30")


def test_an_unknown_subset_or_number_of_classes_lists_the_known_ones(root):
    refused(
        root, r"data.test_subset: there is no subset 'pose60'. Use null or some of occlusion, ", test_subset="pose60"
    )
    refused(root, r"data.classes: expected 8, or 7 without contempt, got 6", classes=6)


def test_a_row_of_another_width_is_named(root):
    edit(root / "training.csv", lambda rows: rows[5].pop())
    refused(root, r"training.csv row 6 has 8 columns instead of 9: subDirectory_filePath, face_x, .*as published")


def test_columns_in_another_order_and_another_encoding_are_named(root):
    file = root / "training.csv"
    edit(file, lambda rows: rows[0].__setitem__(slice(6, 8), rows[0][7:5:-1]))
    refused(root, r"training.csv row 1 has other columns instead of 9: subDirectory_filePath, face_x, .*as published")
    file.write_bytes(file.read_text().encode("utf-16"))
    refused(root, r"training.csv is no UTF-8 text. Save it as CSV UTF-8")


@pytest.mark.parametrize("expression", ["11", "-1", "happy", "", "1.5"])
def test_an_unknown_expression_is_named(root, expression):
    edit(root / "validation.csv", lambda rows: rows[2].__setitem__(6, expression))
    refused(root, rf"validation.csv row 3: '{expression}' is no label. Write one of 0 neutral, 1 happiness, 2 sadness")


def test_a_picture_that_is_not_there_is_named(root):
    (root / "Manually_Annotated_Images" / name("aaa", 4)).unlink()
    refused(root, rf"training.csv row 6: .*{name('aaa', 4)} is not there")


def test_a_picture_that_is_cut_off_is_named_and_packing_goes_on_when_it_is_replaced(root):
    picture = root / "Manually_Annotated_Images" / name("aaa", 4)
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    refused(root, rf"training.csv row 6: {name('aaa', 4)} cannot be read .*Put the whole picture there")
    picture.write_bytes(whole)
    assert len(open_it(root).splits["test"]) == 16


@pytest.mark.parametrize("file", ["training", "validation"])
def test_a_picture_listed_twice_is_named_even_in_the_other_split(root, file):
    edit(root / f"{file}.csv", lambda rows: rows.append(row(name("aaa", 4), 4)))
    refused(root, rf"{file}.csv row \d+ lists {name('aaa', 4)} again, it was .*training.csv row 6")


def test_a_list_without_an_emotion_is_named(root):
    write(root / "validation.csv", [row("9/none.jpg", NONE)])
    with pytest.raises(ValueError, match=r"data.root: affectnet holds no picture for test"):
        open_it(root)


def test_affectnet_root_without_affectnet_is_told_its_layout(root, tmp_path):
    (root / "validation.csv").unlink()
    refused(root, r"holds no AffectNet, or half of it. Give a folder with training.csv, validation.csv and Manually_")
    refused(tmp_path / "nowhere", r"data.root: .*nowhere does not exist. Give a folder with training.csv")


def test_a_changed_list_is_read_again(root):
    before = open_it(root).notes["packed"]
    edit(root / "validation.csv", lambda rows: rows.pop(0))
    after = open_it(root)
    assert after.notes["packed"] != before and len(after.splits["test"]) == 15


def test_a_row_takes_so_little_memory_that_the_whole_data_set_stays_far_below_2_gb(tmp_path):
    images, count = tmp_path / "Manually_Annotated_Images", 4000
    (images / "1").mkdir(parents=True)
    write(tmp_path / "training.csv", [HEADER, *(row(f"1/{i:056d}.jpg", i % 8) for i in range(count))])
    write(tmp_path / "validation.csv", [])
    for i in range(count):
        (images / "1" / f"{i:056d}.jpg").touch()
    listing = [tmp_path / "training.csv", tmp_path / "validation.csv", images]
    code = f"""
import tracemalloc
from pathlib import Path
from distill.data.affectnet import CsvRelease
tracemalloc.start()
release = CsvRelease(*map(Path, {[str(path) for path in listing]}))
entries = [*release.rows(release.train, "train"), *release.rows(release.test, "test")]
print(len(entries), *tracemalloc.get_traced_memory())
"""  # a process of its own: in this one other tests' threads allocate too
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    entries, held, peak = map(int, done.stdout.split())
    assert entries == count and held / count * 291_651 < 0.5e9 and peak < held + 1e6


# The release of one file per annotation


def test_the_npy_release_is_read_in_the_order_of_its_numbers(npy):
    data = open_it(npy)
    assert {split: len(data.splits[split]) for split in data.splits} == {"train": 16, "valid": 8, "test": 16}
    test = data.splits["test"]
    assert test.ids == tuple(f"val_set/{3 * i}.jpg" for i in range(16)) and data.notes["release"] == "npy"
    assert [EMOTIONS[k] for k in test.label] == [ORDER[i % 8] for i in range(16)]
    gray = test.pixels[test.rows].mean((1, 2, 3))
    assert np.abs(gray - [shade(i % 8, i) for i in range(16)]).max() < 3
    assert len(open_it(npy, classes=7).splits["test"]) == 14


@pytest.mark.parametrize("value", [np.array(5), np.array([5]), np.array(5.0), np.array("5"), np.array(["5"])])
def test_an_expression_may_be_a_number_or_a_text(npy, value):
    np.save(npy / "val_set" / "annotations" / "0_exp.npy", value)
    assert EMOTIONS[open_it(npy).splits["test"].label[0]] == "disgust"


@pytest.mark.parametrize("value", [np.array(8), np.array("10")])
def test_a_picture_of_no_emotion_is_left_out(npy, value):
    np.save(npy / "val_set" / "annotations" / "0_exp.npy", value)
    assert "val_set/0.jpg" not in open_it(npy).splits["test"].ids


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.array("11"), r"train_set/annotations/9_exp.npy: '11' is no label. Write one of 0 neutral"),
        (np.array([1, 2]), r"train_set/annotations/9_exp.npy is not one expression"),
        (np.array([{}]), r"train_set/annotations/9_exp.npy is not one expression .*allow_pickle"),
    ],
)
def test_an_annotation_that_is_no_expression_is_named(npy, value, match):
    np.save(npy / "train_set" / "annotations" / "9_exp.npy", value)
    refused(npy, match)


def test_an_annotation_that_is_cut_off_is_named(npy):
    path = npy / "train_set" / "annotations" / "9_exp.npy"
    path.write_bytes(path.read_bytes()[:40])
    refused(npy, r"9_exp.npy is not one expression .*Copy the file again")


def test_pictures_and_annotations_that_do_not_go_in_pairs_are_named(npy):
    picture = npy / "train_set" / "images" / "9.jpg"
    whole = picture.read_bytes()
    picture.unlink()
    refused(npy, r"train_set/annotations/9_exp.npy: .*images/9.jpg is not there")
    picture.write_bytes(whole)
    (npy / "train_set" / "annotations" / "9_exp.npy").unlink()
    refused(npy, r"train_set/images/9.jpg: annotations/9_exp.npy is not there, as for 1 pictures")


def test_an_npy_set_without_annotations_or_with_none_of_its_two_sets_is_named(npy):
    (npy / "val_set" / "annotations").rename(npy / "val_set" / "labels")
    refused(npy, r"data.root: .*val_set/annotations does not exist")
    (npy / "val_set").rename(npy / "other")
    refused(npy, r"holds no AffectNet, or half of it")


def test_subsets_and_the_npy_release_do_not_go_together(npy):
    refused(
        npy, r"data.test_subset: pose30 lists pictures of the csv release; .*numbers for names", test_subset="pose30"
    )


def test_affectnet_root_with_two_releases_names_them(npy, root):
    refused(root, r"data.root: .* holds AffectNet twice: .*training.csv and .*train_set")
