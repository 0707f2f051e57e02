"""Losses on the relations within a batch, each with some of its options, and random vectors for them."""

import torch

from distill.losses.cc import CorrelationCongruence
from distill.losses.crd import ContrastiveRepresentation
from distill.losses.pkt import ProbabilisticTransfer
from distill.losses.rkd import RelationalDistillation
from distill.models.feature_hooks import Layer
from distill.types import Outputs

B, OWN, THEIRS, K, ROWS = 6, 5, 7, 4, 40
LOSSES = [
    (RelationalDistillation, {}),
    (RelationalDistillation, {"distance": 25.0, "angle": 0.5}),
    (RelationalDistillation, {"most": 4}),
    (ProbabilisticTransfer, {}),
    (ProbabilisticTransfer, {"form": "code"}),
    (CorrelationCongruence, {}),
    (CorrelationCongruence, {"gamma": 1.5}),
    (CorrelationCongruence, {"form": "difference"}),
    (ContrastiveRepresentation, {"rows": ROWS, "negatives": 9}),
]


def bound(kind, options):
    """A loss that has met a student's vectors of 5 numbers and a teacher's of 7."""
    torch.manual_seed(0)
    loss = kind(**options)
    loss.pairs = [(Layer("own", (OWN,), False), Layer("theirs", (THEIRS,), False))]
    loss.make()
    return loss


def batch(size=B, seed=1, classes=K):
    g = torch.Generator().manual_seed(seed)
    own, theirs = torch.randn(size, OWN, generator=g), torch.randn(size, THEIRS, generator=g)
    target = torch.eye(K)[torch.arange(size) % classes]
    return [own, theirs, target, torch.randperm(ROWS, generator=g)[:size]]


def value(loss, own, theirs, target, index, seed=2):
    """The loss of these vectors; it draws the same numbers each time."""
    torch.manual_seed(seed)
    logits = torch.zeros(len(own), K)
    return loss(Outputs(logits, logits, {"own": own}, index), Outputs(logits, logits, {"theirs": theirs}), target)
