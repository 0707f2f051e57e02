"""Metrics against hand-computed numbers and scikit-learn."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from distill.evaluation import metrics

CLASSES = ("neutral", "happiness", "surprise", "anger")


@pytest.fixture
def answers():
    draw = np.random.default_rng(0)
    labels = draw.choice(4, 400, p=[0.6, 0.2, 0.15, 0.05])
    return draw.normal(size=(400, 4)) + 1.5 * np.eye(4)[labels], labels


def test_accuracies_recall_confusion_and_likelihood_equal_scikit_learn(answers):
    logits, labels = answers
    guesses, chances = logits.argmax(1), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.top1_accuracy(logits, labels) == pytest.approx(oracle.accuracy_score(labels, guesses), abs=1e-12)
    balanced = oracle.balanced_accuracy_score(labels, guesses)
    assert metrics.mean_class_accuracy(logits, labels) == pytest.approx(balanced, abs=1e-12)
    recall = oracle.recall_score(labels, guesses, average=None)
    np.testing.assert_allclose(metrics.per_class_recall(logits, labels), recall)
    np.testing.assert_array_equal(metrics.confusion_matrix(logits, labels), oracle.confusion_matrix(labels, guesses))
    assert metrics.nll(logits, labels) == pytest.approx(oracle.log_loss(labels, chances), abs=1e-12)


def test_a_class_without_pictures_has_no_recall_and_does_not_count_in_the_mean():
    logits, labels = np.eye(3)[[0, 1, 1]], np.array([0, 0, 1])
    np.testing.assert_array_equal(metrics.per_class_recall(logits, labels), [0.5, 1, np.nan])
    assert metrics.mean_class_accuracy(logits, labels) == 0.75


def test_calibration_error_equals_a_sum_by_hand():
    confident, unsure = np.log([0.9, 0.1]), np.log([0.6, 0.4])  # bins (13/15, 14/15] and (8/15, 9/15]
    logits = np.stack([confident, confident, confident, confident, unsure])
    labels = np.array([0, 0, 0, 1, 1])
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(0.8 * abs(0.75 - 0.9) + 0.2 * 0.6)


def test_calibration_error_equals_a_plain_loop_over_bins(answers):
    logits, labels = answers
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right, total = chances.max(1), chances.argmax(1) == labels, 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(total, abs=1e-12)
    assert total > 0.01


def test_a_confidence_on_an_edge_is_in_the_bin_below_it_and_0_in_the_first():
    assert metrics.binned(np.array([0, 0.25, 0.2501, 0.5, 0.75, 1]), 4).tolist() == [0, 0, 1, 1, 2, 3]


def test_certain_right_answers_are_perfectly_calibrated_and_huge_logits_do_not_overflow():
    logits, labels = 1e4 * np.eye(3), np.arange(3)
    assert metrics.expected_calibration_error(logits, labels) == 0
    assert metrics.nll(logits, labels) == 0
    assert metrics.nll(logits, np.array([0, 1, 0])) == pytest.approx(1e4 / 3)


def test_agreement_counts_equal_guesses_right_or_wrong():
    assert metrics.agreement(np.eye(4), np.eye(4)[[0, 1, 3, 2]]) == 0.5
    with pytest.raises(ValueError, match=r"agreement: \[4, 4\] logits were compared with \[3, 4\]"):
        metrics.agreement(np.eye(4), np.eye(4)[:3])


def test_torch_of_any_precision_and_numpy_give_the_same_numbers(answers):
    logits = torch.tensor(answers[0]).bfloat16().requires_grad_()
    labels = torch.tensor(answers[1])
    ours = metrics.evaluate_predictions(logits, labels, CLASSES, -logits)
    rounded = logits.detach().float().numpy()
    assert ours == metrics.evaluate_predictions(rounded, answers[1], CLASSES, -rounded)
    assert ours["nll"] != metrics.nll(*answers)


def test_an_evaluation_has_the_same_names_everywhere_and_agreement_only_beside_a_teacher(answers):
    alone = metrics.evaluate_predictions(*answers, CLASSES)
    intervals = {name: alone.pop(name) for name in ("top1_accuracy_ci", "mean_class_accuracy_ci")}
    assert set(alone) == {"top1_accuracy", "mean_class_accuracy", "expected_calibration_error", "nll"}
    assert all(type(value) is float for value in alone.values())
    for name, interval in intervals.items():
        low, high = interval
        assert type(interval) is list and low < alone[name.removesuffix("_ci")] < high
    assert json.loads(json.dumps(intervals)) == intervals
    assert set(metrics.evaluate_predictions(*answers, CLASSES, answers[0])) - {*alone, *intervals} == {"agreement"}


def test_the_bootstrap_interval_is_close_to_the_normal_approximation(answers):
    low, high = metrics.bootstrap(*answers)
    mean = metrics.top1_accuracy(*answers)
    half = 1.96 * np.sqrt(mean * (1 - mean) / 400)
    assert low == pytest.approx(mean - half, abs=0.01) and high == pytest.approx(mean + half, abs=0.01)


def test_the_bootstrap_of_counts_equals_a_loop_that_scores_every_resample():
    labels = np.array([0] * 9 + [1] * 6 + [2])
    logits = np.eye(4)[[0, 0, 0, 0, 0, 0, 1, 2, 3, 1, 1, 1, 0, 0, 2, 2]]
    right = logits.argmax(1) == labels
    kinds = [(k, hit) for hit in (True, False) for k in range(4)]
    shares = np.array([((labels == k) & (right == hit)).mean() for k, hit in kinds])
    counts = np.random.Generator(np.random.Philox(7)).multinomial(16, shares, 300)
    values = []
    for count in counts:
        drawn = [(k, hit) for (k, hit), n in zip(kinds, count, strict=True) for _ in range(n)]
        truth = np.array([k for k, _ in drawn])
        guess = np.array([k if hit else (k + 1) % 4 for k, hit in drawn])
        values.append(metrics.top1_accuracy(np.eye(4)[guess], truth))
    ours = metrics.bootstrap(logits, labels, draws=300, seed=7)
    assert ours == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-12)


def test_the_bootstrap_of_counts_agrees_with_the_one_that_draws_rows(answers):
    fast = metrics.bootstrap(*answers, draws=4000)
    logits, labels = (np.asarray(array) for array in answers)
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, len(labels), len(labels)) for _ in range(1000)]
    slow = np.quantile([metrics.top1_accuracy(logits[pick], labels[pick]) for pick in rows], [0.025, 0.975])
    assert fast == pytest.approx(slow, abs=0.01) and fast[1] - fast[0] > 0.05
    assert fast == metrics.bootstrap(*answers, draws=4000)
    assert fast != metrics.bootstrap(*answers, draws=4000, seed=1)


def counted(hits, faces):
    """Predictions of which so many of each class's faces are right."""
    labels = np.repeat(np.arange(len(faces)), faces)
    right = np.concatenate([np.arange(n) < k for k, n in zip(hits, faces, strict=True)])
    return np.eye(len(faces))[np.where(right, labels, (labels + 1) % len(faces))], labels


def test_the_interval_of_the_mean_over_classes_equals_the_formula_by_hand():
    halves = {(7, 8): (0.345897, 0.102593), (8, 8): (0.324416, 0.0), (0, 8): (0.0, 0.324416)}
    for (right, n), (below, above) in halves.items():
        low, high = metrics.wilson(right, n)
        assert (right / n - low, high - right / n) == pytest.approx((below, above), abs=1e-5)
    below, above = (0.345897**2 + 0.324416**2) ** 0.5 / 5, (0.102593**2 + 3 * 0.324416**2) ** 0.5 / 5
    found = metrics.mean_class_interval(*counted([7, 8, 0, 0, 0], [8] * 5))
    assert found == pytest.approx((0.375 - below, 0.375 + above), abs=1e-5)
    assert metrics.mean_class_interval(*counted([3, 0], [4, 0])) == pytest.approx(metrics.wilson(3, 4))
    logits, labels = counted([7, 8, 0], [8, 8, 0])
    assert metrics.mean_class_interval(logits, labels) == metrics.mean_class_interval(logits[:, :2] + 0, labels)


@pytest.mark.parametrize("recall", [[0.9, 0.7, 0.5], [0.99, 0.9, 0.03]])
def test_intervals_cover_the_true_accuracy_about_as_often_as_they_say(recall):
    draw, recall, shares = np.random.default_rng(0), np.array(recall), np.array([0.6, 0.3, 0.1])
    truths, covered = (shares @ recall, recall.mean()), []
    for _ in range(400):
        labels = draw.choice(3, 200, p=shares)
        guesses = np.eye(3)[np.where(draw.random(200) < recall[labels], labels, (labels + 1) % 3)]
        intervals = (metrics.bootstrap(guesses, labels, draws=400), metrics.mean_class_interval(guesses, labels))
        covered.append([low <= truth <= high for (low, high), truth in zip(intervals, truths, strict=True)])
    assert (np.mean(covered, 0) > 0.91).all() and (np.mean(covered, 0) < 0.985).all()


@pytest.mark.parametrize(
    ("logits", "labels", "sentence"),
    [
        (np.zeros((0, 4)), np.zeros(0, int), r"shape \[0, 4\] was given"),
        (np.array([[0, 1, 0, 0], [0, np.nan, 0, 0]]), np.array([0, 1]), "row 1 is not finite"),
        (np.zeros((2, 4)), np.array([0, 4]), "row 1 has class 4"),
        (np.zeros((2, 4)), np.array([-1, 0]), "row 0 has class -1"),
        (np.zeros((2, 4)), np.array([0]), r"shape \[1\] for 2 rows"),
        (np.zeros((2, 4)), np.array([0.0, 1.0]), "float64 of shape"),
        (np.zeros((2, 3)), np.array([0, 1]), "3 columns for 4 classes"),
    ],
)
def test_answers_that_cannot_be_scored_are_refused_with_a_sentence(logits, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        metrics.evaluate_predictions(logits, labels, CLASSES)
