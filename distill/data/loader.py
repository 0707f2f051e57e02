"""Mini-batches of a packed split: rows gathered from memory, the order a function of (seed, epoch) alone."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill.system.console import console
from distill.system.hardware import fits
from distill.types import Batch, MixedBatch, Split

ROWS_AT_A_TIME = 4096  # of a copy to the device


class DeviceSplit(NamedTuple):
    """The tensors of a split on the device, where batches are gathered; as in Split."""

    pixels: Tensor
    rows: Tensor
    target: Tensor
    label: Tensor


def resident(split: Split, device: torch.device) -> Split | DeviceSplit:
    """Return a split whose batches are gathered on a GPU where it fits there, and say so; else the split as it is."""
    size = math.prod(split.pixels.shape)
    if not fits(size, device):
        return split
    console.print(f"{split.name} faces: {size / 1e9:.2f} GB, kept on the GPU")
    return on_device(split, device)


def on_device(split: Split, device: torch.device) -> DeviceSplit:
    """Copy a split to a device."""
    return DeviceSplit(*(copied(array, device) for array in (split.pixels, split.rows, split.target, split.label)))


def copied(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device, some rows at a time: it may be a memory map."""
    tensor = torch.empty(array.shape, dtype=torch.from_numpy(array[np.arange(0)]).dtype, device=device)
    for first in range(0, len(array), ROWS_AT_A_TIME):
        rows = np.arange(first, min(first + ROWS_AT_A_TIME, len(array)))
        tensor[first : first + len(rows)] = torch.from_numpy(array[rows])
    return tensor


def epoch_order(seed: int, epoch: int, rows: int, sampling_weights: np.ndarray | None = None) -> np.ndarray:
    """Return the positions of one epoch, from u = Philox(key=(seed, epoch)) uniforms; no other state takes part.

    Without sampling weights every row once, argsort(u); with them rows drawn with replacement, row i with probability w[i].

    Args:
        seed: seed of the student.
        epoch: which epoch.
        rows: number of rows N.
        sampling_weights: [N] probabilities that sum to 1, or None.

    Returns:
        [N] positions.
    """
    draws = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))).random(rows)
    if sampling_weights is None:
        return np.argsort(draws, kind="stable")
    ends = np.cumsum(sampling_weights)
    return np.searchsorted(ends / ends[-1], draws, side="right")


def class_balanced_weights(label: np.ndarray, power: float) -> np.ndarray | None:
    """Return each row's sampling weight, proportional to (1 / number of rows of its class) ** balance.

    Args:
        label: [N] classes; -1, without one, is drawn as often as a labeled face on average.
        power: 1 draws every class equally often (CERN on AffectNet), 0 returns None: every row once.
    """
    if power == 0:
        return None
    known = label >= 0
    weights = (1 / np.bincount(label[known])[label]) ** power
    weights[~known] = weights[known].mean()
    return weights / weights.sum()


def batches(
    split: Split | DeviceSplit, table: Tensor, batch_size: int, order: np.ndarray, start: int = 0
) -> Iterator[Batch]:
    """Yield full mini-batches in the given order, from the start-th on.

    A last, smaller batch is left out (BatchNorm and relational losses want full ones) unless it is the only one.

    Args:
        split: the packed split, or its tensors on the device; batches are where it is.
        table: [M, P] view rows, one per packed picture.
        batch_size: pictures per batch.
        order: [N] positions in split.rows.
        start: number of batches already done in this epoch.
    """
    places: np.ndarray | Tensor = order
    if isinstance(split, DeviceSplit):
        table, places = (tensor.to(split.rows.device) for tensor in (table, torch.from_numpy(order)))
    for step in range(start, steps_per_epoch(len(order), batch_size)):
        yield make_batch(split, table, places[step * batch_size : (step + 1) * batch_size])


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many mini-batches an epoch has."""
    return max(rows // batch_size, 1)


def in_order(split: Split, table: Tensor, batch_size: int, share: slice = slice(None)) -> Iterator[Batch]:
    """Yield every row once in packed order, the last batch as large as what is left; share says which of these batches."""
    for first in range(0, len(split), batch_size)[share]:
        yield make_batch(split, table, np.arange(first, min(first + batch_size, len(split))))


def make_batch(split: Split | DeviceSplit, table: Tensor, positions: np.ndarray | Tensor) -> Batch:
    """Copy the rows at the given positions of a split into one batch, where the split is."""
    index = split.rows[positions]
    rows = torch.as_tensor(index)
    target, label = (torch.as_tensor(values[positions]) for values in (split.target, split.label))
    return Batch(torch.as_tensor(split.pixels[index]), table[rows], target, label, rows)


def mixup(batch: Batch, alpha: float, seed: int, epoch: int, step: int) -> MixedBatch:
    """Mix every picture and target of a batch with those of another one; render_batch() mixes the pictures once they are rendered.

    target[b] = share * target[b] + (1 - share) * target[partner[b]], one share ~ Beta(alpha, alpha) for the batch,
    partner a permutation of it, both from Philox(key=(seed, epoch), counter=(step + 1) * 2^192), apart from the order's.

    Args:
        batch: the mini-batch.
        alpha: above 0; small values mix little, 1 makes every share equally likely.
        seed, epoch, step: of the batch within the run.

    Returns:
        The batch with mixed targets, share [B], one number throughout, and partner [B].

    Reference: Zhang et al., mixup, arXiv 1710.09412, section 2.
    """
    key, counter = np.array([seed, epoch], dtype=np.uint64), np.array([0, 0, 0, step + 1], dtype=np.uint64)
    draws = np.random.Generator(np.random.Philox(key=key, counter=counter))
    share = torch.full((len(batch.index),), draws.beta(alpha, alpha), device=batch.index.device)
    partner = upload(torch.from_numpy(draws.permutation(len(batch.index))), batch.index.device)
    target = torch.lerp(batch.target[partner], batch.target, share[:, None])
    return MixedBatch(**batch._replace(target=target)._asdict(), partner=partner, share=share)


def to(batch: Batch | MixedBatch, device: torch.device) -> Batch | MixedBatch:
    """Move a batch to a device; one that is there stays."""
    return (
        type(batch)(*(upload(tensor, device) for tensor in batch)) if batch.index.device.type != device.type else batch
    )


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to a GPU from pinned memory, so that the copy is queued like a kernel and nobody waits."""
    if tensor.device.type == device.type:
        return tensor
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
