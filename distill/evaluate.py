"""Logits and metrics of a network on a split, pictures as packed."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.batches import in_order, to
from distill.checkpoint import atomic
from distill.runtime import autocast
from distill.types import Split
from distill.views import identity, render


@torch.no_grad()
def predict(
    network: nn.Module,
    split: Split,
    table: Tensor | None = None,
    batch_size: int = 256,
    precision: torch.dtype = torch.float32,
    tick: Callable[[int], None] = lambda faces: None,
) -> Tensor:
    """Run a network in eval mode over a split.

    Args:
        network: images -> Outputs, with an input: InputSpec.
        split: the packed split.
        table: [M, P] view rows; none means pictures as packed.
        batch_size: pictures per forward pass.
        precision: dtype of the forward pass.
        tick: called with the number of faces just done.

    Returns:
        [N, K] float32 logits on the CPU. The network's mode is left as it was.
    """
    device = next(network.parameters()).device
    table = identity(len(split.pixels)) if table is None else table
    training, answers = network.training, []
    network.eval()
    for batch in in_order(split, table, batch_size):
        batch = to(batch, device)
        images = render(batch.pixels, batch.view, network.input).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            answers.append(network(images).logits.float().cpu())
        tick(len(batch.index))
    network.train(training)
    return torch.cat(answers)


def teacher_logits(teacher, split: Split, device: torch.device, batch_size: int = 256) -> Tensor:
    """Return a teacher's [N, K] float32 logits of the pictures as packed, on the CPU; a cache answers from disk."""
    table = identity(len(split.pixels))
    teacher.open(split.name, 0, table)
    return torch.cat([teacher(to(batch, device)).logits.float().cpu() for batch in in_order(split, table, batch_size)])


def write_predictions(
    path: Path, split: Split, classes: tuple[str, ...], logits: Tensor, teacher_logits: Tensor | None
) -> None:
    """Write one row per picture: id, label, prediction, teacher's prediction where there is one, probability of each class."""
    probabilities = logits.softmax(1).numpy()
    taught = [] if teacher_logits is None else [teacher_logits.argmax(1).numpy()]
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["id", "label", "prediction", *["teacher_prediction"][: len(taught)], *[f"p_{c}" for c in classes]]
        )
        for k, name in enumerate(split.ids):
            named = [classes[j] for j in (split.label[k], np.argmax(probabilities[k]), *(t[k] for t in taught))]
            rows.writerow([name, *named, *(f"{p:.6f}" for p in probabilities[k])])


def read_predictions(path: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return [N, K] probabilities and [N] labels of a predictions file."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    return probabilities, np.array([classes.index(row["label"]) for row in rows])
