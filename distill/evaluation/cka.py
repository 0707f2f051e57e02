"""Similarity of the layers of student and teacher: centered kernel alignment (CKA) of every pair of stages."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from distill.augment.views import identity, render_batch
from distill.data.loader import epoch_order, make_batch, to
from distill.models.feature_hooks import FeatureInfo, Layer, attach_hooks, detach_hooks, inspect_layers
from distill.system.hardware import autocast
from distill.types import Split

PICTURES, BATCH = 1024, 256
FEWEST = 4  # of a batch, for the unbiased estimator


@torch.no_grad()
def compare(student: nn.Module, teacher, split: Split, precision: torch.dtype) -> dict[str, dict[str, float]]:
    """Return the linear CKA of every stage and the embedding of the student with those of its teacher.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of features flattened to [n, p], Gram matrices K = X X^T, L = Y Y^T,
    HSIC(X, Y) = sum over i != j of U(K)_ij U(L)_ij / (n (n - 3)), U(K)_ij = K_ij - r_i / (n - 2) - r_j / (n - 2) +
    sum_i r_i / ((n - 1) (n - 2)), r_i the sum of K_ij over j != i. HSIC is averaged over batches of about 256 of at most 1,024
    pictures as packed, the same ones every time. 1: equal but for a turn and a factor; about 0: unrelated.

    Args:
        student: images -> Outputs, with an input: InputSpec.
        teacher: a live teacher, or a cache that can make one.
        split: validation pictures.
        precision: dtype of the student's forward pass.

    Returns:
        {student's stage: {teacher's stage: CKA}}; empty for fewer than 4 pictures.

    Reference: Kornblith et al., Similarity of Neural Network Representations Revisited, arXiv 1905.00414, section 3;
    Song et al., Feature Selection via Dependence Maximization, JMLR 13 (2012), equation 5 (unbiased HSIC); Nguyen et al.,
    arXiv 2010.15327, equations 2 and 3 (mean over batches).
    """
    if len(split) < FEWEST:
        return {}
    live = teacher.live_teacher()
    table = identity(len(split.pixels))
    live.open(split.name, 0, table)
    sides = {"student": named(inspect_layers(student)), "teacher": named(live.inspect_layers())}
    attach_hooks(student, sides["student"].values())
    live.attach_hooks(list(sides["teacher"].values()))
    training, device = student.training, next(student.parameters()).device
    student.eval()
    similarities: dict[tuple[str, str], float] = {}
    order = epoch_order(0, 0, len(split))[:PICTURES]
    for positions in np.array_split(order, -(-len(order) // BATCH)):
        batch = to(make_batch(split, table, positions), device)
        with autocast(device, precision):
            student_features = student(render_batch(batch, student.input)).features
        features = {"student": student_features, "teacher": live(batch).features}
        grams = {
            (side, name): centered_gram(features[side][layer.name])
            for side in sides
            for name, layer in sides[side].items()
        }
        for a, b in [(key, key) for key in grams] + [(a, b) for a in grams for b in grams if a[0] < b[0]]:
            similarities[a, b] = similarities.get((a, b), 0.0) + hsic(grams[a], grams[b])
    student.train(training)
    detach_hooks(student)
    detach_hooks(live.network)
    alignment: dict[str, dict[str, float]] = {stage: {} for stage in sides["student"]}
    for stage, other in itertools.product(sides["student"], sides["teacher"]):
        a, b = ("student", stage), ("teacher", other)
        scale = similarities[a, a] * similarities[b, b]
        alignment[stage][other] = similarities[a, b] / math.sqrt(scale) if scale > 0 else 0.0  # one side does not vary
    return alignment


def named(info: FeatureInfo) -> dict[str, Layer]:
    """Return stage1, stage2, ... and embedding of a network."""
    return {f"stage{n}": layer for n, layer in enumerate(info.stages, 1)} | {"embedding": info.embedding}


def centered_gram(x: Tensor) -> Tensor:
    """Return the U-centred Gram matrix [n, n] of features [n, ...], 0 on the diagonal."""
    x = x.flatten(1).float()
    x = x - x.mean(0)  # changes nothing but the rounding
    gram = (x @ x.T).double().fill_diagonal_(0)
    n, rows = len(gram), gram.sum(1, keepdim=True) / (len(gram) - 2)
    gram = gram - rows - rows.T + gram.sum() / ((n - 1) * (n - 2))
    return gram.fill_diagonal_(0)


def hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """Return the unbiased HSIC of two U-centred Gram matrices."""
    return float((k * l).sum() / (len(k) * (len(k) - 3)))
