"""Expressions of faces in pictures, as a person asks for them: found, cut out, answered, written, drawn."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from commandline import ROOT
from PIL import Image
from predicting import FACE, astronaut, needs_detector, noise, predict, rows, write_student

from distill.data.common.emotions import EMOTIONS
from distill.export.runtimes import open_file
from distill.predict import detector
from distill.predict.boxes import cut, squares

FERPLUS = ROOT.parent / "shared" / "data" / "ferplus.tar.gz"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_student(tmp_path_factory.mktemp("predict") / "a run")


def answers(run, pictures):
    return open_file(run / "export" / "student.onnx", 1).answer(np.stack(pictures))[1]


def near(row, probabilities):
    found = [float(row[name]) for name in EMOTIONS]
    np.testing.assert_allclose(found, probabilities, atol=2e-6)
    assert row["expression"] == EMOTIONS[int(np.argmax(probabilities))]
    assert float(row["probability"]) == max(found)


@needs_detector
def test_the_astronauts_face_is_found_answered_for_and_drawn(run, tmp_path, capsys):
    photo = astronaut()
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in" / "photo.png")
    words = ("--csv", tmp_path / "o.csv", "--json", tmp_path / "o.json", "--draw", tmp_path / "drawn")
    said, out, err = predict(capsys, tmp_path / "in", "--student", run, *words)
    assert said is None and "photo.png" in out and "1 face: " in out and err == ""
    (row,) = rows(tmp_path / "o.csv")
    box = [float(row[name]) for name in ("x", "y", "width", "height")]
    np.testing.assert_allclose(box, [*FACE, FACE[2]], atol=3)
    assert float(row["score"]) > 0.9 and row["face"] == "1" and row["frame"] == row["seconds"] == ""
    near(row, answers(run, [cut(np.asarray(photo), np.array(box), (48, 48))])[0])
    ((picture,),) = (json.loads((tmp_path / "o.json").read_text()),)
    assert (picture["height"], picture["width"]) == (512, 512) and picture["faces"][0]["box"] == box
    assert picture["faces"][0]["probabilities"] == {name: float(row[name]) for name in EMOTIONS}
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "photo.png"))
    changed = np.abs(drawn[:, :512].astype(int) - np.asarray(photo)).sum(2) > 60
    assert changed[100:180, 162:166].any(1).all() and changed[100:180, 286:291].any(1).all(), "the box's sides"
    assert not changed[70:175, 170:280].any() and not changed[200:].any(), "the face and the rest stay as they were"
    assert drawn.shape[0] == 512 and drawn.shape[1] > 700 and drawn[:, 520:].std() > 10


@needs_detector
def test_boxes_follow_the_picture_and_come_from_left_to_right():
    photo, find = np.asarray(astronaut()), detector.CenterFace(None, 1)
    (wanted,), (score,) = find(photo)
    two = np.concatenate([noise(512, 100), photo, photo], 1)
    boxes, scores = detector.CenterFace(None, 1, size=2000)(two)
    np.testing.assert_allclose(boxes, wanted + np.array([[100, 0, 0, 0], [612, 0, 0, 0]]), atol=4)
    assert abs(scores - score).max() < 0.1
    large = np.asarray(Image.fromarray(photo).resize((1536, 1536)))
    np.testing.assert_allclose(find(large)[0], [wanted * 3], atol=12)
    assert len(detector.CenterFace(None, 1, smallest=100)(photo)[0]) == 0
    assert len(detector.CenterFace(None, 1, threshold=0.99)(photo)[0]) == 0


@needs_detector
@pytest.mark.skipif(not FERPLUS.is_file(), reason="FER+ is not here")
def test_faces_of_ferplus_in_a_collage_are_found_where_they_are():
    faces = []
    with tarfile.open(FERPLUS) as archive:
        for member in archive:
            if member.name.endswith(".png"):
                faces.append(Image.open(BytesIO(archive.extractfile(member).read())).convert("RGB").resize((144, 144)))
            if len(faces) == 12:
                break
    sheet = Image.new("RGB", (960, 720), (128, 128, 128))
    for k, face in enumerate(faces):
        sheet.paste(face, (240 * (k % 4) + 48, 240 * (k // 4) + 48))
    boxes, _ = detector.CenterFace(None, 1, size=960)(np.asarray(sheet))
    found = squares(boxes, 0.05)
    cells = {(int(x + w / 2) // 240, int(y + h / 2) // 240) for x, y, w, h in found}
    assert len(cells) == len(boxes) >= 10
    corners = found[:, :2] - [
        [240 * ((x + w / 2) // 240) + 48, 240 * ((y + h / 2) // 240) + 48] for x, y, w, h in found
    ]
    assert np.median(np.abs(corners)) < 12 and abs(np.median(found[:, 2]) - 144) < 15, "crops as the student saw them"


@needs_detector
def test_a_picture_without_a_face_is_a_row_and_no_error(run, tmp_path, capsys):
    Image.fromarray(noise(200, 300)).save(tmp_path / "sky.png")
    said, out, _ = predict(capsys, tmp_path / "sky.png", "--student", run, "--csv", tmp_path / "o.csv", "--json", "-")
    assert said is None and json.loads(out)[0]["faces"] == []
    (row,) = rows(tmp_path / "o.csv")
    assert row["file"] == str(tmp_path / "sky.png") and row["face"] == row["expression"] == row["neutral"] == ""
    assert "no face found" in predict(capsys, tmp_path / "sky.png", "--student", run)[1]


def test_crops_are_answered_as_they_are_and_in_their_order(run, tmp_path, capsys):
    crops = [noise(48, 48, seed) for seed in range(150)]
    for k, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / f"{k:03}.png")
    said, out, _ = predict(capsys, tmp_path, "--student", run, "--crops", "--csv", tmp_path / "o.csv")
    found = rows(tmp_path / "o.csv")
    assert said is None and [Path(row["file"]).name for row in found] == [f"{k:03}.png" for k in range(150)]
    for row, wanted in zip(found, answers(run, crops), strict=True):
        near(row, wanted)
        assert row["score"] == "" and [row["width"], row["height"]] == ["48.0", "48.0"]
    assert "150 pictures, 0 without a face" in out and "pictures/s" in out
    assert "o.csv" not in out and "other files" not in out


def test_given_boxes_are_used_as_they_are(run, tmp_path, capsys):
    pictures = [noise(90, 120, 1), noise(60, 60, 2), noise(50, 50, 3)]
    (tmp_path / "in" / "käse dir").mkdir(parents=True)
    for name, picture in zip(("a.png", "käse dir/b.png", "c.png"), pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / "in" / name)
    text = "path,x,y,width,height\na.png,10,20,48,48\na.png,0,0,30,40\n./käse dir/b.png,-5,-5,40,40\nnot there.png,1,1,9,9\n"
    (tmp_path / "boxes.csv").write_text(text)
    words = ("--student", run, "--boxes", tmp_path / "boxes.csv", "--csv", tmp_path / "o.csv")
    said, _, err = predict(capsys, tmp_path / "in", *words)
    assert said == 1 and err.count("\n") == 1 and "not there.png: " in err and "there is no such picture" in err
    found = {
        name: [r for r in rows(tmp_path / "o.csv") if r["file"].endswith(name)] for name in ("a.png", "b.png", "c.png")
    }
    near(found["a.png"][0], answers(run, [pictures[0][20:68, 10:58]])[0])
    assert [r["face"] for r in found["a.png"]] == ["1", "2"] and found["c.png"][0]["face"] == ""
    beyond = np.pad(pictures[1][:35, :35], ((5, 0), (5, 0), (0, 0)), mode="edge")
    near(
        found["b.png"][0],
        answers(run, [np.asarray(Image.fromarray(beyond).resize((48, 48), Image.Resampling.BILINEAR))])[0],
    )


def test_boxes_file_with_rows_of_other_pictures_is_no_concern_of_one_picture(run, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(60, 60)).save(tmp_path / name)
    (tmp_path / "all.csv").write_text("a.png,1,2,30,40\nb.png,1,2,30,40\nb.png,5,5,9,9\n")
    words = ("--student", run, "--boxes", tmp_path / "all.csv", "--csv", tmp_path / "o.csv")
    said, out, err = predict(capsys, tmp_path / "a.png", *words)
    assert said is None and err == "" and "1 picture, 0 without a face" in out
    assert [row["file"] for row in rows(tmp_path / "o.csv")] == [str(tmp_path / "a.png")]


BOXES = [
    ("a.png,1,2,3,4\na.png,1,2,x,4\n", "row 2 is 'a.png,1,2,x,4'; it must be: path,x,y,width,height."),
    ("a.png,1,2,0,4\n", "row 1 is"),
    ("a.png,nan,2,3,4\n", "row 1 is"),
    ("path,x,y\na.png,1,2,3\n", "row 2 is"),
    ("a.png,500,2,3,4\n", "box 500,2,3,4 does not fit a picture of 40 x 30 pixels"),
    ("a.png,0,0,90000,90000\n", "does not fit"),
]


@pytest.mark.parametrize("text, sentence", BOXES)
def test_a_box_that_cannot_be_is_named(run, tmp_path, capsys, text, sentence):
    Image.fromarray(noise(30, 40)).save(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text(text)
    said, _, err = predict(capsys, tmp_path / "a.png", "--student", run, "--boxes", tmp_path / "boxes.csv")
    assert sentence in (err if said == 1 else said) and "\n" not in str(said)


def test_surest_of_boxes_that_overlap_keeps_one():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [1, 5, 10, 10], [50, 50, 4, 4]], float)
    assert detector.surest(boxes, np.array([0.8, 0.9, 0.7, 0.6])).tolist() == [1, 3]
    assert detector.surest(boxes, np.array([0.9, 0.8, 0.7, 0.6])).tolist() == [0, 2, 3], "45 of 155 is little"
    assert detector.surest(boxes[:0], np.zeros(0)).tolist() == []


def test_a_square_is_cut_out_with_the_border_repeated():
    np.testing.assert_allclose(squares(np.array([[10.0, 20, 10, 20]]), 0.1), [[4, 19, 22, 22]])
    picture = noise(20, 30)
    assert np.array_equal(cut(picture, np.array([3, 4, 8, 8]), (8, 8)), picture[4:12, 3:11])
    assert (cut(picture, np.array([-10, -10, 10, 10]), (10, 10)) == picture[0, 0]).all()
    assert cut(picture, np.array([29.4, 19.4, 0.2, 0.2]), (48, 48)).shape == (48, 48, 3)
