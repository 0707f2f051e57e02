"""Numbers that say how good a classifier is: pure functions of logits [N, K] and labels [N], in float64, seeded.

Labels are class indices in the order of the logits.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from torch import Tensor

Array = np.ndarray | Tensor
LEVEL = 0.95  # share of resamples inside an interval
BINS = 15  # of confidence in the expected calibration error
OF_TEACHER = ("valid/agreement", "valid/kl")  # what an epoch can be chosen by without labels


def top1_accuracy(logits: Array, labels: Array) -> float:
    """Share of rows whose largest logit is at the label.

    Shape:
        logits: [N, K]; labels: [N] -> a number in [0, 1].
    """
    logits, labels = _pair(logits, labels)
    return float(np.mean(logits.argmax(1) == labels))


def confusion_matrix(logits: Array, labels: Array) -> np.ndarray:
    """Counts of (true class, predicted class).

    Shape:
        logits: [N, K]; labels: [N] -> [K, K] int64; rows are true classes, columns predicted ones; the sum is N.
    """
    logits, labels = _pair(logits, labels)
    classes = logits.shape[1]
    return np.bincount(labels * classes + logits.argmax(1), minlength=classes * classes).reshape(classes, classes)


def per_class_recall(logits: Array, labels: Array) -> np.ndarray:
    """Share of each class's rows that are predicted as that class.

    Shape:
        logits: [N, K]; labels: [N] -> [K] float64 in [0, 1]; NaN for a class that no label has.
    """
    matrix = confusion_matrix(logits, labels)
    rows = matrix.sum(1)
    return np.divide(matrix.diagonal(), rows, out=np.full(len(matrix), np.nan), where=rows > 0)


def mean_class_accuracy(logits: Array, labels: Array) -> float:
    """Mean recall over the classes that occur in the labels (balanced accuracy).

    Shape:
        logits: [N, K]; labels: [N] -> a number in [0, 1].
    """
    return float(np.nanmean(per_class_recall(logits, labels)))


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share; unlike a bootstrap's it has a width where none or all are right.

    Formula:
        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = right / n, z = 1.96

    Args:
        right: how many of them.
        n: of how many, 1 or more.

    Reference:
        Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    z = 1.96
    middle, half = (right + z * z / 2) / (n + z * z), z * sqrt(right * (n - right) / n + z * z / 4) / (n + z * z)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def nll(logits: Array, labels: Array) -> float:
    """Mean negative log-likelihood of the labels in nats: -mean(log softmax(logits)[label]).

    Shape:
        logits: [N, K]; labels: [N] -> a number >= 0.
    """
    logits, labels = _pair(logits, labels)
    return float(-np.mean(_log_softmax(logits)[np.arange(len(labels)), labels]))


def binned(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return [N] which of so many bins of equal width, each (low, high], every confidence in [0, 1] is in."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_calibration_error(logits: Array, labels: Array) -> float:
    """Gap between confidence and accuracy: sum over 15 bins of (n_b / N) * |accuracy_b - mean confidence_b|.

    Shape:
        logits: [N, K]; labels: [N] -> a number in [0, 1].

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3.
    """
    logits, labels = _pair(logits, labels)
    confidence = np.exp(_log_softmax(logits).max(1))
    gap = (logits.argmax(1) == labels) - confidence
    return float(np.abs(np.bincount(binned(confidence, BINS), weights=gap)).sum() / len(labels))


def agreement(logits_a: Array, logits_b: Array) -> float:
    """Share of rows on which two models predict the same class, right or wrong.

    Shape:
        logits_a, logits_b: [N, K], of the same rows in the same class order -> a number in [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    a, b = _logits(logits_a), _logits(logits_b)
    if a.shape != b.shape:
        raise ValueError(
            f"agreement: {list(a.shape)} logits were compared with {list(b.shape)}; give two models' logits of the "
            "same rows and classes."
        )
    return float(np.mean(a.argmax(1) == b.argmax(1)))


def bootstrap(logits: Array, labels: Array, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of top-1 over pictures: the whole sample is resampled, not class by class.

    A resample of N pictures matters only by how many of each class are right and wrong, and these counts are
    Multinomial(N, counts / N): they are drawn directly.

    Args:
        logits: the predictions.
        labels: the true class indices.
        draws: how many resamples.
        seed: of the resamples.

    Shape:
        logits: [N, K]; labels: [N].

    Returns:
        (low, high) in [0, 1].

    Reference:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    matrix = confusion_matrix(logits, labels)
    right, n = matrix.diagonal(), int(matrix.sum())
    cells = np.concatenate([right, matrix.sum(1) - right])
    counts = np.random.Generator(np.random.Philox(seed)).multinomial(n, cells / n, draws)
    low, high = np.quantile(counts[:, : len(right)].sum(1) / n, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_class_interval(logits: Array, labels: Array) -> tuple[float, float]:
    """95% interval of the mean class accuracy, from Wilson's of each class that occurs in the labels.

    A class of which none or all are right adds to its width; resamples of it would not vary.

    Formula:
        low = mean(p) - sqrt(sum (p_k - low_k)^2) / K, high = mean(p) + sqrt(sum (high_k - p_k)^2) / K

    Shape:
        logits: [N, K]; labels: [N] -> (low, high) in [0, 1].

    Reference:
        Zou and Donner 2008, Construction of Confidence Limits about Effect Measures: a General Approach, section 2.
    """
    matrix = confusion_matrix(logits, labels)
    classes = [(int(right), int(n)) for right, n in zip(matrix.diagonal(), matrix.sum(1), strict=True) if n]
    shares = np.array([[right / n, *wilson(right, n)] for right, n in classes])
    middle = shares[:, 0].mean()
    below, above = (np.linalg.norm(shares[:, 0] - shares[:, k]) / len(classes) for k in (1, 2))
    return float(middle - below), float(middle + above)


def evaluate_predictions(
    logits: Array, labels: Array, classes: Sequence[str], teacher_logits: Array | None = None
) -> dict[str, float | list[float]]:
    """The numbers that every evaluation reports.

    Args:
        logits: the predictions.
        labels: the true class indices.
        classes: the class names, in the order of the logits.
        teacher_logits: the teacher's predictions of the same rows.

    Shape:
        logits, teacher_logits: [N, K]; labels: [N].

    Returns:
        top1_accuracy, mean_class_accuracy and expected_calibration_error in [0, 1], nll in nats; top1_accuracy_ci and
        mean_class_accuracy_ci, [low, high] of their 95% intervals, a bootstrap's and one from those of the classes;
        agreement in [0, 1] where teacher logits are given.

    Raises:
        ValueError: shapes do not fit, a label is no class, or a logit is not finite.
    """
    if _logits(logits).shape[1] != len(classes):
        raise ValueError(
            f"logits: {_logits(logits).shape[1]} columns for {len(classes)} classes ({', '.join(classes)}); the model "
            "was made for another data set."
        )
    functions = (top1_accuracy, mean_class_accuracy, expected_calibration_error, nll)
    values = {function.__name__: function(logits, labels) for function in functions}
    values["top1_accuracy_ci"] = list(bootstrap(logits, labels))
    values["mean_class_accuracy_ci"] = list(mean_class_interval(logits, labels))
    if teacher_logits is not None:
        values["agreement"] = agreement(logits, teacher_logits)
    return values


def evaluate_likeness(logits: Array, teacher_logits: Array) -> dict[str, float | list[float]]:
    """How near a student comes to its teacher: what can be said of faces without labels.

    Formula:
        agreement = share of faces with argmax z_s = argmax z_t, kl = mean_n sum_k p_t (log p_t - log p_s), p = softmax(z)

    Args:
        logits: the student's.
        teacher_logits: the teacher's, of the same faces.

    Shape:
        logits, teacher_logits: [N, K].

    Returns:
        agreement in [0, 1], agreement_ci, [low, high] of its bootstrap 95% interval, and kl in nats.

    Raises:
        ValueError: the shapes differ, or a logit is not finite.
    """
    shared = agreement(logits, teacher_logits)
    student, teacher = (_log_softmax(_logits(values)) for values in (logits, teacher_logits))
    return {
        "agreement": shared,
        "agreement_ci": list(bootstrap(logits, _logits(teacher_logits).argmax(1))),
        "kl": float(np.mean((np.exp(teacher) * (teacher - student)).sum(1))),
    }


def _numpy(array: Array) -> np.ndarray:
    if not isinstance(array, Tensor):
        return np.asarray(array)
    array = array.detach().cpu()
    return (array.double() if array.is_floating_point() else array).numpy()  # numpy has no bfloat16


def _logits(array: Array) -> np.ndarray:
    logits = _numpy(array).astype(np.float64, copy=False)
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits: shape {list(logits.shape)} was given; metrics need [N, K] with at least one row.")
    finite = np.isfinite(logits).all(1)
    if not finite.all():
        row = int(finite.argmin())
        raise ValueError(f"logits: row {row} is not finite; the model diverged or its weights are damaged.")
    return logits


def _pair(logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = _logits(logits), _numpy(labels)
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: {labels.dtype} of shape {list(labels.shape)} for {len(logits)} rows of logits; give one class "
            "index per row."
        )
    wrong = (labels < 0) | (labels >= logits.shape[1])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"labels: row {row} has class {labels[row]}; logits have classes 0 to {logits.shape[1] - 1}.")
    return logits, labels.astype(np.int64, copy=False)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
