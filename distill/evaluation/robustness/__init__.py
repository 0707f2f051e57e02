"""How well a network does on faces that are partly hidden or badly photographed."""

import csv
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distill.evaluation.inference import student_logits
from distill.evaluation.metrics import mean_class_accuracy, top1_accuracy
from distill.evaluation.robustness.camera import blur, dark, noise, rotate
from distill.evaluation.robustness.overlays import hand, mask, patch, sunglasses
from distill.system.errors import expect
from distill.system.files import atomic
from distill.types import Split

VERSION = 1  # raise it when a corruption would be drawn differently
BLOCK = 2**17  # pixels corrupted together, so that what is drawn stays in the cache
SHARES = ("top1_accuracy", "mean_class_accuracy")

# name -> (function, amount at severity 1, 2, 3, 4, 5)
_TABLE = {  # u and v run from -1 to 1, to the right and down
    # v of its upper edge on the nose, opacity
    "mask": (mask, ((0.30, 0.85), (0.14, 0.95), (0.04, 1.0), (-0.06, 1.0), (-0.16, 1.0))),
    # half height of a lens, opacity of the lenses
    "sunglasses": (sunglasses, ((0.16, 0.70), (0.18, 0.80), (0.20, 0.90), (0.24, 0.97), (0.29, 1.0))),
    # u and v of the knuckles, toward the side that it comes from and below the middle
    "hand": (hand, ((0.66, 1.00), (0.54, 0.90), (0.42, 0.80), (0.30, 0.68), (0.18, 0.55))),
    "patch": (patch, (0.05, 0.10, 0.20, 0.30, 0.45)),  # area, share of the picture
    "blur": (blur, (0.010, 0.018, 0.027, 0.037, 0.050)),  # sigma, heights of the picture
    "noise": (noise, (0.04, 0.08, 0.14, 0.22, 0.32)),  # sigma, pixels / 255
    # gain, gamma
    "dark": (dark, ((0.85, 1.3), (0.70, 1.6), (0.55, 1.9), (0.42, 2.2), (0.30, 2.5))),
    "rotate": (rotate, (10.0, 20.0, 30.0, 45.0, 60.0)),  # degrees, to the left or the right
}
CORRUPTIONS = tuple(_TABLE)
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(
    pixels: np.ndarray, name: str, severity: int, seed: int = 0, rows: np.ndarray | Sequence[int] | None = None
) -> np.ndarray:
    """Corrupt every face: what a picture gets depends on (seed, name, row) alone, not on its neighbors.

    A picture gets the same draws at every severity: a patch grows and noise swells, they do not move.

    Args:
        pixels: aligned faces that fill the picture; overlays sit where the average face of FER+ has nose, eyes and mouth.
        name: one of CORRUPTIONS.
        severity: 1 (a little) to 5.
        seed: whole number, 0 or more.
        rows: which picture of the packed data set each one is; none means 0, 1, 2, ...

    Shape:
        pixels: [N, C, H, W] uint8, C = 1 or 3; rows: [N].

    Returns:
        [N, C, H, W] uint8, a new array.

    Raises:
        ValueError: an unknown name or severity, or not one row per picture.
    """
    check([name], [severity])
    rows = np.arange(len(pixels)) if rows is None else np.asarray(rows)
    if rows.shape != pixels.shape[:1]:
        raise ValueError(f"rows: {list(rows.shape)} for {len(pixels)} pictures; give one packed row per picture.")
    function, amounts = _TABLE[name]
    corrupted = np.empty(pixels.shape, np.uint8)
    block = max(BLOCK // (pixels.shape[2] * pixels.shape[3]), 1)
    for start in range(0, len(pixels), block):
        part = slice(start, start + block)
        image = pixels[part].astype(np.float32) / 255
        function(image, amounts[severity - 1], _draws(seed, name, rows[part], image.shape[1:]))
        corrupted[part] = np.clip(image * 255 + 0.5, 0, 255)
    return corrupted


def check(names: Iterable[str], severities: Iterable[int]) -> None:
    """Refuse corruptions and severities that do not exist.

    Raises:
        ConfigError: with the names or numbers there are.
    """
    for name in names:
        expect(name in CORRUPTIONS, "eval.robustness", f"one of {', '.join(CORRUPTIONS)}", repr(name))
    for severity in severities:
        expect(severity in SEVERITIES, "eval.severities", f"one of {', '.join(map(str, SEVERITIES))}", repr(severity))


def evaluate_robustness(
    network: nn.Module,
    split: Split,
    classes: Sequence[str],
    names: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    precision: torch.dtype = torch.float32,
    seed: int = 0,
    tta: str = "plain",
) -> dict:
    """Measure a network on a split as it is and under every corruption at every severity.

    Args:
        network: images -> Outputs, with an input: InputSpec.
        split: the packed split; only its own rows are corrupted, 1024 at a time.
        classes: the class names, in the order of the logits.
        names: some of CORRUPTIONS.
        severities: some of 1 to 5.
        precision: dtype of the forward pass.
        seed: of the corruptions.
        tta: test-time augmentation: plain, mirror or crops8, as the split itself is evaluated.

    Returns:
        {"split", "rows", "seed", "version", "severities": [..], "clean": scores, "corruptions": {name: {"1": scores, ..,
        "mean": scores}}, "mean": scores}, scores = {"top1_accuracy", "mean_class_accuracy"} in [0, 1]; a mean is over
        severities, the last one over corruptions too.

    Raises:
        ValueError: an unknown name or severity, none of one, or logits that are not of these classes.

    Reference:
        Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions, section 4. Deviation:
        accuracies, not errors relative to AlexNet's.
    """
    names, severities = list(dict.fromkeys(names)), sorted(set(severities))
    check(names, severities)
    if not names or not severities:
        raise ValueError("eval.robustness and eval.severities: one is empty. Give at least one of each.")

    def scores(name: str | None = None, severity: int = 0) -> dict[str, float]:
        answers = []
        for at in (slice(start, start + 1024) for start in range(0, len(split), 1024)):
            rows = split.rows[at]
            pixels = corrupt(split.pixels[rows], name, severity, seed, rows) if name else split.pixels[rows]
            targets = {"target": split.target[at], "label": split.label[at], "ids": split.ids[at]}
            part = replace(split, pixels=pixels, rows=np.arange(len(rows)), **targets)
            answers.append(student_logits(network, part, tta, precision))
        logits = torch.cat(answers)
        if logits.shape[1] != len(classes):
            raise ValueError(f"logits: {logits.shape[1]} columns for {len(classes)} classes ({', '.join(classes)}).")
        return {f.__name__: f(logits, split.label) for f in (top1_accuracy, mean_class_accuracy)}

    clean, by_corruption = scores(), {}
    for name in names:
        by_severity = {str(severity): scores(name, severity) for severity in severities}
        by_corruption[name] = by_severity | {"mean": _mean(by_severity.values())}
    facts = {"split": split.name, "rows": len(split), "seed": seed, "version": VERSION, "severities": severities}
    mean = _mean(part["mean"] for part in by_corruption.values())
    return facts | {"clean": clean, "corruptions": by_corruption, "mean": mean}


def write_robustness(path: str | Path, result: dict) -> None:
    """Write what evaluate_robustness returned as CSV, atomically: corruption, severity, accuracies; clean is severity 0."""
    lines = [("clean", 0, result["clean"])]
    for name, by_severity in result["corruptions"].items():
        lines += [(name, severity, by_severity[str(severity)]) for severity in result["severities"]]
    with atomic(Path(path)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("corruption", "severity", *SHARES))
        rows.writerows((name, severity, *(f"{scores[key]:.6f}" for key in SHARES)) for name, severity, scores in lines)


def _draws(seed: int, name: str, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the random numbers of each picture, from Philox(key=(seed, crc32(name)), counter=row * 2^192)."""
    key = np.array([seed, zlib.crc32(name.encode())], np.uint64)
    counters = (np.array([0, 0, 0, row], np.uint64) for row in rows)
    sources = (np.random.Generator(np.random.Philox(key=key, counter=counter)) for counter in counters)
    if name == "noise":
        return np.stack([source.standard_normal(shape, np.float32) for source in sources])
    return np.stack([source.random(8, np.float32) for source in sources])


def _mean(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    scores = list(scores)
    return {key: float(np.mean([each[key] for each in scores])) for key in SHARES}
