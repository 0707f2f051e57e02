"""Class-named folders: any classes, with or without train, valid and test above them."""

import numpy as np
import pytest
from face_trees import face, labels, no_pack_left, pixels, save, write_class_folders
from PIL import Image

from distill.data.common.twins import start_messages
from distill.data.folder import folder


def opened(tmp_path, root, **options):
    return folder(tmp_path / "store", root, size=20, **options)


def lengths(data):
    return {name: len(split) for name, split in data.splits.items()}


def test_folders_are_classes_and_test_and_valid_are_held_out(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("tired", "Alert", "bored"), 20)
    data = opened(tmp_path, root)
    assert data.classes == ("Alert", "bored", "tired") and lengths(data) == {"train": 42, "valid": 6, "test": 12}
    assert labels(data) == {f"{c}/faces_{c}{i}.png": c for c in data.classes for i in range(20)}
    assert data.protocol.startswith("faces; test: 20% held out by pictures, seed 0; valid")
    name = data.splits["test"].ids[0]
    np.testing.assert_array_equal(pixels(data.splits["test"], name).transpose(1, 2, 0), face(name.split("/")[1]))


def test_emotions_get_their_canonical_names_in_canonical_order_before_others(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("angry", "Happy", "surprised", "asleep", "Neutral"), 20)
    data = opened(tmp_path, root)
    assert data.classes == ("neutral", "happiness", "surprise", "anger", "asleep")
    assert {i.split("/")[0]: name for i, name in labels(data).items()} == {
        "angry": "anger",
        "Happy": "happiness",
        "surprised": "surprise",
        "asleep": "asleep",
        "Neutral": "neutral",
    }


@pytest.mark.parametrize(("valid", "sizes"), [("", (27, 3, 15)), ("val", (30, 12, 15)), ("Validation", (30, 12, 15))])
def test_folders_train_valid_and_test_are_taken_as_they_are(tmp_path, valid, sizes):
    for name, number in (("Train", 10), ("test", 5), (valid, 4)):
        if name:
            write_class_folders(tmp_path / "mine" / name, ("a", "b", "happy"), number)
    data = opened(tmp_path, tmp_path / "mine")
    assert tuple(lengths(data).values()) == sizes and data.classes == ("happiness", "a", "b")
    assert all(i.startswith("test/") for i in data.splits["test"].ids)


def test_pictures_lie_deeper_and_persons_are_held_out_whole(tmp_path):
    for person in range(30):
        for name in ("yes", "no"):
            for i in range(2):
                save(tmp_path / "faces" / name / f"S{person:03d}" / f"{i}.png", f"{person}{name}{i}")
    data = opened(tmp_path, tmp_path / "faces", subject=r"/(S\d+)/")
    assert lengths(data) == {"train": 88, "valid": 8, "test": 24}
    persons = [{i.split("/")[1] for i in split.ids} for split in data.splits.values()]
    assert sum(map(len, persons)) == 30
    assert len(labels(opened(tmp_path, tmp_path / "faces"))) == 120


def test_persons_whom_the_distributed_splits_share_are_told(tmp_path):
    for split, persons in (("train", range(9)), ("test", range(7, 12))):
        for person in persons:
            for name in ("yes", "no"):
                save(tmp_path / "faces" / split / name / f"S{person}_{split}.png")
    data = opened(tmp_path, tmp_path / "faces", subject=r"S(\d+)_")
    assert data.notes["shared_persons"] == 2 and "SHARED PERSONS: 2 of" in start_messages(data)[0]
    assert start_messages(opened(tmp_path, tmp_path / "faces")) == []


def test_a_picture_is_turned_as_the_camera_noted(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = root / "a" / "turned.png"
    face("turned").rotate(180).save(path, exif=exif)
    split = opened(tmp_path, root, test=1).splits["test"]
    np.testing.assert_array_equal(pixels(split, "a/turned.png").transpose(1, 2, 0), face("turned"))


def test_hidden_folders_and_files_that_are_no_pictures_are_not_looked_at(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"))
    (root / "a" / "notes.txt").write_text("hello")
    save(root / ".thumbnails" / "x.png")
    save(root / "a" / "._x.png")
    assert len(labels(opened(tmp_path, root))) == 20


def test_another_person_pattern_is_another_pack(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"))
    assert opened(tmp_path, root).notes["packed"] != opened(tmp_path, root, subject=r"(\d+)\.png").notes["packed"]


@pytest.mark.parametrize(
    ("names", "options", "match"),
    [
        (
            ("a",),
            {},
            "expected two class-named folders or more, got 1; .* Give a folder with a folder of pictures for each class",
        ),
        (("a", "train"), {}, "has train but no folder test. Name one so"),
        (("happiness", "happy", "Joy"), {}, "faces/Joy, .*faces/happiness and .*faces/happy are one class, happiness"),
        (("happy", "Joy"), {}, "faces/Joy and .*faces/happy are one class, happiness. Put their pictures together"),
        (("a", "b"), {"subject": "("}, r"data.subject: '\(' is no regular expression"),
        (("a", "b"), {"subject": "S"}, "data.subject: 'S' has no group. Put the person in brackets"),
        (("a", "b"), {"subject": r"(S\d+)"}, r"finds no person in a/faces_a0.png. Change it"),
    ],
)
def test_folder_that_cannot_be_used_names_what(tmp_path, names, options, match):
    root = write_class_folders(tmp_path / "faces", names)
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, root, **options)
    assert no_pack_left(tmp_path / "store")


def test_an_empty_class_folder_is_named(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"))
    (root / "c").mkdir()
    with pytest.raises(ValueError, match=r"folder has no picture of c among its 14 for train"):
        opened(tmp_path, root)


def test_a_truncated_picture_is_named_and_nothing_is_left_behind(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"))
    path = root / "b" / "faces_b3.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"b/faces_b3.png cannot be read"):
        opened(tmp_path, root)
    assert no_pack_left(tmp_path / "store")


@pytest.mark.parametrize(
    ("spoilt", "beginning", "end"),
    [
        (1, "{root}/a/faces_a0.png cannot be read (", "). Put the whole picture there, or remove it."),
        (3, "3 pictures cannot be read: {root}/a/faces_a0.png (", "). Put whole pictures there, or remove them."),
        (23, "23 pictures cannot be read: ", "; and 3 more. Put whole pictures there, or remove them."),
    ],
)
def test_folder_with_unreadable_pictures_names_all_at_once(tmp_path, spoilt, beginning, end):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 12)
    files = sorted(root.rglob("*.png"), key=lambda path: (int(path.stem[7:]), path.name))[:spoilt]
    for path in files:
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError) as error:
        opened(tmp_path, root)
    said = str(error.value)
    assert said.startswith(beginning.format(root=root)) and said.endswith(end)
    assert sum(str(path) in said for path in files) == min(spoilt, 20)
    assert no_pack_left(tmp_path / "store")
