"""What waits for the student is little, and every face keeps its own score and margin."""

from types import SimpleNamespace

import numpy as np
from PIL import ImageFont

from distill.predict import drawing
from distill.predict.job import Job
from distill.predict.output import records
from distill.predict.pipeline import PIXELS, Frame, FrameResult, run_inference
from distill.predict.student import Student

STUDENT = Student(lambda crops: (None, np.full((len(crops), 2), 0.5, np.float32)), ("a", "b"), (8, 8), "x")


def taken_until_the_first_answer(side, keep):
    taken = []
    picture = np.zeros((side, side, 3), np.uint8)
    frames = (Frame(str(taken.append(k)), picture, (side, side), np.zeros((0, 4)), None) for k in range(200))
    assert next(run_inference(frames, STUDENT, keep)).probabilities.shape == (0, 2)
    return len(taken)


def test_pictures_without_faces_do_not_wait_for_ever_nor_do_large_ones_that_are_kept():
    assert taken_until_the_first_answer(8, True) == taken_until_the_first_answer(2048, False) == 64
    assert taken_until_the_first_answer(2048, True) == -(-PIXELS // (3 * 2048**2))


def test_every_face_has_its_own_score_and_probabilities():
    frame = Frame("a", None, (9, 9), np.array([[1.04, 2, 3, 4], [5, 6, 7, 8]]), np.array([0.91, 0.72]))
    first, second = records(FrameResult(frame, np.array([[0.75, 0.25], [0.125, 0.875]])), ("a", "b"))
    assert first == {
        **{"box": [1.0, 2.0, 3.0, 4.0], "score": 0.91, "expression": "a", "probability": 0.75},
        "probabilities": {"a": 0.75, "b": 0.25},
    }
    assert (second["score"], second["expression"], second["box"]) == (0.72, "b", [5.0, 6.0, 7.0, 8.0])


def test_the_margin_that_was_asked_for_is_that_around_the_detectors_boxes():
    job = object.__new__(Job)
    job.options, job.given = SimpleNamespace(crops=False, margin=0.5), None
    job.detector = lambda picture: (np.array([[10.0, 20, 10, 20]]), np.array([0.9]))
    boxes, scores = job.boxes(np.zeros((64, 64, 3), np.uint8), None)
    assert boxes.tolist() == [[0, 15, 30, 30]] and scores.tolist() == [0.9]


def test_a_drawn_class_name_is_legible_in_a_font_that_lacks_its_letters():
    font = ImageFont.load_default(20)
    assert drawing._legible(["dégoût", "怒り", "sad"], font) == ["degout", "class 1", "sad"]
