"""Pictures of an evaluation, as PNG files about 1000 pixels wide; matplotlib is imported only when one is drawn."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from distill.system.files import atomic

WRONG, RIGHT, GREY = "#b3261e", "#1b1b1b", "#6b6b6b"
WIDTH = 10  # of a picture, inches
# told apart by most eyes
LINES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#1b1b1b", "#b3261e", "#56a0d3", "#8a6d00")


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Draws counts of (true, predicted) class as a table colored by the share of the true class.

    Args:
        matrix: counts; rows are true classes.
        classes: the class names in its order.
        path: the PNG file to write.

    Shape:
        matrix: [K, K].
    """
    matrix = np.asarray(matrix)
    rows = matrix.sum(1)
    share = matrix / np.maximum(rows, 1)[:, None]
    figure, axes = _figure(8.6)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks, classes = range(len(classes)), _legible(classes)
    axes.set_xticks(ticks, classes, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [f"{name} ({n:,})" for name, n in zip(classes, rows, strict=True)])
    axes.tick_params(length=0, labelsize=12)
    axes.set_xlabel("predicted class", fontsize=13)
    axes.set_ylabel("true class (pictures)", fontsize=13)
    total = matrix.sum()
    axes.set_title(f"{matrix.trace() / max(total, 1):.1%} of {total:,} pictures right", fontsize=15, pad=14)
    for i, j in np.argwhere(matrix > 0):
        big, small = ("white", "white") if share[i, j] > 0.55 else (RIGHT, GREY)
        middle = {"ha": "center", "va": "center", "in_layout": False}
        weight = "bold" if i == j else "normal"
        axes.text(j, i - 0.1, f"{share[i, j]:.0%}", fontsize=12, fontweight=weight, color=big, **middle)
        axes.text(j, i + 0.24, f"{matrix[i, j]:,}", fontsize=9, color=small, **middle)
    axes.set_xticks(np.arange(0.5, len(classes) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(classes) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    scale = figure.colorbar(image, shrink=0.6, aspect=30, format="{x:.0%}", label="share of the true class")
    scale.outline.set_visible(False)
    _save(figure, path)


def sample_predictions(
    pixels: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    path: str | Path,
    n: int = 24,
) -> None:
    """Draws a grid of faces: first the most confidently wrong ones, in red, then right ones from sure to unsure.

    Args:
        pixels: the pictures.
        labels: their true classes.
        probabilities: the model's, rows sum to 1.
        classes: the class names in the order of the probabilities.
        path: the PNG file to write.
        n: how many faces at most, half of them wrong where there are enough.

    Shape:
        pixels: [N, C, H, W] uint8, C = 1 or 3; labels: [N]; probabilities: [N, K].
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    rows = _choose(probabilities.argmax(1) == labels, probabilities.max(1), n)
    columns = min(6, len(rows))
    step, head = WIDTH / columns, 0.75  # one set of axes, in inches: a layout of one per face takes five times as long
    side, below = step - 0.1, 0.58
    height = head + -(-len(rows) // columns) * (side + below)
    figure, axes = _figure(height)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.axis("off")
    guesses, classes = probabilities.argmax(1), _legible(classes)
    for k, row in enumerate(rows):
        left, top = k % columns * step + 0.05, k // columns * (side + below) + head
        face, guess, label, of_face = np.asarray(pixels[row]), guesses[row], labels[row], probabilities[row]
        face = face[0] if len(face) == 1 else face.transpose(1, 2, 0)
        place = (left, left + side, top + side, top)
        axes.imshow(face, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=place, aspect="auto")
        color, middle = RIGHT if guess == label else WRONG, left + side / 2
        answer = f"{classes[guess]} {of_face[guess]:.0%}"
        axes.text(middle, top - 0.05, answer, ha="center", va="bottom", fontsize=12, color=color)
        if guess != label:
            truth = f"is {classes[label]} ({of_face[label]:.0%})"
            axes.text(middle, top + side + 0.04, truth, ha="center", va="top", fontsize=11, color=GREY)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    wrong = int((guesses != labels).sum())
    counts = f"{wrong:,} of {len(labels):,} wrong; the surest mistakes (red) first"
    axes.text(WIDTH / 2, 0.2, counts, ha="center", va="center", fontsize=14)
    _save(figure, path)


def robustness(results: dict, path: str | Path) -> None:
    """Draws top-1 accuracy against severity, a line per corruption; the dashed line is the clean accuracy.

    Args:
        results: as distill.evaluation.robustness.evaluate_robustness returns them.
        path: the PNG file to write.
    """
    from matplotlib.ticker import PercentFormatter

    clean, severities = results["clean"]["top1_accuracy"], results["severities"]
    curves = {
        name: [clean, *(scores[str(severity)]["top1_accuracy"] for severity in severities)]
        for name, scores in results["corruptions"].items()
    }
    figure, axes = _figure(6.4)
    axes.axhline(clean, color=GREY, linewidth=1.5, linestyle=(0, (5, 4)), zorder=1)
    for (name, curve), color in zip(curves.items(), cycle(LINES), strict=False):
        label = f"{name} {curve[-1]:.0%}"
        axes.plot([0, *severities], curve, color=color, linewidth=2.2, marker="o", markersize=5, label=label)
    figure.legend(loc="outside right upper", frameon=False, fontsize=12)
    axes.set_ylim(bottom=-0.01)
    axes.set_xticks([0, *severities], ["clean", *severities])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(length=0, labelsize=12)
    axes.set_xlabel("severity", fontsize=13)
    axes.set_ylabel("top-1 accuracy", fontsize=13)
    average = results["mean"]["top1_accuracy"]
    words = f"{clean:.1%} of {results['rows']:,} clean pictures right, {average:.1%} of corrupted ones"
    axes.set_title(words, fontsize=15, pad=14)
    axes.grid(axis="y", color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def similarity(values: dict[str, dict[str, float]], path: str | Path) -> None:
    """Draws the similarity of the layers of a student (rows) and its teacher (columns) as a table colored from 0 to 1.

    Args:
        values: student's layer -> teacher's layer -> number.
        path: the PNG file to write.
    """
    matrix, teacher = np.array([list(row.values()) for row in values.values()]), list(next(iter(values.values())))
    figure, axes = _figure(2.2 + 0.8 * len(matrix))
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(teacher)), teacher, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(matrix)), list(values))
    axes.tick_params(length=0, labelsize=12)
    axes.set_xlabel("teacher", fontsize=13)
    axes.set_ylabel("student", fontsize=13)
    for (i, j), value in np.ndenumerate(matrix):
        color = "white" if value > 0.55 else RIGHT
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=12, color=color)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, shrink=0.8, aspect=30, label="centered kernel alignment").outline.set_visible(False)
    _save(figure, path)


def _figure(height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
    return figure, figure.subplots()


def _choose(right: np.ndarray, confidence: np.ndarray, n: int) -> np.ndarray:
    order = np.argsort(-confidence, kind="stable")
    wrong, right = order[~right[order]], order[right[order]]
    wrong = wrong[: max(n // 2, n - len(right))]
    spread = np.linspace(0, len(right) - 1, min(len(right), n - len(wrong))).round().astype(np.int64)
    return np.concatenate([wrong, right[spread]])


def _legible(classes: Sequence[str]) -> list[str]:
    """Return class names as matplotlib draws them: $ is a letter; a name whose letters its font does not have, a number."""
    from matplotlib.font_manager import findfont, get_font

    has = get_font(findfont("DejaVu Sans")).get_char_index
    return [
        f"class {k}" if not all(map(has, map(ord, name))) else name.replace("$", r"\$")
        for k, name in enumerate(classes)
    ]


def _save(figure, path: str | Path) -> None:
    with atomic(Path(path)) as temporary:
        figure.savefig(temporary, format="png")
