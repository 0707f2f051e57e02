"""Lines over epochs, severity and confidence, one per run or network, told apart by hovering rather than by a hundred colors."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from distill.evaluation.metrics import BINS
from distill.evaluation.tables import calibration
from distill.report.aggregate import RunTable
from distill.report.html.svg_plot import Plot, Scale, percent, scale
from distill.report.predictions import Predictions
from distill.runs.reading import AGREEMENT, FIRST

MOST = 120  # points of a line
LEAST = 10  # faces of a bin that is drawn: the accuracy of fewer says little


def learning(table: RunTable) -> list[tuple[str, str]]:
    """Return (heading, picture) of validation accuracy and training loss by epoch, those that there are."""
    wanted = (
        (FIRST, "Validation top-1 by epoch", "validation top-1 (%)", percent),
        (AGREEMENT, "Agreement with the teacher by epoch", "agreement on validation (%)", percent),
        ("train/loss", "Training loss by epoch", "loss", None),
    )
    pictures = []
    for name, heading, title, write in wanted:
        lines = [
            (c.number, thin(points)) for c in table.configurations for run in c.runs if (points := run.curves.get(name))
        ]
        if lines:
            pictures.append((heading, _lines(lines, table.configurations[0].number, heading, title, write)))
    return pictures


def thin(points: Sequence[tuple[int, float]], most: int = MOST) -> list[tuple[int, float]]:
    """Return at most so many points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(k * (len(points) - 1) / (most - 1))] for k in range(most)]


def _lines(lines: list[tuple[int, list]], best: int, heading: str, title: str, write) -> str:
    last = max(epoch for _, points in lines for epoch, _ in points)
    epoch_ticks = (1,) if last == 1 else tuple(tick for tick in Scale(1, last).ticks() if tick == int(tick))
    x = Scale(0.5, 1.5, marks=epoch_ticks) if last == 1 else Scale(1, last, marks=epoch_ticks)
    plot = Plot(x, scale((value for _, points in lines for _, value in points), write=write), "epoch", title)
    for number, points in sorted(lines, key=lambda line: -line[0]):  # the best on top
        if len(points) > 1:
            plot.line(points, "curve best" if number == best else "curve", number)
        else:
            plot.dot(points[0], "dot", 3.5, number)
    return plot.svg(heading)


def robustness(table: RunTable) -> list[tuple[str, str]]:
    """Return (corruption, picture) of test top-1 against severity, a line per run that was measured so."""
    measured = [(c.number, run.corruption_curves) for c in table.configurations for run in c.runs]
    names = dict.fromkeys(name for _, curves in measured for name in curves)
    curves = {name: [(number, shares[name]) for number, shares in measured if name in shares] for name in names}
    everything = [value for lines in curves.values() for _, points in lines for _, value in points]
    return [(name, _small(name, lines, table.configurations[0].number, everything)) for name, lines in curves.items()]


def _small(name: str, lines: list[tuple[int, list]], best: int, everything: list[float]) -> str:
    severities = sorted({severity for _, points in lines for severity, _ in points})
    x = Scale(0, max(severities[-1], 1), marks=tuple(severities), write=lambda s: "clean" if s == 0 else f"{s:g}")
    plot = Plot(x, scale(everything, write=percent), "severity", "test top-1 (%)", width=300, height=230)
    for number, points in sorted(lines, key=lambda line: -line[0]):
        plot.line(points, "curve best" if number == best else "curve", number)
        for point in points[1:]:
            plot.dot(point, "dot", 2.5, number)
    return plot.svg(f"Test top-1 with {name} by severity")


def reliability(people: list[Predictions]) -> Markup:
    """Draw accuracy against confidence of one or two networks; a dot is a bin, its area the number of faces in it."""
    axis = Scale(0, 1, write=percent, marks=(0, 0.2, 0.4, 0.6, 0.8, 1))
    plot = Plot(axis, axis, "confidence (%)", "accuracy (%)", height=430)
    plot.line([(0, 0), (1, 1)], "diagonal")
    for answers, kind in zip(people[::-1], ("second", "first")[-len(people) :], strict=True):
        bins = calibration(answers.probabilities, answers.labels, BINS, LEAST)
        if len(bins) > 1:
            plot.line([(bar.confidence, bar.accuracy) for bar in bins], f"reliable {kind}")
        for bar in bins:
            tip = f"{answers.who}: {bar.faces} faces at {100 * bar.confidence:.0f}% confidence, {100 * bar.accuracy:.0f}% right"
            radius = 2.5 + 9 * np.sqrt(bar.faces / len(answers.labels))
            plot.dot((bar.confidence, bar.accuracy), f"reliable {kind}", radius, tip=tip)
    return plot.svg("Accuracy against confidence of " + " and ".join(answers.who for answers in people))
