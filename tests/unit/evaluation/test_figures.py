"""The pictures of an evaluation."""

import warnings

import numpy as np
from PIL import Image

from distill.evaluation import figures


def test_pictures_are_a_thousand_pixels_wide_and_nothing_else_is_left(tmp_path):
    draw = np.random.default_rng(0)
    labels, sampling_weights = draw.integers(0, 3, 40), draw.dirichlet(np.ones(3), 40)
    counts = np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]])
    figures.confusion_matrix(counts, ["a", "b", "c"], tmp_path / "matrix.png")
    for name, shape, n in (("gray", (40, 1, 48, 48), 24), ("color", (40, 3, 32, 32), 7), ("few", (2, 1, 48, 48), 24)):
        faces = draw.integers(0, 256, shape, dtype=np.uint8)
        rows = len(faces)
        figures.sample_predictions(
            faces, labels[:rows], sampling_weights[:rows], ["a", "b", "c"], tmp_path / f"{name}.png", n=n
        )
    assert {path.name for path in tmp_path.iterdir()} == {"matrix.png", "gray.png", "color.png", "few.png"}
    for path in tmp_path.iterdir():
        picture = Image.open(path)
        assert picture.width == 1000 and np.asarray(picture.convert("L")).std() > 10


def test_the_grid_shows_the_surest_mistakes_and_right_ones_from_sure_to_unsure():
    right = np.array([True, False, True, False, True, False, True])
    confidence = np.array([0.9, 0.5, 0.8, 0.7, 0.6, 0.4, 0.3])
    assert figures._choose(right, confidence, 4).tolist() == [3, 1, 0, 6]
    assert figures._choose(right, confidence, 6).tolist() == [3, 1, 5, 0, 4, 6]
    assert figures._choose(np.ones(3, bool), confidence[:3], 6).tolist() == [0, 2, 1]
    assert figures._choose(np.zeros(3, bool), confidence[:3], 2).tolist() == [0, 2]


def test_class_names_of_any_letters_are_drawn_without_a_warning(tmp_path):
    classes, thirds = ["怒り", r"a$\foo$", "é_b"], np.full((3, 3), 1 / 3)
    faces = np.zeros((3, 1, 8, 8), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's of a glyph that its font does not have
        figures.confusion_matrix(np.eye(3, dtype=int), classes, tmp_path / "matrix.png")
        figures.sample_predictions(faces, np.array([1, 1, 2]), thirds, classes, tmp_path / "faces.png")
    assert figures._legible(classes) == ["class 0", r"a\$\foo\$", "é_b"]


def scores(severities, **ends):
    """Results of an evaluation whose curves fall to the given accuracies."""
    curves = {name: {str(s): {"top1_accuracy": end} for s in severities} for name, end in ends.items()}
    clean, mean = {"top1_accuracy": 0.75}, {"top1_accuracy": 0.4}
    return {"rows": 3137, "severities": severities, "clean": clean, "corruptions": curves, "mean": mean}


def test_robustness_curves_are_drawn_for_one_severity_and_for_more_corruptions_than_colors(tmp_path):
    figures.robustness(scores([3], mask=0.0), tmp_path / "one.png")
    figures.robustness(scores([1, 3, 5], **{f"kind{k}": 0.3 for k in range(11)}), tmp_path / "many.png")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "many.png"}
    for path in tmp_path.iterdir():
        picture = Image.open(path)
        assert picture.width == 1000 and np.asarray(picture.convert("L")).std() > 10
