"""Options of losses that the training split fills in: class weights, class priors, the size of a memory."""

import numpy as np

from distill.losses.ce import effective_number_weights
from distill.system.errors import ConfigError
from distill.types import Dataset


def fill_from_data(term: str, node: dict, data: Dataset) -> dict:
    """Return a loss's keys with what the training split says instead of null and balanced.

    rows null: the number of packed pictures. class_weights balanced: by effective number, with beta, which is no key of a loss
    afterwards. class_priors null where logits are adjusted: each class's share of the labels.

    Args:
        term: the loss's name in the config.
        node: its keys.
        data: the packed data set.

    Raises:
        ConfigError: a beta out of range, or a class that no training picture shows.
    """
    filled = dict(node)
    if filled.get("rows", 0) is None:
        filled["rows"] = int(data.splits["train"].rows.max()) + 1
    if "class_weights" in filled and "beta" in filled:
        beta = filled.pop("beta")
        if filled["class_weights"] == "balanced":
            if not isinstance(beta, int | float) or not 0 <= beta < 1:
                raise ConfigError(f"loss.{term}.beta", f"expected a number in [0, 1), such as 0.9999, got {beta}.")
            counts = _class_counts(f"loss.{term}.class_weights: balanced", "or null", data)
            filled["class_weights"] = effective_number_weights(counts, beta)
    option = next((key for key in ("logit_adjustment", "teacher_adjustment") if key in filled), None)
    if option and filled[option] != 0 and filled.get("class_priors", 0) is None:
        counts = _class_counts(f"loss.{term}.class_priors: null", f"or type loss.{term}.{option}=0", data)
        filled["class_priors"] = [count / sum(counts) for count in counts]
    return filled


def _class_counts(purpose: str, instead: str, data: Dataset) -> list[int]:
    """Return how many training pictures each class has, none of them 0."""
    label = data.splits["train"].label
    counts = np.bincount(label[label >= 0], minlength=len(data.classes)).tolist()
    if 0 in counts:
        raise ValueError(
            f"{purpose}, but no training picture shows {data.classes[counts.index(0)]}. "
            f"Give a list of {len(counts)} numbers, {instead}."
        )
    return counts
