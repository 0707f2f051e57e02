"""Two runs face by face: how many faces one of them alone has right, and whether that is more than chance."""

from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np

from distill.report.predictions import run_predictions
from distill.runs.reading import read


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


def pair(folders: Sequence[Path]) -> str:
    """Return a table in Markdown of two finished runs on the same validation and test faces.

    Args:
        folders: of the two runs.

    Raises:
        ValueError: not two folders of finished runs, or their faces or labels differ.
    """
    if len(folders) != 2:
        raise ValueError(
            f"--pair: compares two run folders, got {len(folders)}. Type python -m distill.report A B --pair"
        )
    runs = [read(folder) for folder in folders]
    for run in runs:
        if run.status != "complete":
            raise ValueError(f"{run.folder}: no finished run is there ({run.error}). --pair compares two run folders.")
    lines = [f"A: {runs[0].folder}", f"B: {runs[1].folder}", ""]
    lines += ["| faces | number | A right | B right | A alone | B alone | p |", "|---|--:|--:|--:|--:|--:|--:|"]
    for split in ("valid", "test"):
        a, b = (run_predictions(run, split) for run in runs)
        if a.ids != b.ids or (a.labels != b.labels).any():
            raise ValueError(f"--pair: the {split} faces or labels of {runs[0].folder} and {runs[1].folder} differ.")
        right_a, right_b = (answers.probabilities.argmax(1) == answers.labels for answers in (a, b))
        only_a, only_b, p = mcnemar(right_a, right_b)
        shares = " | ".join(f"{100 * answers.mean():.2f}%" for answers in (right_a, right_b))
        lines.append(f"| {split} | {len(right_a):,} | {shares} | {only_a:,} | {only_b:,} | {p:.2g} |")
    return "\n".join([*lines, "", "p: McNemar's test, exact, two-sided, of one training each; seeds vary beside it"])
