"""The tables of an evaluation as data: console, report and model card draw the same rows, each in its own way."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.evaluation.metrics import binned, confusion_matrix, wilson


class Share(NamedTuple):
    """A share in [0, 1] with its 95% interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def percent(self, digits: int = 2) -> str:
        """Return the share in percent, without the sign."""
        return f"{100 * self.value:.{digits}f}"

    @property
    def interval(self) -> str:
        """The interval in percent, or nothing."""
        return "" if self.low is None else f"{100 * self.low:.1f} to {100 * self.high:.1f}"


class Scores(NamedTuple):
    """What one network reached on one selection of faces; None where it was not measured."""

    faces: int | None
    top1: Share | None
    mean_class: Share | None
    ece: float | None
    nll: float | None
    agreement: float | None


class ClassRow(NamedTuple):
    """One class: its faces, recall, precision and F1, and the class that it is mistaken for most often, with its share."""

    name: str  # of the class
    faces: int  # how many are of it
    correct: int  # how many of them are called so
    recall: Share | None  # None where no face is of the class
    precision: Share | None  # None where no face is called so
    f1: float | None  # None where no face is of the class
    mistaken: tuple[str, float] | None  # None where no face of it is mistaken


class Bin(NamedTuple):
    """The faces whose confidence is in (low, high]: how many, their mean confidence, the share that is right."""

    low: float
    high: float
    faces: int
    confidence: float
    accuracy: float


class Corruptions(NamedTuple):
    """Top-1 on corrupted faces."""

    faces: int  # how many
    clean: float  # on the same faces as they are
    mean: float  # over corruptions and severities
    severities: list[int]  # of each corruption
    rows: dict[str, list[float]]  # corruption -> one number per severity, and their mean


def scores(values: dict, prefix: str = "", faces: int | None = None) -> Scores:
    """Return the numbers of one selection of faces.

    Args:
        values: as evaluate_predictions returns them, or all metrics of a network, "test/top1_accuracy" and so on.
        prefix: of the keys that are wanted: "test/".
        faces: how many, where values do not say it as "rows".
    """

    def share(name: str) -> Share | None:
        value = values.get(prefix + name)
        return None if value is None else Share(value, *(values.get(f"{prefix}{name}_ci") or (None, None)))

    numbers = (values.get(prefix + name) for name in ("expected_calibration_error", "nll", "agreement"))
    return Scores(values.get("rows", faces), share("top1_accuracy"), share("mean_class_accuracy"), *numbers)


def per_class(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[ClassRow]:
    """Return one row per class; intervals are Wilson's.

    Shape:
        probabilities: [N, K]; labels: [N].
    """
    counts = confusion_matrix(probabilities, labels)
    rows = []
    for k, name in enumerate(classes):
        correct, faces, named = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
        wrong = np.where(np.arange(len(classes)) == k, 0, counts[k])
        mistaken = (classes[int(wrong.argmax())], wrong.max() / faces) if wrong.any() else None
        f1 = 2 * correct / (faces + named) if faces else None
        rows.append(ClassRow(name, faces, correct, _share(correct, faces), _share(correct, named), f1, mistaken))
    return rows


def _share(part: int, total: int) -> Share | None:
    return Share(part / total, *wilson(part, total)) if total else None


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int, fewest: int = 1) -> list[Bin]:
    """Return accuracy against confidence in bins of equal width, those of fewer faces than the fewest left out.

    Shape:
        probabilities: [N, K]; labels: [N].
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = binned(confidence, bins)
    rows = []
    for k in np.unique(bin_of):
        chosen = bin_of == k
        if (faces := int(chosen.sum())) >= fewest:
            means = float(confidence[chosen].mean()), float(right[chosen].mean())
            rows.append(Bin(float(k / bins), float((k + 1) / bins), faces, *means))
    return rows


def corruptions(robustness: dict) -> Corruptions | None:
    """Return what result.json holds of corrupted faces, or None where nothing was measured."""
    if not robustness:
        return None
    keys = [*map(str, robustness["severities"]), "mean"]
    rows = {
        name: [by_severity[key]["top1_accuracy"] for key in keys]
        for name, by_severity in robustness["corruptions"].items()
    }
    clean, mean = (robustness[key]["top1_accuracy"] for key in ("clean", "mean"))
    return Corruptions(robustness.get("rows", 0), clean, mean, robustness["severities"], rows)


def compact(value: float, units: Sequence[str] = ("", "k", "M", "G")) -> str:
    """Return a number with three significant digits and a unit of thousands: 65.0k, 2.85M."""
    k = 0
    while abs(value) >= 999.5 and k < len(units) - 1:
        value, k = value / 1000, k + 1
    digits = 0 if k == 0 and float(value).is_integer() else max(0, 3 - len(str(int(abs(value)))))
    return f"{value:.{digits}f}{units[k]}"


BYTES = (" B", " kB", " MB", " GB")


def count(number: int, words: str) -> str:
    """Return a number of things in words, the plural with an s: 1 run, 2 runs."""
    return f"{number:,} {words}{'' if number == 1 else 's'}"
