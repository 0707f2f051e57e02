"""One walker of folders: what is a picture below a folder, and that whatever is left out is counted."""

import os
import shutil

import pytest
from face_trees import face, save, write_class_folders

from distill.data.common.twins import start_messages
from distill.data.common.walker import class_folders, left_out, pictures_below, walk
from distill.data.folder import folder
from distill.predict.pictures import listed


def below(root):
    return {path.relative_to(root).as_posix() for path in pictures_below(root, deep=True)}


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "$Recycle.Bin"])
@pytest.mark.parametrize("depth", ["", "a", "a/deeper"])
def test_copies_in_hidden_folders_are_read_by_nobody(tmp_path, hidden, depth):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    save(root / "a" / "deeper" / "x.png")
    shutil.copytree(root / "b", root / depth / hidden / "inner")
    save(root / "a" / "._x.png")
    data = folder(tmp_path / "store", root, size=20, test=1)
    assert len(data.splits["test"]) == 7 == len(listed(root, None)[0])
    counts = data.notes["left_out"]
    assert counts == listed(root, None)[1] and counts["hidden"][0] == 4
    assert start_messages(data) == [f"data: 4 files left out: 4 hidden ({counts['hidden'][1]})"]


def test_pictures_are_known_by_their_beginning_where_the_suffix_says_nothing(tmp_path):
    root = tmp_path / "faces"
    for name, kind in (
        ("a.jfif", "JPEG"),
        ("b", "PNG"),
        ("c.jpg_large", "JPEG"),
        ("d.dat", "BMP"),
        ("e", "WEBP"),
        ("f", "PPM"),
    ):
        save(root / "x.png").unlink()
        face(name).save(root / name, kind)
    for name, text in (
        ("notes", b"BM words"),
        ("P5", b"P5X"),
        ("empty", b""),
        ("Thumbs.db", b"\xd0\xcf"),
        ("g.mp4", b"\0\0"),
    ):
        (root / name).write_bytes(text)
    assert below(root) == {"a.jfif", "b", "c.jpg_large", "d.dat", "e", "f"}
    assert left_out([root], [str(path) for path in pictures_below(root)]) == {"no picture": [5, "P5"]}


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    root = tmp_path / "faces"
    save(root / "a" / "1.png")
    save(root / "z" / "2.png")
    save(tmp_path / "elsewhere" / "3.png")
    (root / "a" / "back").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "to z").symlink_to(root / "z")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    assert below(root) == {"a/1.png", "z/2.png", "a/more/3.png"}
    assert below(root / "a") == {"1.png", "to z/2.png", "more/3.png"}, "what a link leads to is of this folder, too"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_link_to_a_folder_above_brings_no_pictures_of_other_classes(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    (root / "a" / "up").symlink_to("..")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(root / "b", tmp_path / "elsewhere" / "b")
    (root / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (root / "b" / "up").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "self").symlink_to(".")
    save(tmp_path / "x.png")
    assert [path.name for path in class_folders(root)] == ["a", "b"]
    assert (len(pictures_below(root / "a", deep=True)), len(pictures_below(root / "b", deep=True))) == (3, 3)
    assert left_out([root], []) == {"in no list and no class's folder": [6, "a/faces_a0.png"]}


def test_pipes_are_never_opened_and_links_to_nothing_that_are_no_pictures_are_nothing(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    os.mkfifo(root / "a" / "pipe")
    os.mkfifo(root / "b" / "pipe.png")
    (root / "a" / ".#lock").symlink_to("nowhere")
    (root / "a" / "lock").symlink_to("nowhere")
    data = folder(tmp_path / "store", root, size=20, test=1)
    assert data.notes["left_out"] == {"neither file nor folder": [2, "a/pipe"]}
    (root / "a" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"gone.png cannot be read \(cannot be opened: it is no file"):
        folder(tmp_path / "store", root, size=20, test=1)


def test_pictures_beside_the_classes_are_counted(tmp_path):
    for part in ("train", "test"):
        write_class_folders(tmp_path / "faces" / part, ("a", "b"), 9)
    save(tmp_path / "faces" / "train" / "loose.png")
    save(tmp_path / "faces" / "later" / "a" / "x.png")
    (tmp_path / "faces" / "README.md").write_text("words")
    data = folder(tmp_path / "store", tmp_path / "faces", size=20)
    why = "in no list and no class's folder"
    assert data.notes["left_out"] == {"no picture": [1, "README.md"], why: [2, "later/a/x.png"]}


def test_a_walk_goes_in_the_order_of_names(tmp_path):
    for name in ("c.png", "a.png", "b.png"):
        save(tmp_path / name)
    assert [os.path.basename(found.path) for found in walk(tmp_path)] == ["a.png", "b.png", "c.png"]
