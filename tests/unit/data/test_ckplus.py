"""CK+ in its three forms: the last three frames and the first as neutral, folds by persons; broken forms are named."""

from functools import partial

import ckplus_tree as tree
import numpy as np
import pytest
from face_trees import refused_by

from distill.data.ckplus import ckplus
from distill.data.common.emotions import EMOTIONS

FORMS = {"authors": tree.write_authors, "lists": tree.write_lists, "faces48": tree.write_faces48}
LIST = "metafile/CK+last3frameslabels.txt"


@pytest.fixture
def make(tmp_path):
    return lambda form: FORMS[form](tmp_path / "CK")


def open_it(root, **options):
    return ckplus(root.parent / "store", root, **{"size": 16} | options)


refused = partial(refused_by, open_it)


def all_of_it(root, **options):
    return open_it(root, fold=None, test=1, **options).splits["test"]


def persons(split):
    return {name.rsplit("/", 1)[-1][:4] for name in split.ids}


def expected(neutral=True):
    """{file name: emotion} of every frame that is read."""
    frames = {name: tree.CANONICAL[tree.label_of(*at)] for at in tree.sequences() for name in tree.last(*at)}
    return frames | ({tree.frame(*at, 1): "neutral" for at in tree.sequences()} if neutral else {})


@pytest.mark.parametrize("form", ["authors", "lists"])
def test_three_last_frames_show_the_emotion_and_the_first_is_neutral(make, form):
    split = all_of_it(make(form))
    found = dict(zip(split.ids, [EMOTIONS[k] for k in split.label], strict=True))
    assert found == expected() and len(split) == 12 * 7 * 4
    grays = np.rint(split.pixels[split.rows].mean((1, 2, 3))).tolist()
    assert grays == [tree.gray(name) for name in split.ids], "each label is that of its own picture"


def test_faces48_have_the_emotions_of_their_folders_and_the_persons_of_their_names(make):
    root = make("faces48")
    data = open_it(root, folds=12, fold=3)
    assert data.classes == EMOTIONS[1:] and "no neutral faces" in data.protocol
    wanted = {name.rsplit("/", 1)[-1]: emotion for name, emotion in expected(neutral=False).items()}
    for split in data.splits.values():
        assert [data.classes[k] for k in split.label] == [wanted[name] for name in split.ids]
    assert persons(data.splits["test"]) == {"S014"}


def test_faces48_measure_a_student_of_eight_classes(make):
    data = open_it(make("faces48"), fold=None, test=1)
    assert data.classes == EMOTIONS and list(data.splits) == ["test"] and 0 not in data.splits["test"].label
    assert len(data.splits["test"]) == 12 * 7 * 3


@pytest.mark.parametrize("form", ["authors", "faces48"])
def test_ckplus_person_is_tested_in_one_fold_and_never_trained_on_there(make, form):
    root, tested = make(form), []
    for fold in range(6):
        data = open_it(root, folds=6, fold=fold)
        train, valid, test = (persons(data.splits[split]) for split in ("train", "valid", "test"))
        assert not train & valid and not (train | valid) & test and train | valid | test == set(tree.PERSONS)
        tested += sorted(test)
    assert tested == tree.PERSONS, "in the order of their names"


def test_ckplus_with_published_folds_takes_them(make):
    root = make("lists")
    data = open_it(root, folds=6, fold=2)
    assert persons(data.splits["test"]) == {tree.PERSONS[2], tree.PERSONS[8]}
    assert "published folds" in data.protocol and data.splits["test"].label.tolist().count(0) == 14
    with pytest.raises(ValueError, match=r"data.folds: expected 6, as the lists in .* make, got 10"):
        open_it(root)


def test_a_fold_that_shares_a_person_with_its_training_list_is_named(make):
    root = make("lists")
    with open(root / "metafile/cv/train_ids_4.csv", "a") as file:
        file.write(f"{tree.PERSONS[4]}_001_00000004.png\n")
    refused(root, r"test_ids_4.csv row \d+: S022 is also in .*train_ids_4.csv row 211; a fold is by persons", folds=6)


def test_a_missing_or_broken_list_of_a_fold_is_named(make):
    root = make("lists")
    (root / "metafile/cv/test_ids_3.csv").write_text("S005_001.png\n")
    refused(root, r"test_ids_3.csv row 1: 'S005_001.png' is no frame such as S005_001_00000011.png", folds=6)
    (root / "metafile/cv/train_ids_2.csv").unlink()
    refused(root, r"train_ids_2.csv is not there, though other lists of folds are", folds=6)


def test_ckplus_without_lists_of_folds_cuts_persons_into_runs(make):
    root = make("lists")
    for path in (root / "metafile/cv").iterdir():
        path.unlink()
    refused(root, r"metafile/cv has no test_ids_0.csv. Copy the lists of folds there, or remove it")
    (root / "metafile/cv").rmdir()
    assert persons(open_it(root, folds=6, fold=5).splits["test"]) == {"S037", "S042"}


def edit(root, row, text):
    rows = (root / LIST).read_text().splitlines()
    rows[row - 1] = text
    (root / LIST).write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("S005/001/S005_001_00000005.png 8", r"row 2: '8' is no label. Write one of 0 neutral, 1 anger, 2 contempt"),
        ("S005/001/S005_001_00000005.png", r"row 2 is 'S005/001/S005_001_00000005.png'; it must be: file label"),
        ("S005/001/S005-5.png 1", r"row 2: 'S005-5.png' is no frame such as"),
        ("S005/001/S005_001_00000004.png 1", r"row 2 lists S005/001/S005_001_00000004.png again, it was .*row 1"),
        ("S005/001/S005_001_00000009.png 1", r"row 2: .*S005/001/S005_001_00000009.png is not there"),
    ],
)
def test_a_broken_row_of_the_list_is_named(make, text, match):
    root = make("lists")
    edit(root, 2, text)
    refused(root, rf"CK\+last3frameslabels.txt {match}", folds=6)


def test_a_first_frame_that_is_not_there_is_named_with_a_row_of_its_sequence(make):
    root = make("lists")
    (root / "cohn_kanade_images_aligned" / tree.frame("S005", 2, 1)).unlink()
    refused(root, r"last3frameslabels.txt row 4: .*S005_002_00000001.png is not there", folds=6)


def test_a_first_frame_that_the_list_has_is_not_listed_twice(make):
    root = make("lists")
    with open(root / LIST, "a") as file:
        file.write("S005/001/S005_001_00000001.png 0\n")
    assert len(all_of_it(root)) == 12 * 7 * 4


def test_the_archives_of_the_authors_unpack_to_folders_in_folders(make):
    root = make("authors")
    for name, above in (("Emotion", "Emotion_labels"), ("cohn-kanade-images", "extended-cohn-kanade-images")):
        (root / above).mkdir()
        (root / name).rename(root / above / name)
    assert len(all_of_it(root)) == 12 * 7 * 4
    assert len(all_of_it(root.parent)) == 12 * 7 * 4, "the folder around it will do"


def test_ckplus_with_landmarks_cuts_faces_out(make):
    root = make("authors")
    tree.write_landmarks(root, [(8, 6), (12, 6), (10, 8), (10, 10)])
    for name in expected():
        path = root / "cohn-kanade-images" / name
        picture = tree.Image.open(path)
        picture.putpixel((8, 6), 255)  # a corner of the box
        picture.save(path)
    data = open_it(root, folds=6, margin=0)
    pixels = data.splits["test"].pixels[data.splits["test"].rows]
    assert (pixels[:, 0, 0, 0] == 255).all() and (pixels[:, 0, 8:, 8:] < 200).all(), "4 of 24 x 20 pixels fill 16 x 16"
    whole = open_it(root, folds=6, margin=None)
    assert "faces cut out, margin 0" in data.protocol and "whole frames" in whole.protocol
    assert data.notes["packed"] != whole.notes["packed"]


@pytest.mark.parametrize("text", ["", "1 2 3\n4 5 6\n", "left right\n1 2\n", "1 2\nnan 3\n"])
def test_landmarks_that_are_none_are_named(make, text):
    root = make("authors")
    tree.write_landmarks(root, [(8, 6), (12, 10)])
    (root / "Landmarks/S010/001/S010_001_00000005_landmarks.txt").write_text(text)
    refused(root, r"S010_001_00000006_emotion.txt: S010/001/S010_001_00000005.png cannot be read")


@pytest.mark.parametrize("text", ["", "9", "3.5", "happy", "-1"])
def test_a_label_that_is_none_is_named(make, text):
    root = make("authors")
    (root / "Emotion/S011/002/S011_002_00000006_emotion.txt").write_text(text)
    refused(root, rf"S011_002_00000006_emotion.txt: '{text}' is no label. Write one of 0 neutral, 1 anger, 2 contempt")


def test_a_sequence_that_is_too_short_or_absent_is_named(make):
    root = make("authors")
    for number in (1, 2, 3):
        (root / "cohn-kanade-images" / tree.frame("S011", 2, number)).unlink()
    refused(root, r"S011_002_00000006_emotion.txt: its sequence .*S011/002 has 3 frames, 4 or more are needed")
    (root / "cohn-kanade-images/S011/002").rename(root / "elsewhere")
    refused(root, r"its sequence .*S011/002 has 0 frames")


def test_labels_without_pictures_and_pictures_without_labels_are_named(make):
    root = make("authors")
    (root / "cohn-kanade-images").rename(root / "images")
    refused(root, r"has Emotion but no cohn-kanade-images. Copy the pictures there")
    for path in root.glob("Emotion/S*/*/*.txt"):
        path.unlink()
    (root / "images").rename(root / "cohn-kanade-images")
    refused(root, r"Emotion has no S\*/\*/S\*_emotion.txt. Copy the labels there")


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_that_is_cut_off_is_named(make, form):
    root = make(form)
    picture = next(root.rglob("S010_004_00000005.png"))
    picture.write_bytes(picture.read_bytes()[:45])
    refused(root, r"S010_004_00000005.png cannot be read", folds=6)


def test_a_face48_whose_name_tells_no_person_or_that_is_in_two_folders_is_named(make):
    root = make("faces48")
    (root / "anger/S010_001_00000005.png").rename(root / "anger/face5.png")
    refused(root, r"anger/face5.png: the name tells no person; names must be like S010_004_00000017.png")
    (root / "anger/face5.png").rename(root / "fear/S010_001_00000004.png")
    refused(root, r"fear/S010_001_00000004.png lists S010_001_00000004.png again, it was .*anger/S010_001_00000004.png")


def test_ckplus_root_without_ckplus_is_told_its_layout(make, tmp_path):
    root = make("faces48")
    (root / "bored").mkdir()
    refused(root, r"bored: 'bored' is none of the classes neutral, happiness")
    (tmp_path / "other").mkdir()
    refused(tmp_path / "other", r"holds no CK\+. Give a folder with cohn-kanade-images and Emotion, one with")
    refused(root, r"data.margin: expected 0 to 2.*, got 3", margin=3)
