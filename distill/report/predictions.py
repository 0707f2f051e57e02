"""What one network answered, face by face: its mistakes as a matrix, its confidence against its accuracy, each class with an interval."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.evaluation.inference import read_predictions
from distill.evaluation.metrics import BINS, binned, confusion_matrix, wilson
from distill.report.svg_plot import Plot, Scale, percent
from distill.runs.reading import Run

LEAST = 10  # faces of a bin that is drawn: the accuracy of fewer says little


class Answers(NamedTuple):
    """The predictions of one network on one split.

    Shape:
        probabilities: [N, K]; labels: [N]; ids: [N].
    """

    who: str
    probabilities: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]


class Row(NamedTuple):
    """One class: of n faces the share that was found, its 95 % Wilson interval, the share of right ones among those so named."""

    name: str
    n: int
    recall: float
    low: float
    high: float
    precision: float


def of_run(run: Run, split: str = "test") -> Answers:
    """Read a run's predictions; those of a job over folds are put together.

    Raises:
        ValueError: the file is not there, or damaged.
    """
    classes = run.result["data"]["classes"]
    found = [read_predictions(leaf.folder / "predictions" / f"{split}.csv", classes) for leaf in run.leaves]
    probabilities, labels = (np.concatenate([part[k] for part in found]) for k in (0, 1))
    name = run.result["student"].get("name", "student")
    return Answers(name, probabilities, labels, tuple(name for part in found for name in part[2]))


def of_teacher(run: Run, like: Answers, split: str = "test") -> Answers | None:
    """Return the teacher's predictions of the same faces, as its own run folder holds them; none where that is out of reach."""
    teacher = run.result.get("teacher") or {}
    weights = teacher.get("weights") or []
    if len(weights) != 1 or len(run.leaves) > 1:
        return None
    try:
        file = Path(weights[0]).parents[1] / "predictions" / f"{split}.csv"
        found = read_predictions(file, run.result["data"]["classes"])
    except (ValueError, IndexError):
        return None
    return Answers(teacher["name"], *found) if found[2] == like.ids else None


def matrix(answers: Answers) -> np.ndarray:
    """Return [K, K] counts; rows are true classes, columns answers."""
    return confusion_matrix(answers.probabilities, answers.labels)


def per_class(answers: Answers, classes: list[str]) -> list[Row]:
    """Return each class's recall with its 95 % interval (Wilson's), and its precision; NaN where there is no face."""
    counts = matrix(answers)
    rows = []
    for k, name in enumerate(classes):
        right, n, said = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
        low, high = wilson(right, n) if n else (np.nan, np.nan)
        recall, precision = (right / d if d else float("nan") for d in (n, said))
        rows.append(Row(name, n, recall, low, high, precision))
    return rows


def reliability(people: list[Answers]) -> str:
    """Draw accuracy against confidence of one or two networks; a dot is a bin, its area the number of faces in it."""
    axis = Scale(0, 1, write=percent, marks=(0, 0.2, 0.4, 0.6, 0.8, 1))
    plot = Plot(axis, axis, "confidence (%)", "accuracy (%)", height=430)
    plot.line([(0, 0), (1, 1)], "diagonal")
    for answers, kind in zip(people[::-1], ("second", "first")[-len(people) :], strict=True):
        points = _bins(answers)
        if len(points) > 1:
            plot.line([(confidence, accuracy) for confidence, accuracy, _ in points], f"reliable {kind}")
        for confidence, accuracy, n in points:
            tip = f"{answers.who}: {n} faces at {100 * confidence:.0f} % confidence, {100 * accuracy:.0f} % right"
            radius = 2.5 + 9 * np.sqrt(n / len(answers.labels))
            plot.dot((confidence, accuracy), f"reliable {kind}", radius, tip=tip)
    return plot.svg("Accuracy against confidence of " + " and ".join(answers.who for answers in people))


def _bins(answers: Answers) -> list[tuple[float, float, int]]:
    """Return (mean confidence, accuracy, faces) of each bin of confidence that has enough of them."""
    confidence = answers.probabilities.max(1)
    right = answers.probabilities.argmax(1) == answers.labels
    which = binned(confidence, BINS)
    chosen = [which == k for k in range(BINS) if (which == k).sum() >= LEAST]
    return [(float(confidence[c].mean()), float(right[c].mean()), int(c.sum())) for c in chosen]
