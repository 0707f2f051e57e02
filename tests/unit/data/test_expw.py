"""ExpW's label.lst: faces are cut out at their boxes, faces of one picture stay together."""

import numpy as np
import pytest
from face_trees import face, labels, no_pack_left, write_lines

from distill.data.common.emotions import SEVEN
from distill.data.expw import expw

ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # 0..6
BOXES = [(2, 3, 22, 23), (20, 25, 40, 45), (-5, -4, 15, 16)]  # top left right bottom; the last leaves the picture


def lines(pictures=40):
    return [
        f"angry_{i:03d}.png {k} {top} {left} {right} {bottom} 31.415 {(i + k) % 7}"
        for i in range(pictures)
        for k, (top, left, right, bottom) in enumerate(BOXES)
    ]


@pytest.fixture
def root(tmp_path):
    home = tmp_path / "ExpW"
    (home / "image/origin").mkdir(parents=True)
    for i in range(40):
        face(f"angry_{i:03d}.png", 48).save(home / "image/origin" / f"angry_{i:03d}.png")
    write_lines(home / "label/label.lst", lines())
    return home


def opened(tmp_path, root, **options):
    return expw(tmp_path / "store", root, size=20, **options)


def test_faces_have_canonical_labels_and_those_of_one_picture_stay_together(tmp_path, root):
    data = opened(tmp_path, root)
    assert data.classes == SEVEN
    assert labels(data) == {f"angry_{i:03d}.png {k}": ORDER[(i + k) % 7] for i in range(40) for k in range(3)}
    pictures = {name: {i.split()[0] for i in split.ids} for name, split in data.splits.items()}
    assert {name: len(found) for name, found in pictures.items()} == {"train": 29, "valid": 3, "test": 8}
    assert len(set.union(*pictures.values())) == 40


def test_a_face_is_the_inside_of_its_box(tmp_path, root):
    split = opened(tmp_path, root, test=1).splits["test"]
    first, second, cut = (split.pixels[split.ids.index(f"angry_007.png {k}")] for k in range(3))
    np.testing.assert_array_equal(first, np.asarray(crop(2, 3, 22, 23)).transpose(2, 0, 1))
    np.testing.assert_array_equal(second, np.asarray(crop(20, 25, 40, 45)).transpose(2, 0, 1))
    np.testing.assert_array_equal(cut, np.asarray(crop(0, 0, 15, 16)).transpose(2, 0, 1))


def crop(top, left, right, bottom):
    """Reference: the box of angry_007.png, resized."""
    return face("angry_007.png", 48).crop((left, top, right, bottom)).resize((20, 20), 2)


@pytest.mark.parametrize("places", [("image", "label.lst"), ("origin", "label/label.lst")])
def test_other_places_of_the_files_are_found(tmp_path, root, places):
    expected = labels(opened(tmp_path, root))
    other = tmp_path / "other"
    images, list_file = (other / place for place in places)
    list_file.parent.mkdir(parents=True, exist_ok=True)
    (root / "label/label.lst").rename(list_file)
    (root / "image/origin").rename(images)
    assert labels(opened(tmp_path, other)) == expected


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("angry_001.png 9 2 3 22 23 31.4 7", "label.lst row 5: '7' is no label. Write one of 0 anger"),
        ("angry_001.png 9 2 3 22 23 31.4", "label.lst row 5 is .*; it must be: image face_id top left right bottom"),
        ("angry_001.png 9 2 3 x 23 31.4 1", "label.lst row 5: the box 2 3 x 23 is not four whole numbers"),
        ("angry_001.png 0 2 3 22 23 31.4 1", "label.lst row 5 lists angry_001.png 0 again, it was .*row 4"),
        ("angry_999.png 0 2 3 22 23 31.4 1", "label.lst row 5: .*angry_999.png is not there"),
        (
            "angry_001.png 9 2 50 60 23 31.4 1",
            r"label.lst row 5: angry_001.png 9 cannot be read \(its box, left 50 top 2",
        ),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left_behind(tmp_path, root, row, match):
    rows = lines()
    rows[4] = row
    write_lines(root / "label/label.lst", rows)
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, root)
    assert no_pack_left(tmp_path / "store")


def test_a_root_without_expw_says_what_belongs_there(tmp_path):
    with pytest.raises(ValueError, match=r"has no label/label.lst or label.lst. Give a folder with label/label.lst"):
        opened(tmp_path, tmp_path)


def test_a_picture_that_no_row_names_is_counted(tmp_path, root):
    face("other").save(root / "image/origin/other.png")
    assert opened(tmp_path, root).notes["left_out"] == {"in no list and no class's folder": [1, "other.png"]}
