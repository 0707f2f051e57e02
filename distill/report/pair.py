"""Two runs face by face: how many faces one of them alone has right, and whether that is more than chance."""

from collections.abc import Sequence
from pathlib import Path

from distill.evaluation.mcnemar import mcnemar
from distill.report.predictions import run_predictions
from distill.runs.reading import read


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
        shares = " | ".join(f"{100 * answers.mean():.2f} %" for answers in (right_a, right_b))
        lines.append(f"| {split} | {len(right_a):,} | {shares} | {only_a:,} | {only_b:,} | {p:.2g} |")
    return "\n".join([*lines, "", "p: McNemar's test, exact, two-sided, of one training each; seeds vary beside it"])
