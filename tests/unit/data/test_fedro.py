"""FED-RO: a test set of class-named folders, with the list of other people's code or without."""

import pytest
from face_trees import labels, no_pack_left, save, write_lines

from distill.data.common.emotions import SEVEN
from distill.data.fedro import fedro

FOLDERS = ("neural", "happy", "sad", "surprise", "fear", "disgust", "anger")  # spelled as distributed
NAMES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
LIST = "occlusion_emotion_fedro_our_list.txt"


@pytest.fixture
def root(tmp_path):
    home = tmp_path / "FED_RO"
    for name in FOLDERS:
        for i in range(20):
            save(home / "FED_RO_crop" / name / f"{name} {i:02d}.jpg")
    return home


def opened(tmp_path, root, **options):
    return fedro(tmp_path / "store", root, size=20, **options)


def expected(number=20):
    pairs = zip(FOLDERS, NAMES, strict=True)
    return {f"{folder}/{folder} {i:02d}.jpg": name for folder, name in pairs for i in range(number)}


def test_fedro_with_test_1_is_a_test_split_as_in_the_papers(tmp_path, root):
    data = opened(tmp_path, root, test=1)
    assert list(data.splits) == ["test"] and data.classes == SEVEN and labels(data) == expected()
    assert data.protocol == "FED-RO; test: all pictures"


def test_train_and_valid_can_be_held_apart(tmp_path, root):
    data = opened(tmp_path, root)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 98, "valid": 14, "test": 28}
    assert labels(data) == expected()


def test_the_folder_around_it_will_do(tmp_path, root):
    assert labels(opened(tmp_path, root.parent, test=1)) == expected()


def test_a_list_tells_which_pictures_count(tmp_path, root):
    write_lines(root / LIST, [name for name in expected(5)])
    assert labels(opened(tmp_path, root, test=1)) == expected(5)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("bored/a.jpg", f"{LIST} row 2: 'bored' is none of the classes neutral, happiness"),
        ("sad/sad 77.jpg", f"{LIST} row 2: .*sad/sad 77.jpg is not there"),
        ("happy/happy 03.jpg", f"{LIST} row 2 lists happy/happy 03.jpg again, it was .*row 1"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left_behind(tmp_path, root, line, match):
    write_lines(root / LIST, ["happy/happy 03.jpg", line])
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, root)
    assert no_pack_left(tmp_path / "store")


def test_a_truncated_picture_is_named(tmp_path, root):
    path = root / "FED_RO_crop/fear/fear 03.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"fear/fear 03.jpg cannot be read .* or remove it\."):
        opened(tmp_path, root)


def test_a_root_without_fedro_says_what_belongs_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"FED_RO_crop does not exist. Give the folder with FED_RO_crop/<emotion>/<file>"
    ):
        opened(tmp_path, tmp_path)


def test_a_picture_that_no_row_names_is_counted(tmp_path, root):
    write_lines(root / "FED_RO_crop" / LIST, [name for name in expected() if not name.endswith("19.jpg")])
    counts = opened(tmp_path, root, test=1).notes["left_out"]
    assert counts == {"in no list and no class's folder": [7, "anger/anger 19.jpg"]}, "the list was read"
