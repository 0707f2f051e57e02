"""Two networks on the same faces: is the difference of their accuracies more than chance?"""

from math import comb

import numpy as np


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int, float]:
    """Compare two networks by the faces on which one alone is right, McNemar's test in its exact form, two-sided.

    Formula:
        b = faces that A alone has right, c = faces that B alone has right; p = min(1, 2 sum_{k <= min(b, c)} C(b + c, k) / 2^(b + c))

    Args:
        right_a: whether A has each face right.
        right_b: whether B has it.

    Shape:
        right_a, right_b: [N] bool.

    Returns:
        (b, c, p): two counts, and the probability in [0, 1] of a difference as large between equally good networks.

    Raises:
        ValueError: different numbers of faces.

    Reference:
        McNemar 1947, Note on the Sampling Error of the Difference between Correlated Proportions or Percentages.
    """
    if right_a.shape != right_b.shape:
        raise ValueError(
            f"mcnemar: {len(right_a)} faces were compared with {len(right_b)}; give answers about the same faces."
        )
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    total = only_a + only_b
    tail = sum(comb(total, k) for k in range(min(only_a, only_b) + 1))
    return only_a, only_b, min(1.0, 2 * tail / 2**total)
