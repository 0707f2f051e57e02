"""RAF-DB in its official layout, as other code splits its list, and in the folders that circulate."""

import io
import re

import numpy as np
import pytest
from face_trees import face, labels, no_pack_left, pixels, save, write_lines
from PIL import Image

from distill.data.common.emotions import SEVEN
from distill.data.rafdb import rafdb

ORDER = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # 1..7
SIZES = {"train": 70, "test": 21}
NAMES = {f"{split}_{i:04d}.jpg": i % 7 + 1 for split, number in SIZES.items() for i in range(1, number + 1)}


@pytest.fixture
def root(tmp_path):
    """Official: one list, train and test; pictures with _aligned in their names."""
    home = tmp_path / "raf"
    write_lines(home / "EmoLabel/list_patition_label.txt", [f"{name} {label}" for name, label in NAMES.items()])
    for name in NAMES:
        save(home / "Image/aligned" / name.replace(".jpg", "_aligned.jpg"), name)
    return home


def two_lists(root):
    lines = (root / "EmoLabel/list_patition_label.txt").read_text().splitlines()
    for split in SIZES:
        write_lines(root / f"EmoLabel/{split}_label.txt", [line for line in lines if line.startswith(split)])
    (root / "EmoLabel/list_patition_label.txt").unlink()
    return root


def folders(root):
    for name, label in NAMES.items():
        split, home = name.partition("_")[0], root.parent / "circulates"
        save(home / "DATASET" / split / str(label) / name.replace(".jpg", "_aligned.jpg"), name)
    return home


def below(root):
    (root.parent / "download").mkdir()
    return root.rename(root.parent / "download" / "basic").parent


def opened(tmp_path, root, **options):
    return rafdb(tmp_path / "store", root, size=20, **options)


@pytest.mark.parametrize("form", [lambda root: root, two_lists, folders, below])
def test_rafdb_forms_give_the_same_faces_with_canonical_labels(tmp_path, root, form):
    data = opened(tmp_path, form(root))
    assert data.classes == SEVEN and labels(data) == {name: ORDER[label - 1] for name, label in NAMES.items()}
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 63, "valid": 7, "test": 21}
    assert all(name.startswith("test_") for name in data.splits["test"].ids)
    file = io.BytesIO()
    face("test_0003.jpg").save(file, "jpeg")
    np.testing.assert_array_equal(pixels(data.splits["test"], "test_0003.jpg").transpose(1, 2, 0), Image.open(file))


def test_the_protocol_tells_what_was_held_out(tmp_path, root):
    assert (
        opened(tmp_path, root, valid=0.2).protocol == "RAF-DB basic; valid: 20% of train held out by pictures, seed 0"
    )


SUBSETS = {
    "occlusion": (
        "rafdb_occlusion_list.txt",
        ["test_0003_aligned 3 4", "test_0014_aligned 0 1", "test_0999_aligned 2 2"],
    ),
    "pose30": ("val_raf_db_list_pose_30.txt", ["3/test_0003_aligned.jpg", "1/test_0014_aligned.jpg"]),
    "pose45": ("val_raf_db_list_45.txt", ["3/test_0003_aligned.jpg"]),
}


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize("place", ["root", "a folder in root", "subset_dir"])
def test_a_subset_is_the_listed_test_faces_beside_all_of_them(tmp_path, root, name, place):
    file, lines = SUBSETS[name]
    home = {"root": root, "a folder in root": root / "lists", "subset_dir": tmp_path / "elsewhere"}[place]
    write_lines(home / file, lines)
    options = {"subset_dir": home} if place == "subset_dir" else {}
    data = opened(tmp_path, root, test_subset=name, **options)
    listed = [line for line in lines if "0999" not in line]
    assert data.extra_test_splits[name].ids == tuple(re.search(r"test_\d+", line)[0] + ".jpg" for line in listed)
    counts = {"listed": len(lines), "found": len(listed), "missing": len(lines) - len(listed)}
    assert data.notes["test_subset"] == {name: counts | {"other_label": int(name == "pose30")}}
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 63, "valid": 7, "test": 21}


@pytest.mark.parametrize(
    ("name", "line", "match"),
    [
        ("mask", None, "there is no subset 'mask'. Use null or some of occlusion, pose30, pose45"),
        ("pose30", None, "pose30 needs val_raf_db_list_pose_30.txt or val_raf_db_list.txt in .*raf; it is not there"),
        ("occlusion", "test_0003_aligned seven 1", "rafdb_occlusion_list.txt row 1: 'seven' is no label"),
        ("occlusion", "test_0003_aligned", "rafdb_occlusion_list.txt row 1: '' is no label. Write one of 0 surprise"),
        ("occlusion", "test_0999_aligned 1 1", "none of the 1 pictures listed for occlusion is among the 21 for test"),
    ],
)
def test_a_subset_that_cannot_be_used_is_refused(tmp_path, root, name, line, match):
    if line:
        write_lines(root / "rafdb_occlusion_list.txt", [line])
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, root, test_subset=name)


def edit(root, row, text):
    path = root / "EmoLabel/list_patition_label.txt"
    lines = path.read_text().splitlines()
    lines[row - 1] = text
    write_lines(path, lines)


@pytest.mark.parametrize(
    ("row", "text", "match"),
    [
        (4, "train_0004.jpg 8", "list_patition_label.txt row 4: '8' is no label. Write one of 1 surprise, 2 fear"),
        (4, "train_0004.jpg", r"list_patition_label.txt row 4 is 'train_0004.jpg'; it must be: file label"),
        (4, "train_0003.jpg 4", r"row 4 lists train_0003.jpg again, it was .*row 3. Delete one"),
        (4, "valid_0004.jpg 5", "row 4: valid_0004.jpg must begin with train_ or test_"),
        (75, "test_0905.jpg 5", "row 75: .*test_0905_aligned.jpg is not there. Copy the picture, or delete the row"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left_behind(tmp_path, root, row, text, match):
    edit(root, row, text)
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, root)
    assert no_pack_left(tmp_path / "store")


def test_a_truncated_picture_is_named_with_its_row(tmp_path, root):
    path = root / "Image/aligned/train_0009_aligned.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"list_patition_label.txt row 9: train_0009.jpg cannot be read"):
        opened(tmp_path, root)
    assert no_pack_left(tmp_path / "store")


def test_a_folder_that_is_no_label_is_named(tmp_path, root):
    home = folders(root)
    save(home / "DATASET/train/happy/train_0001_aligned.jpg")
    with pytest.raises(ValueError, match=r"train/happy: 'happy' is no label. Write one of 1 surprise"):
        opened(tmp_path, home)


def test_a_root_without_rafdb_says_what_belongs_there(tmp_path, root):
    with pytest.raises(
        ValueError, match=r"data.root: .*EmoLabel holds no RAF-DB. Give the folder with EmoLabel/list_pa"
    ):
        opened(tmp_path, root / "EmoLabel")
    with pytest.raises(ValueError, match=r"data.root: .*nowhere does not exist. Give the folder with EmoLabel"):
        opened(tmp_path, tmp_path / "nowhere")


def test_a_changed_picture_is_packed_again(tmp_path, root):
    before = opened(tmp_path, root).splits["test"].sha256
    save(root / "Image/aligned/test_0003_aligned.jpg", "another")
    assert opened(tmp_path, root).splits["test"].sha256 != before


def test_a_picture_that_no_row_names_is_counted(tmp_path, root):
    save(root / "Image/aligned/train_9999_aligned.jpg")
    assert opened(tmp_path, root).notes["left_out"] == {
        "in no list and no class's folder": [1, "train_9999_aligned.jpg"]
    }
