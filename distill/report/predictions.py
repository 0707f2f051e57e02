"""What one network answered, face by face."""

from typing import NamedTuple

import numpy as np

from distill.evaluation.inference import read_predictions
from distill.runs.folder import RunFolder
from distill.runs.reading import Run, numbered_lines
from distill.system.cli import format_error


class Predictions(NamedTuple):
    """The predictions of one network on one split.

    Shape:
        probabilities: [N, K]; labels: [N]; ids: [N].
    """

    who: str
    probabilities: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]


def run_predictions(run: Run, split: str = "test") -> Predictions:
    """Read a run's predictions; those of a job over folds are put together.

    Raises:
        ValueError: the file is not there, or damaged.
    """
    classes = run.result.data["classes"]
    parts = [read_predictions(RunFolder(leaf.folder).predictions(split), classes) for leaf in run.leaves]
    probabilities, labels = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    name = run.result.student.get("name", "student")
    return Predictions(name, probabilities, labels, tuple(name for part in parts for name in part[2]))


def teacher_predictions(run: Run, like: Predictions) -> Predictions | None:
    """Return the teacher's predictions of the same faces, as its own run folder holds them; none where that is out of reach."""
    teacher = run.result.teacher or {}
    weights = teacher.get("weights") or []
    if len(weights) != 1 or len(run.leaves) > 1:
        return None
    try:
        file = RunFolder.of_weights(weights[0]).predictions("test")
        columns = read_predictions(file, run.result.data["classes"])
    except (ValueError, IndexError):
        return None
    return Predictions(teacher["name"], *columns) if columns[2] == like.ids else None


def problems(run: Run) -> list[str]:
    """Return a message about each file of a complete run that is damaged, though its result is whole."""
    messages = []
    for leaf in run.leaves:
        for split in ("valid", "test"):
            if RunFolder(leaf.folder).predictions(split).exists():
                try:
                    run_predictions(leaf, split)
                except ValueError as error:
                    messages.append(format_error(error))
        file = RunFolder(leaf.folder).metrics
        try:
            bad = [number for number, line in numbered_lines(file) if line is None]
        except OSError as error:
            messages.append(f"{file} cannot be read ({format_error(error, inside=True)})")
        else:
            if bad:
                more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
                messages.append(f"{file} is damaged: line {bad[0]}{more} is no JSON object and is not drawn")
    return messages
