"""BlazeFace is MediaPipe's network number by number; near faces are found in small pictures, and followed where they go far."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commandline import benchmark
from PIL import Image
from predicting import FACE, astronaut, needs_detector, noise

from distill.predict import blazeface
from distill.predict.blazeface import EVERY, BlazeFace, Tracker, blend
from distill.predict.boxes import overlap, squares
from distill.predict.detector import SMALL, find_faces, open_detector

made = benchmark("blazeface_onnx", "docs")
STORE = Path(os.environ.get("FER_DISTILL_STORE", "~/.cache/fer-distill")).expanduser()
SOURCE = STORE / "web" / "face_detection_short_range.tflite"


@pytest.fixture(scope="module")
def near():
    return BlazeFace(1, 0.5, 20)


@pytest.fixture(scope="module")
def source():
    """MediaPipe's file; npm brings it, once."""
    if not SOURCE.is_file():
        SOURCE.parent.mkdir(parents=True, exist_ok=True)
        package = "@mediapipe/face_detection@0.4.1657300184"
        words = ["pack", package, "--ignore-scripts", "--pack-destination", str(SOURCE.parent)]
        npm = shutil.which("npm")
        if npm is None or subprocess.run([npm, *words], capture_output=True, timeout=300).returncode:
            pytest.skip(f"npm cannot fetch {package}")
        with tarfile.open(SOURCE.parent / "mediapipe-face_detection-0.4.1657300184.tgz") as archive:
            SOURCE.write_bytes(archive.extractfile(f"package/{SOURCE.name}").read())
    return SOURCE.read_bytes()


def pasted(side: int, height: int = 480, width: int = 640, left: int = 300, top: int = 200) -> np.ndarray:
    """Return a picture with the astronaut's head, its face so many pixels wide."""
    x, y, face = FACE
    head = astronaut().crop((x - face // 2, y - face // 3, x + 3 * face // 2, y + 5 * face // 3))
    sheet = Image.new("RGB", (width, height), (90, 110, 120))
    sheet.paste(head.resize((2 * side, 2 * side), Image.Resampling.LANCZOS), (left - side // 2, top - side // 3))
    return np.asarray(sheet)


def test_the_network_answers_as_the_interpreter_of_its_source_does(near):
    picture = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    boxes, logits = near.session.run(None, {"image": picture})
    at = [0, 333, 511, 512, 700, 895]  # of both grids; the numbers are LiteRT's 2.3.0
    np.testing.assert_allclose(logits[0, at], [-4.388, -2.65, -4.286, -4.55, -3.379, -39.768], atol=2e-3)
    np.testing.assert_allclose(boxes[0, at, 0], [0.79, -0.262, 0.982, 1.913, 0.158, 9.969], atol=2e-3)
    np.testing.assert_allclose(boxes[0, at, 2], [26.884, 32.846, 43.13, 43.281, 68.432, 131.399], atol=2e-3)
    np.testing.assert_allclose(boxes[0, at, 15], [-1.178, -8.875, -3.567, -10.351, -13.854, -16.179], atol=2e-3)


def test_the_file_is_the_conversion_of_its_source_and_no_other_one_is_converted(source):
    assert made.convert(source).SerializeToString(deterministic=True) == blazeface.FILE.read_bytes()
    with pytest.raises(ValueError, match="is not the face_detection_short_range"):
        made.convert(source + b"x")


def test_every_answer_is_that_of_litert(near, source):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_content=source)
    interpreter.allocate_tensors()
    picture = noise(128, 128)
    interpreter.set_tensor(0, (picture.astype(np.float32) / np.float32(127.5) - 1)[None])
    interpreter.invoke()
    wanted = {told["name"]: interpreter.get_tensor(told["index"]) for told in interpreter.get_output_details()}
    boxes, logits = near.session.run(None, {"image": picture[None]})
    np.testing.assert_allclose(boxes, wanted["regressors"], atol=1e-2)
    np.testing.assert_allclose(logits, wanted["classificators"][:, :, 0], atol=1e-2)


def test_the_license_lies_beside_the_file():
    text = blazeface.FILE.with_name("LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert hashlib.sha256(blazeface.FILE.read_bytes()).hexdigest().startswith("e27a26f5d2cf6eb4")


def test_a_cell_is_the_box_that_its_formula_says():
    boxes, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896), -9, np.float32)
    logits[0, [2 * (16 * 3 + 5), 512 + 6 * (8 * 2 + 1)]] = 2, 0  # the second one is not above one half
    boxes[0, 2 * (16 * 3 + 5), :4] = 1, 2, 20, 20
    finder = object.__new__(BlazeFace)
    finder.threshold = 0.5
    finder.session = SimpleNamespace(run=lambda names, given: (boxes, logits))
    found, scores = finder._look(np.zeros((1, 128, 128, 3), np.uint8), np.array([[100, 50, 3]]))
    side = 20 * blazeface.GROWTH
    wanted = [100 + 3 * (44 + 1 - side / 2), 50 + 3 * (28 + 2 - 20 * blazeface.LIFT - side / 2), 3 * side, 3 * side]
    np.testing.assert_allclose(found, [wanted])
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2))])


def test_boxes_that_overlap_become_one_weighted_by_scores():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 10, 10], [50, 50, 4, 4]], float)
    means, best = blend(boxes, np.array([0.6, 0.9, 0.7]))
    np.testing.assert_allclose(means, [[1.2, 0, 10, 10], [50, 50, 4, 4]])
    assert best.tolist() == [0.9, 0.7]
    assert blend(boxes[:0], np.zeros(0))[0].shape == (0, 4)


@needs_detector
def test_small_pictures_are_blazefaces_and_large_ones_centerfaces():
    tiny = np.asarray(astronaut().resize((112, 112), Image.Resampling.LANCZOS))
    ((x, y, side, _),) = find_faces(tiny)
    np.testing.assert_allclose([x, y, side], np.array(FACE) * 112 / 512, atol=6)
    far = pasted(60, 720, 1280)
    assert len(find_faces(far)) == 1 and len(open_detector("blazeface", 1, 640, 0.5, 20)(far)[0]) == 0
    for side, asked in ((SMALL, "blazeface"), (SMALL + 1, "centerface")):
        picture = np.asarray(astronaut().resize((side, side), Image.Resampling.LANCZOS))
        found, wanted = find_faces(picture), open_detector(asked, 1, 640, 0.5, 20)(picture)[0]
        np.testing.assert_allclose(found, squares(wanted, 0.05), atol=0.01)


def test_a_face_that_goes_away_is_followed_where_it_would_not_be_found(near):
    track, sides = Tracker(near), range(160, 32, -8)
    for side in sides:
        boxes, scores = track(pasted(side))
        assert len(boxes) == 1 and scores[0] > 0.5, side
        np.testing.assert_allclose(boxes[0, :2] + boxes[0, 2:] / 2, [300 + side / 2, 200 + side / 2], atol=0.2 * side)
        assert 0.75 < boxes[0, 2] / side < 1.4
    assert len(near(pasted(sides[-1]))[0]) == 0
    assert len(track(noise(480, 640))[0]) == 0


def test_of_a_video_a_slow_detector_looks_at_one_frame_of_thirty_and_what_it_finds_is_followed(near):
    looks, small = [], pasted(40)

    def far(picture):
        looks.append(picture)
        return np.array([[298.0, 198, 44, 44]]), np.ones(1)

    track = Tracker(near, far)
    for number in range(EVERY + 1):
        boxes, _ = track(small)
        assert len(boxes) == 1 and overlap(boxes[0], np.array([[300.0, 200, 40, 40]]))[0] > 0.4
        assert len(looks) == 1 + (number == EVERY)


def test_the_whole_frame_is_searched_in_one_of_five_and_wherever_a_face_is_lost(near, monkeypatch):
    searched, search, track = [], near.search, Tracker(near)
    monkeypatch.setattr(near, "search", lambda picture: searched.append(track.number) or search(picture))
    left, right = pasted(120, left=150), pasted(120, left=450)
    for frame in [left] * 7 + [right, right] + [noise(480, 640)[:, :1]] * 2:  # 7: the film is cut
        boxes, _ = track(np.ascontiguousarray(frame))
        assert len(boxes) == (frame.shape[1] > 1)
    assert searched == [0, 5, 7, 9, 10] and len(boxes) == 0


def test_two_faces_come_from_left_to_right_once_each(near):
    two = np.concatenate([pasted(90, 300, 320, 100, 100), pasted(90, 300, 320, 100, 100)], 1)
    track = Tracker(near)
    for _ in range(2):
        boxes, _ = track(two)
        assert len(boxes) == 2 and abs(boxes[1, 0] - boxes[0, 0] - 320) < 12
