"""Temperature scaling: one number, fitted on validation faces, that makes a network as sure as it is right."""

from collections.abc import Mapping
from math import exp, log

import numpy as np

from distill.evaluation.metrics import Array, expected_calibration_error, nll

LEAST, MOST = 0.05, 20.0  # of the temperature: where every face is right, the likelihood has no maximum
STEPS = 60  # of the search: log T to 2e-10
FEW_VALID = 50  # validation faces; on fewer the temperature is chance, and made the NLL of other faces worse
SMALLEST = 5e-7  # half a unit of the last digit in predictions/*.csv


def fit_temperature(logits: Array, labels: Array) -> float:
    """Return the temperature that makes the labels most likely, by ternary search over log T in float64.

    Formula:
        T = argmin -mean_n log softmax(z_n / T)[y_n], 1/20 <= T <= 20; it is convex in 1 / T, so there is one valley.

    Args:
        logits: a network's answers about validation faces.
        labels: the true class indices.

    Shape:
        logits: [N, K]; labels: [N].

    Returns:
        T: above 1 for a network that is surer than it is right.

    Raises:
        ValueError: shapes do not fit, a label is no class, or a logit is not finite.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599, section 4.2.
    """
    logits = np.asarray(logits, np.float64)

    def cost(log_temperature: float) -> float:
        return nll(logits / exp(log_temperature), labels)

    low, high = log(LEAST), log(MOST)
    for _ in range(STEPS):
        left, right = (2 * low + high) / 3, (low + 2 * high) / 3
        low, high = (low, right) if cost(left) <= cost(right) else (left, high)
    return exp((low + high) / 2)


def calibration(answers: Mapping[str, tuple[Array, Array]]) -> dict:
    """Return what result.json says of a network's calibration: the temperature fitted on valid, and what it changes.

    Args:
        answers: split -> (logits [N, K], labels [N]); valid is one of them.

    Returns:
        temperature, 1 where valid has fewer than FEW_VALID faces, and split -> before, after -> nll [nats],
        expected_calibration_error.
    """
    temperature = fit_temperature(*answers["valid"]) if len(answers["valid"][1]) >= FEW_VALID else 1.0
    fitted: dict = {"temperature": temperature}
    for split, (logits, labels) in answers.items():
        scaled_logits = {"before": logits, "after": logits / temperature}
        functions = (nll, expected_calibration_error)
        fitted[split] = {when: {f.__name__: f(z, labels) for f in functions} for when, z in scaled_logits.items()}
    return fitted


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(z / T) of p = softmax(z): p^(1/T) / sum p^(1/T).

    Args:
        probabilities: as a file has rounded them.
        temperature: T > 0.

    Shape:
        probabilities: [N, K] -> [N, K].
    """
    powers = np.maximum(probabilities, SMALLEST) ** (1 / temperature)
    return powers / powers.sum(1, keepdims=True)


def as_logits(probabilities: np.ndarray) -> np.ndarray:
    """Return log p: logits up to a constant of each face, which no softmax(z / T) depends on.

    Shape:
        probabilities: [N, K], 0 where a file has rounded them.
    """
    return np.log(np.maximum(probabilities, SMALLEST))
