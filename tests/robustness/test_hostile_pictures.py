"""Picture files that are not what they should be: one sentence each, and the rest of the folder goes on."""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from commandline import ROOT, environment
from PIL import Image, ImageFile
from predicting import noise, predict, write_linear

from distill.data.common.image_reader import MOST_PIXELS
from distill.predict.pictures import read


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_linear(tmp_path_factory.mktemp("hostile") / "run")


def smooth(height=40, width=56):
    return Image.fromarray(noise(height, width))


def encoded(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def png_header(width, height):
    """A PNG that says a size and holds next to nothing."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 99)),
        (b"IEND", b""),
    )
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "empty.png": (b"", "the file is empty"),
    "text.png": (
        b"this is no picture\n" * 9,
        "no picture that can be read (JPEG, PNG, GIF, WebP, TIFF, BMP and PPM can)",
    ),
    "cut.jpg": (encoded(smooth(), "JPEG")[:600], "cannot be read: "),
    "cut.png": (encoded(smooth(), "PNG")[:300], "cannot be read: "),
    "cut.gif": (encoded(smooth(), "GIF")[:-200], "cannot be read: "),
    "huge.png": (png_header(50_000, 50_000), "not decoded: it has more than 89 million pixels; make it smaller"),
    "large.png": (png_header(10_000, 10_000), "not decoded: it has more than 89 million pixels; make it smaller"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
    "float.tif": (encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "floating-point numbers"),
}


def same(found, wanted, tolerance=0):
    assert found.shape == wanted.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= tolerance


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_one_sentence(tmp_path, name):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as raised:
        read(tmp_path / name)
    assert sentence in str(raised.value) and "\n" not in str(raised.value) and len(str(raised.value)) < 200


def test_a_size_is_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    for width, height in ((50_000, 50_000), (MOST_PIXELS + 1, 1)):
        (tmp_path / "huge.png").write_bytes(png_header(width, height))
        with pytest.raises(ValueError, match="not decoded"):
            read(tmp_path / "huge.png")


def test_the_rest_of_a_folder_with_bad_files_is_answered(run, tmp_path, capsys):
    folder = tmp_path / "a folder, käse 写真"
    (folder / "inner").mkdir(parents=True)
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    good = ("a first.png", "inner/ünïcode 顔.jpg", "[red]z.png")
    for name in good:
        smooth().save(folder / name)
    (folder / "notes.txt").write_text("")
    (folder / "folder.png").mkdir()
    words = ("--crops", "--student", run, "--csv", tmp_path / "o.csv", "--json", tmp_path / "o.json")
    said, out, err = predict(capsys, folder, *words, "--draw", tmp_path / "drawn")
    assert said == 1 and "1 file left out: 1 no picture (notes.txt)" in err and "Traceback" not in err
    for name, (_, sentence) in BAD.items():
        (line,) = (line for line in err.splitlines() if f"/{name}: " in line)
        assert line.startswith("error: ") and sentence in line
    assert err.count("error: ") == len(BAD) and all(name in out for name in good)
    order = [str(path) for path in sorted(folder / name for name in (*BAD, *good))]
    with open(tmp_path / "o.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for records in (found, json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))):
        assert [record["file"] for record in records] == order
        failed = {record["file"]: record["error"] for record in records if record.get("error")}
        assert failed.keys() == {str(folder / name) for name in BAD}
        assert all(sentence in failed[str(folder / name)] for name, (_, sentence) in BAD.items())
    assert {str(p.relative_to(tmp_path / "drawn")) for p in (tmp_path / "drawn").rglob("*.*")} == set(good)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_link_to_nothing_is_named_pipes_are_counted_and_the_rest_goes_on(run, tmp_path):
    smooth().save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "to a.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    words = [sys.executable, "-m", "distill.predict", str(tmp_path), "--crops", "--student", str(run)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    sentence = "cannot be opened: it is no file, or a link to none."
    told = ["2 files left out: 2 neither file nor folder (pipe)", f"error: {tmp_path / 'link.png'}: {sentence}"]
    assert done.returncode == 1 and done.stderr.splitlines() == told and "2 pictures" in done.stdout, done.stderr


def test_a_name_that_no_terminal_can_show_is_no_problem(run, tmp_path, capsys):
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9 \x1b[31m\n.png", "wb") as file:
            file.write(encoded(smooth(), "PNG"))
    except OSError:
        pytest.skip("this file system takes no such name")
    said, out, err = predict(capsys, tmp_path, "--crops", "--student", run, "--csv", tmp_path / "o.csv")
    assert said is None and "caf\\xe9 \\x1b[31m\\x0a.png" in out and "\x1b" not in out + err
    assert len((tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_predict_path_that_is_missing_or_without_pictures_is_refused_in_one_sentence(run, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("words")
    for path, sentence in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path, "no picture is in this folder"),
        (tmp_path / "notes.txt", "no picture and no video"),
    ):
        said, _, _ = predict(capsys, path, "--student", run)
        assert said.startswith(f"error: {path}: {sentence}") and "\n" not in said


def test_picture_of_mode_cmyk_becomes_rgb(tmp_path):
    smooth().convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    same(read(tmp_path / "a.jpg")[0], np.asarray(smooth()), 8)


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, kind):
    gray = np.asarray(smooth().convert("L"))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / f"a.{kind}")
    assert Image.open(tmp_path / f"a.{kind}").mode.startswith("I")
    same(read(tmp_path / f"a.{kind}")[0], np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif"])
def test_animation_gives_its_first_picture_and_says_so(run, tmp_path, capsys, kind):
    frames = [Image.new("RGB", (48, 48), color) for color in ("red", "blue", "green")]
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], duration=100)
    pixels, note = read(tmp_path / f"a.{kind}")
    same(pixels, np.full((48, 48, 3), (255, 0, 0)), 3)
    assert note == "holds 3 pictures; the first one is used"
    said, _, err = predict(capsys, tmp_path, "--crops", "--student", run)
    assert said is None and err == f"{tmp_path / f'a.{kind}'}: {note}\n"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_upright(tmp_path, orientation):
    upright = smooth()
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that a camera held so has done
    turned = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "a.png", exif=exif)
    same(read(tmp_path / "a.png")[0], np.asarray(upright))


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    smooth().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff rubbish", quality=100, subsampling=0)
    same(read(tmp_path / "a.jpg")[0], np.asarray(smooth()), 8)


def test_picture_with_transparency_becomes_white_there(tmp_path):
    alpha = np.zeros((40, 56), np.uint8)
    alpha[:, 28:] = 255
    wanted = np.asarray(smooth()).copy()
    wanted[:, :28] = 255
    picture = smooth()
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "rgba.png")
    same(read(tmp_path / "rgba.png")[0], wanted)
    picture.convert("LA").save(tmp_path / "la.png")
    same(read(tmp_path / "la.png")[0][:, :28], wanted[:, :28])
    palette = Image.new("P", (56, 40))
    palette.putpalette([0, 0, 0, 9, 99, 199])
    palette.paste(1, (28, 0, 56, 40))
    palette.save(tmp_path / "p.png", transparency=0)
    same(read(tmp_path / "p.png")[0], np.where(alpha[..., None] > 0, (9, 99, 199), 255))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_gray_palette_and_single_pixels_are_read(run, tmp_path, capsys, mode):
    smooth().convert(mode).save(tmp_path / "a.png")
    same(read(tmp_path / "a.png")[0], np.asarray(smooth().convert(mode).convert("RGB")))
    Image.new("RGB", (1, 1), "red").convert(mode).save(tmp_path / "b.png")
    assert read(tmp_path / "b.png")[0].shape == (1, 1, 3)
    said, out, _ = predict(capsys, tmp_path, "--crops", "--student", run)
    assert said is None and "2 pictures" in out


@pytest.mark.filterwarnings("error")
def test_picture_with_damaged_bytes_is_read_or_refused_in_a_sentence(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    draw, file, refused, taken = np.random.default_rng(0), tmp_path / "a.png", 0, 0
    whole = [
        encoded(smooth(), kind, **more)
        for kind, more in (
            ("JPEG", {"exif": exif}),
            ("PNG", {}),
            ("GIF", {}),
            ("WEBP", {"exif": exif}),
            ("TIFF", {}),
            ("BMP", {}),
            ("PPM", {}),
        )
    ]
    for number in range(350):
        content = bytearray(whole[number % len(whole)])
        for place in draw.integers(0, min(len(content), 400), 4):
            content[place] = draw.integers(256)
        file.write_bytes(content[: len(content) - int(draw.integers(0, 2)) * int(draw.integers(0, 200))])
        try:
            pixels, _ = read(file)
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
            taken += 1
        except ValueError:
            refused += 1
    assert refused > 50 and taken > 50
