"""What finished students would reach on validation if tau * log prior were subtracted from their logits, without any training.

python benchmarks/logit_adjustment.py RUN [RUN ...]

prints a table in Markdown: top-1 / mean-class accuracy, percent. The priors are the classes' shares of the validation faces.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from distill.evaluation.inference import read_predictions
from distill.evaluation.metrics import mean_class_accuracy, top1_accuracy
from distill.runs.folder import RunFolder

TAUS = (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1)


def validation(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what a run wrote of its validation faces: [N, K] logarithms of its probabilities, and [N] labels."""
    path = RunFolder(run).predictions("valid")
    with open(path, encoding="utf-8", newline="") as file:
        classes = [name.removeprefix("p_") for name in next(csv.reader(file)) if name.startswith("p_")]
    probabilities, labels, _ = read_predictions(path, classes)
    return np.log(np.maximum(probabilities, 1e-9)), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    runs = parser.parse_args().runs
    answers = [validation(run) for run in runs]
    print(f"| tau | {' | '.join(run.name for run in runs)} |\n|---|{'---:|' * len(runs)}")
    for tau in TAUS:
        cells = []
        for logits, labels in answers:
            adjusted = logits - tau * np.log(np.bincount(labels, minlength=logits.shape[1]) / len(labels))
            cells.append(
                f"{100 * top1_accuracy(adjusted, labels):.2f} / {100 * mean_class_accuracy(adjusted, labels):.2f}"
            )
        print(f"| {tau:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
