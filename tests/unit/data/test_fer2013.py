"""FER2013 as csv and as folders, with its own seven labels."""

import gzip
import tarfile
import zipfile

import numpy as np
import pytest
from face_trees import face, labels, no_pack_left, pixels, save, write_lines

from distill.data.common.emotions import SEVEN
from distill.data.fer2013 import fer2013

ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # 0..6
USAGE = ["Training"] * 42 + ["PublicTest"] * 7 + ["PrivateTest"] * 14


def picture(i):
    return np.asarray(face(f"fer{i:07d}", 48).convert("L"))


def rows():
    return [f"{i % 7},{' '.join(map(str, picture(i).ravel()))},{usage}" for i, usage in enumerate(USAGE)]


def csv_tree(root, lines=None, header="emotion,pixels,Usage", name="fer2013.csv"):
    write_lines(root / name, [header, *(lines or rows())])
    return root


def opened(tmp_path, root, **options):
    return fer2013(tmp_path / "store", root, **options)


def test_the_csv_gives_its_three_splits_with_canonical_labels(tmp_path):
    data = opened(tmp_path, csv_tree(tmp_path / "fer"))
    assert data.classes == SEVEN and data.protocol == "FER2013 fer2013.csv"
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 42, "valid": 7, "test": 14}
    assert labels(data) == {f"fer{i:07d}": ORDER[i % 7] for i in range(63)}
    np.testing.assert_array_equal(pixels(data.splits["valid"], "fer0000044")[0], picture(44))


@pytest.mark.parametrize("form", ["the file itself", "icml_face_data.csv", "in a folder fer2013"])
def test_other_forms_of_the_csv_give_the_same(tmp_path, form):
    expected = opened(tmp_path, csv_tree(tmp_path / "fer"))
    if form == "the file itself":
        root = tmp_path / "fer" / "fer2013.csv"
    elif form == "in a folder fer2013":
        root = csv_tree(tmp_path / "other" / "fer2013").parent
    else:  # its columns are in another order, with blanks in the header
        lines = [",".join([line.split(",")[0], line.split(",")[2], line.split(",")[1]]) for line in rows()]
        root = csv_tree(tmp_path / "icml", lines, "emotion, Usage, pixels", "icml_face_data.csv")
    found = opened(tmp_path, root)
    assert labels(found) == labels(expected)
    assert {n: s.sha256 for n, s in found.splits.items()} == {n: s.sha256 for n, s in expected.splits.items()}


def packed(path, form):
    """Put a file where it is downloaded from: alone in gzip, in a tar.gz, in a zip, or in a tar.gz in a zip."""
    archive = path.with_name({"gz": "fer2013.csv.gz", "tar.gz": "fer2013.tar.gz"}.get(form, "fer2013.zip"))
    if form == "gz":
        archive.write_bytes(gzip.compress(path.read_bytes()))
    elif form == "tar.gz":
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(__file__, "fer2013/README")
            tar.add(path, "fer2013/fer2013.csv")
    else:
        inner = packed(path, "tar.gz") if form == "both" else path
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(__file__, "__MACOSX/fer2013.csv")
            zipped.write(inner, f"some/{inner.name}")
    return archive


@pytest.mark.parametrize("form", ["gz", "tar.gz", "zip", "both"])
def test_an_archive_as_downloaded_gives_the_same_as_the_file(tmp_path, form):
    root = csv_tree(tmp_path / "fer")
    expected = opened(tmp_path, root)
    archive = packed(root / "fer2013.csv", form)
    (root / "fer2013.csv").rename(tmp_path / "away.csv")
    for place in (archive, root):
        found = opened(tmp_path, place)
        assert labels(found) == labels(expected)
        assert {n: s.sha256 for n, s in found.splits.items()} == {n: s.sha256 for n, s in expected.splits.items()}


@pytest.mark.parametrize("form", ["gz", "tar.gz", "zip"])
def test_a_damaged_archive_and_one_without_the_csv_are_named(tmp_path, form):
    archive = packed(csv_tree(tmp_path / "fer") / "fer2013.csv", form)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"data.root: .* is damaged \(.*\). Copy or download it again"):
        opened(tmp_path, archive)
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("train/angry/1.jpg", b"")
    with pytest.raises(ValueError, match=r"holds no fer2013.csv or icml_face_data.csv. Unpack it, and give its folder"):
        opened(tmp_path, archive)
    archive.write_bytes(bytes(999))
    with pytest.raises(ValueError, match=r"is no csv file. Give fer2013.csv or"):
        opened(tmp_path, archive)
    assert no_pack_left(tmp_path / "store")


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_quote_that_is_never_closed_is_a_sentence_however_much_follows(tmp_path, size):
    root = csv_tree(tmp_path / "fer", [*rows()[:4], f'3,"1 2 3,Training{" " * size}', *rows()[5:]])
    with pytest.raises(ValueError, match=r"fer2013.csv row 6 cannot be read \(.*\). Close the quotes"):
        opened(tmp_path, root)


FOLDERS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def folder_tree(root, splits=("train", "test")):
    for split in splits:
        for k, name in enumerate(FOLDERS):
            for i in range(10):
                save(root / split / name / f"{split}_{k}_{i}.png", size=48)
    return root


def test_folders_hold_validation_out_of_train(tmp_path):
    data = opened(tmp_path, folder_tree(tmp_path / "fer"))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 63, "valid": 7, "test": 70}
    expected = {
        f"{s}/{n}/{s}_{k}_{i}.png": ORDER[k]
        for s in ("train", "test")
        for k, n in enumerate(FOLDERS)
        for i in range(10)
    }
    assert labels(data) == expected
    assert data.protocol == "FER2013 folders; valid: 10% of train held out by pictures, seed 0"


def test_a_validation_folder_is_taken_as_it_is(tmp_path):
    data = opened(tmp_path, folder_tree(tmp_path / "fer", ("train", "validation", "test")))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 70, "valid": 70, "test": 70}


@pytest.mark.parametrize(
    ("column", "text", "match"),
    [
        (0, "7", "fer2013.csv row 11: '7' is no label. Write one of 0 anger, 1 disgust"),
        (1, "1 2 3", r"fer2013.csv row 11: fer0000009 cannot be read \(it has 3 pixels instead of 2304\)"),
        (1, "1 2 256", r"fer2013.csv row 11: fer0000009 cannot be read \(bytes must be in range"),
        (2, "Test", "fer2013.csv row 11: Usage is 'Test'; it must be one of Training, PublicTest, PrivateTest"),
        (2, None, "fer2013.csv row 11 has 2 columns; it must have emotion, pixels and Usage"),
    ],
)
def test_a_bad_cell_is_named_and_nothing_is_left_behind(tmp_path, column, text, match):
    lines = rows()
    cells = lines[9].split(",")
    cells[column : column + 1] = [] if text is None else [text]
    lines[9] = ",".join(cells)
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, csv_tree(tmp_path / "fer", lines))
    assert no_pack_left(tmp_path / "store")


def test_a_csv_without_its_header_is_named(tmp_path):
    root = csv_tree(tmp_path / "fer", header="0,1 2 3,Training")
    with pytest.raises(ValueError, match=r"fer2013.csv row 1 must be a header with columns emotion, pixels and Usage"):
        opened(tmp_path, root)


def test_a_folder_of_another_class_is_named(tmp_path):
    root = folder_tree(tmp_path / "fer")
    save(root / "train" / "bored" / "a.png")
    with pytest.raises(ValueError, match=r"train/bored: 'bored' is none of the classes neutral, happiness"):
        opened(tmp_path, root)


def test_a_root_without_fer2013_says_what_belongs_there(tmp_path):
    with pytest.raises(ValueError, match=r"data.root: .* holds no FER2013. Give fer2013.csv or icml_face_data.csv"):
        opened(tmp_path, tmp_path)
