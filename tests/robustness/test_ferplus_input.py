"""FER+ that is not as it should be: file, row and remedy are named, and no pack is left behind."""

import os
import shutil

import ferplus_tree as tree
import pytest
from PIL import Image

from distill.data.ferplus import ferplus


@pytest.fixture
def root(tmp_path):
    return tree.write_folders(tmp_path / "fer")


def refused(tmp_path, root, match, **options):
    """The call fails with that sentence, and no pack is left behind."""
    with pytest.raises(ValueError, match=match):
        ferplus(tmp_path / "store", root, **options)
    assert [p for p in (tmp_path / "store").glob("packed/*") if p.suffix != ".lock"] == []


def test_a_missing_root_is_named(tmp_path):
    refused(tmp_path, tmp_path / "nowhere", r"data.root: .*nowhere does not exist. Give a folder, tar.gz or zip")


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "fer.txt").write_text("hello")
    refused(tmp_path, tmp_path / "fer.txt", r"fer.txt is neither a folder nor a tar or zip archive")


def test_a_missing_split_folder_is_named(tmp_path, root):
    shutil.rmtree(root / "FER2013Valid")
    refused(tmp_path, root, r"has no FER2013Valid/label.csv. FER\+ is FER2013Train, FER2013Valid")


def test_ferplus_root_with_two_copies_names_them(tmp_path, root):
    shutil.copytree(root, root / "copy")
    refused(tmp_path, root, r"more than once: FER2013Test/label.csv, .*copy/FER2013Train/label.csv")


@pytest.mark.parametrize("form", ["folder", "tar.gz", "zip"])
def test_a_truncated_png_is_named_and_nothing_is_left_behind(tmp_path, root, form):
    picture = root / "FER2013Valid" / "fer0028640.png"
    os.truncate(picture, 700)
    source = root if form == "folder" else tree.archive(root, tmp_path / f"fer.{form}")
    refused(tmp_path, source, r"Valid/label.csv row 3, FER2013Valid/fer0028640.png is not a whole picture .*delete")


@pytest.mark.parametrize("part", range(1, 20, 3))
@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_a_truncated_archive_is_named(tmp_path, root, form, part):
    source = tree.archive(root, tmp_path / f"fer.{form}")
    os.truncate(source, source.stat().st_size * part // 20)
    words = r"is damaged .*download it again" if form == "tar.gz" else "is neither a folder nor a tar or zip archive"
    refused(tmp_path, source, rf"data.root: {source} {words}")


def test_a_flipped_bit_in_an_archive_is_named_with_its_row(tmp_path, root):
    source = tree.archive(root, tmp_path / "fer.zip")
    data = bytearray(source.read_bytes())
    data[data.index(b"IDAT") + 500] ^= 255
    source.write_bytes(data)
    refused(tmp_path, source, r"FER2013\w+/label.csv row \d+, \S+.png cannot be read .*CRC")


def test_a_row_of_another_width_is_named_with_file_and_row(tmp_path, root):
    tree.edit(root, lambda rows: rows[6].pop(), "test")
    refused(tmp_path, root, r"FER2013Test/label.csv row 7 has 11 columns instead of 12: file, box, and the votes")


@pytest.mark.parametrize("text", ["two", "-3", "nan", "", "1e400"])
def test_a_vote_that_is_no_count_is_named_with_its_emotion(tmp_path, root, text):
    tree.edit(root, lambda rows: rows[1].__setitem__(5, text))
    refused(tmp_path, root, rf"FER2013Train/label.csv row 2: '{text}' is no number of votes for sadness")


def test_a_picture_that_is_not_there_is_named(tmp_path, root):
    (root / "FER2013Test" / "fer0032222.png").unlink()
    refused(tmp_path, root, r"FER2013Test/label.csv row 3: FER2013Test/fer0032222.png is not there. Copy the picture")


def test_a_picture_listed_twice_is_named_with_both_rows(tmp_path, root):
    tree.edit(root, lambda rows: rows.append(rows[4]))
    refused(tmp_path, root, r"label.csv row 25 lists fer0000004.png again, it was row 5")


def test_a_picture_of_another_size_is_named(tmp_path, root):
    Image.new("L", (64, 48)).save(root / "FER2013Test" / "fer0032221.png")
    refused(tmp_path, root, r"FER2013Test/fer0032221.png: the picture is 64x48 .* 48x48 .*resize it or remove it")


def test_a_split_that_a_protocol_empties_is_named(tmp_path, root):
    tree.edit(root, lambda rows: [row.__setitem__(slice(2, 12), [0] * 8 + [9, 1]) for row in rows], "valid")
    with pytest.raises(ValueError, match=r"data.protocol: majority keeps none of the 10 pictures for valid in"):
        ferplus(tmp_path / "store", root)


def test_an_empty_label_file_is_named(tmp_path, root):
    tree.edit(root, lambda rows: rows.clear(), "valid")
    with pytest.raises(ValueError, match=r"data.root: .* holds no picture for valid"):
        ferplus(tmp_path / "store", root)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"protocol": "mode"}, "data.protocol: there is no protocol 'mode'. Use one of majority, argmax, votes, emo"),
        ({"target": "soft"}, "data.target: there is no target 'soft'. Use one of votes, majority"),
        ({"limit": 0}, "data.limit: expected 1 or more pictures of each split, or null for all, got 0"),
    ],
)
def test_an_unknown_choice_lists_the_known_ones_before_anything_is_read(tmp_path, options, match):
    refused(tmp_path, tmp_path / "nowhere", match, **options)


PIXELS, VOTES = "fer2013.csv", "fer2013new.csv"


@pytest.mark.parametrize(
    ("name", "row", "column", "text", "match"),
    [
        (PIXELS, 10, 1, "1 2 3", r"fer2013.csv row 10 has 3 pixels instead of 2304"),
        (PIXELS, 10, 1, "1 2 256", r"fer2013.csv row 10: pixels must be whole numbers from 0 to 255"),
        (PIXELS, 10, 2, "Test", r"fer2013.csv row 10: Usage is 'Test'; it must be one of Training, PublicTest"),
        (PIXELS, 1, 1, "x", r"fer2013.csv row 1 must be a header with columns pixels and Usage"),
        (VOTES, 10, 0, "PublicTest", r"row 10: Usage is Training, but the same row of fer2013new.csv says PublicTest"),
        (VOTES, 10, 2, "many", r"fer2013new.csv row 10: 'many' is no number of votes for neutral"),
        (VOTES, 1, 2, "happiness", r"fer2013new.csv row 1 must be the header Usage,Image name,neutral"),
    ],
)
def test_a_bad_cell_of_the_csv_pair_is_named(tmp_path, name, row, column, text, match):
    root = tree.write_csv_pair(tmp_path / "pair")
    rows = tree.read_labels(root / name)
    rows[row - 1][column] = text
    tree.write_labels(root / name, rows)
    refused(tmp_path, root, match)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (PIXELS, lambda rows: rows.pop(), r"fer2013.csv has 48 rows and .*fer2013new.csv has 49"),
        (PIXELS, lambda rows: rows[9].pop(), r"fer2013.csv row 10 has 2 columns"),
        (VOTES, lambda rows: rows[9].pop(), r"fer2013new.csv row 10 has 11 columns instead of 12"),
    ],
)
def test_a_missing_row_or_column_of_the_csv_pair_is_named(tmp_path, name, change, match):
    root = tree.write_csv_pair(tmp_path / "pair")
    rows = tree.read_labels(root / name)
    change(rows)
    tree.write_labels(root / name, rows)
    refused(tmp_path, root, match)


def test_ferplus_root_with_one_file_of_the_csv_pair_names_the_missing_one(tmp_path):
    root = tree.write_csv_pair(tmp_path / "pair")
    (root / "fer2013.csv").unlink()
    refused(tmp_path, root, r"has fer2013new.csv but not fer2013.csv; the pictures need both")
