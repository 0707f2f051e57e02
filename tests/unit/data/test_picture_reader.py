"""One reader of pictures: a training face is what predict sees of the same file."""

import os
import stat

import numpy as np
import pytest
from face_trees import face, pixels, save, write_class_folders
from PIL import Image

from distill.data.folder import folder
from distill.predict.pictures import read

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


def transparent(path):
    picture = face("x")
    picture.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 10, 1).repeat(20, 0)))
    picture.save(path)


def sixteen_bits(path):
    Image.fromarray(np.asarray(face("x").convert("L")).astype(np.uint16) * 257).save(path)


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    face("x").save(path, exif=exif)


def damaged_exif(path):
    face("x").save(path, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff rubbish")


def animated(path):
    face("x").save(path, save_all=True, append_images=[face("y")], format="PNG")


@pytest.mark.parametrize("write", [transparent, sixteen_bits, turned, damaged_exif, animated])
@pytest.mark.filterwarnings("error")
def test_a_face_is_packed_as_predict_reads_it(tmp_path, write):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    write(root / "a" / "z.png")
    split = folder(tmp_path / "store", root, size=20, test=1).splits["test"]
    np.testing.assert_array_equal(pixels(split, "a/z.png").transpose(1, 2, 0), read(root / "a" / "z.png")[0])


def test_white_shows_through_where_a_training_face_is_transparent(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    transparent(root / "a" / "z.png")
    grey = folder(tmp_path / "store", root, size=20, channels=1, test=1).splits["test"]
    assert (pixels(grey, "a/z.png")[:, :, :10] == 255).all() and pixels(grey, "a/z.png")[:, :, 10:].min() < 255


def test_postscript_starts_no_program_whatever_its_name(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    (root / "a" / "x.jpg").write_bytes(EPS)
    with pytest.raises(ValueError, match=r"a/x.jpg cannot be read \(no picture that can be read"):
        folder(tmp_path / "store", root, size=20)
    assert not (tmp_path / "started").exists()


def test_names_of_any_bytes_become_ids_that_every_file_can_hold(tmp_path):
    root = write_class_folders(tmp_path / "faces", ("a", "b"), 3)
    for name in (b"caf\xe9.png", b"caf\xe8.png", b"two\nlines.png"):
        try:
            os.rename(save(root / "a" / "new.png", str(name)), os.fsencode(root / "a") + b"/" + name)
        except OSError:
            pytest.skip("this file system takes no such name")
    data = folder(tmp_path / "store", root, size=20, subject=r"/(\w+)", test=1)
    ids = data.splits["test"].ids
    assert {"a/caf\\xe9.png", "a/caf\\xe8.png", "a/two\\x0alines.png"} <= set(ids)
    assert all(name.encode() and name.isprintable() for name in ids)
