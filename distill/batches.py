"""Mini-batches of a packed split: rows gathered from memory, the order a function of (seed, epoch) alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from distill.types import Batch, Split


def epoch_order(seed: int, epoch: int, rows: int) -> np.ndarray:
    """Return the [rows] order of one epoch: argsort of Philox(key=(seed, epoch)) uniforms; no other state takes part."""
    draws = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)))
    return np.argsort(draws.random(rows), kind="stable")


def batches(split: Split, table: Tensor, batch_size: int, order: np.ndarray, start: int = 0) -> Iterator[Batch]:
    """Yield full mini-batches in the given order, from the start-th on.

    A last, smaller batch is left out (BatchNorm and relational losses want full ones) unless it is the only one.

    Args:
        split: the packed split.
        table: [M, P] view rows, one per packed picture.
        batch_size: pictures per batch.
        order: [N] positions in split.rows.
        start: number of batches already done in this epoch.
    """
    for step in range(start, steps_per_epoch(len(order), batch_size)):
        yield gather(split, table, order[step * batch_size : (step + 1) * batch_size])


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many mini-batches an epoch has."""
    return max(rows // batch_size, 1)


def in_order(split: Split, table: Tensor, batch_size: int) -> Iterator[Batch]:
    """Yield every row once in packed order, the last batch as large as what is left."""
    for first in range(0, len(split), batch_size):
        yield gather(split, table, np.arange(first, min(first + batch_size, len(split))))


def gather(split: Split, table: Tensor, positions: np.ndarray) -> Batch:
    """Copy the rows at the given positions of a split into one batch."""
    index = split.rows[positions]
    rows = torch.from_numpy(index)
    return Batch(
        pixels=torch.from_numpy(split.pixels[index]),
        view=table[rows],
        target=torch.from_numpy(split.target[positions]),
        label=torch.from_numpy(split.label[positions]),
        index=rows,
    )


def to(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device."""
    return batch if device.type == "cpu" else Batch(*(tensor.to(device, non_blocking=True) for tensor in batch))
