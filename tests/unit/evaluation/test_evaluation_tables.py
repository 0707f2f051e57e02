"""The rows that console, report and model card share."""

import numpy as np
import pytest

from distill.evaluation.printed import measured
from distill.evaluation.tables import Share, calibration, corruptions, scores

SCORES = {"top1_accuracy": 0.4, "mean_class_accuracy": 0.3}


def test_scores_are_those_of_the_split_that_is_asked_for_and_none_where_nothing_was_measured():
    values = {
        "valid/top1_accuracy": 0.9,
        "test/top1_accuracy": 0.75,
        "test/top1_accuracy_ci": [0.7, 0.8],
        "test/nll": 1.5,
    }
    own = scores(values, "test/", 200)
    assert own == (200, Share(0.75, 0.7, 0.8), None, None, 1.5, None)
    assert (own.top1.percent(), own.top1.interval) == ("75.00", "70.0 to 80.0")
    assert scores(SCORES | {"rows": 9}).top1 == Share(0.4) and scores(SCORES | {"rows": 9}).mean_class.interval == ""


def test_every_face_is_in_one_bin_of_confidence_unless_its_bin_has_too_few():
    confidence = np.repeat([0.97, 0.62, 0.52], [80, 11, 9])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    labels = (np.arange(100) % 4 == 0).astype(int)
    bins = calibration(probabilities, labels, 10)
    assert [own.faces for own in bins] == [9, 11, 80] and [own.low for own in bins] == pytest.approx([0.5, 0.6, 0.9])
    assert sum(own.faces * own.accuracy for own in bins) == pytest.approx(75)
    assert [own.confidence for own in bins] == pytest.approx([0.52, 0.62, 0.97])
    assert [own.faces for own in calibration(probabilities, labels, 10, 10)] == [11, 80]


def corrupted():
    low = SCORES | {"top1_accuracy": 0.2}
    return {
        **{"rows": 32, "severities": [1, 3], "clean": SCORES, "mean": low},
        "corruptions": {"blur": {"1": SCORES, "3": low, "mean": {"top1_accuracy": 0.3, "mean_class_accuracy": 0.3}}},
    }


def test_a_corruption_is_a_row_of_its_severities_and_their_mean():
    assert corruptions(corrupted()) == (32, 0.4, 0.2, [1, 3], {"blur": [0.4, 0.2, 0.3]})
    assert corruptions({}) is None and corruptions(None) is None


def test_what_was_measured_on_other_faces_is_printed_with_its_intervals_and_corruptions(tmp_path, capsys):
    test = SCORES | {"rows": 1234, "top1_accuracy_ci": [0.35, 0.45], "mean_class_accuracy_ci": [0.2, 0.4]}
    result = {
        **{
            "run": "a run",
            "data": {"name": "fedro", "protocol": "all", "notes": {"left_out": {"not in a list": [2, "a.png"]}}},
            "test": test,
            "recall": {"fear": 0.4, "anger": None},
            "unseen": {},
            "extra_test_splits": {},
        },
        **{"robustness": corrupted(), "dropped": {}, "seen_in_training": 0, "near_duplicates": 0},
        "classes": {"compared": ["fear"], "only_run": [], "only_data": []},
    }
    measured(result, tmp_path / "fedro.json")
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.split()}
    assert "found of each class: fear 40.0%\n" in said and "a.png" in said
    assert rows["test"] == ["1,234", "40.00%", "35.0", "to", "45.0", "30.00%", "20.0", "to", "40.0"]
    assert rows["blur"] == ["1,234", "30.00%", "30.00%"]
