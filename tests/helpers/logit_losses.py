"""Losses on logits, each with some of its options, and random logits for them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.ce import CrossEntropy
from distill.losses.dist import Dist
from distill.losses.dkd import DecoupledDistillation
from distill.losses.focal import Focal
from distill.losses.hard import HardDistillation
from distill.losses.kd import KnowledgeDistillation
from distill.losses.microexpnet import MicroExpNetMixture
from distill.losses.mlkd import MultiLevelDistillation
from distill.losses.nkd import NormalizedDistillation
from distill.losses.sinkhorn import Sinkhorn
from distill.losses.tfkd import TeacherFreeDistillation
from distill.losses.ttm import TransformedTeacherMatching
from distill.losses.votes_and_teacher import VotesAndTeacher
from distill.losses.wsld import WeightedSoftLabels
from distill.types import Outputs

B, H, K = 6, 3, 8
PRIORS = [0.36, 0.26, 0.13, 0.12, 0.08, 0.02, 0.02, 0.01]  # about those of FER+
LOSSES = [
    (KnowledgeDistillation, {}),
    (KnowledgeDistillation, {"standardize": True, "temperature": 0.7, "head_reduction": "sum"}),
    (KnowledgeDistillation, {"standardize": True, "form": "ce", "scale_t2": False, "apply_to": "logits"}),
    (DecoupledDistillation, {}),
    (DecoupledDistillation, {"alpha": 0.5, "beta": 8.0, "temperature": 4.0, "head_reduction": "sum"}),
    (DecoupledDistillation, {"standardize": True, "scale_t2": False, "apply_to": "logits"}),
    (NormalizedDistillation, {}),
    (NormalizedDistillation, {"gamma": 0.5, "temperature": 3.0, "head_reduction": "sum"}),
    (NormalizedDistillation, {"apply_to": "logits"}),
    (Dist, {}),
    (Dist, {"beta": 0.5, "gamma": 2.0, "temperature": 4.0, "scale_t2": False}),
    (Dist, {"temperature": 2.0, "apply_to": "logits"}),
    (MultiLevelDistillation, {}),
    (MultiLevelDistillation, {"temperatures": [0.5, 2], "standardize": True}),
    (MultiLevelDistillation, {"temperatures": [4.0], "normalize": False, "apply_to": "logits"}),
    (WeightedSoftLabels, {}),
    (WeightedSoftLabels, {"temperature": 4.0, "scale_t2": False, "apply_to": "logits"}),
    (TransformedTeacherMatching, {}),
    (TransformedTeacherMatching, {"gamma": 0.2, "weighted": True, "head_reduction": "sum"}),
    (Sinkhorn, {}),
    (Sinkhorn, {"temperature": 1.0, "epsilon": 0.5, "iterations": 3, "apply_to": "logits"}),
    (VotesAndTeacher, {}),
    (VotesAndTeacher, {"alpha": 0.8, "temperature": 3.0, "head_reduction": "sum"}),
    (HardDistillation, {}),
    (HardDistillation, {"apply_to": "logits"}),
    (TeacherFreeDistillation, {}),
    (TeacherFreeDistillation, {"correct": 0.9, "temperature": 1.0, "scale_t2": False, "head_reduction": "sum"}),
    (MicroExpNetMixture, {}),
    (MicroExpNetMixture, {"alpha": 0.2, "temperature": 2.0, "apply_to": "logits"}),
]
LOSSES += [
    (KnowledgeDistillation, {"teacher_adjustment": 0.7, "class_priors": PRIORS, "standardize": True}),
    (Dist, {"temperature": 2.0, "teacher_adjustment": 1.5, "class_priors": PRIORS}),
]
ON_LABELS = [
    (CrossEntropy, {}),
    (CrossEntropy, {"class_weights": range(1, K + 1), "label_smoothing": 0.1, "head_reduction": "sum"}),
    (CrossEntropy, {"target": "hard", "apply_to": "logits"}),
    (CrossEntropy, {"logit_adjustment": 1.5, "class_priors": PRIORS, "label_smoothing": 0.1}),
    (Focal, {}),
    (Focal, {"gamma": 0.5, "target": "hard", "class_weights": range(1, K + 1), "head_reduction": "sum"}),
    (Focal, {"label_smoothing": 0.1, "apply_to": "logits"}),
]


def named(losses) -> list[str]:
    return [" ".join([kind.term, *(f"{k}={v}" for k, v in options.items())]) for kind, options in losses]


def each(losses) -> pytest.MarkDecorator:
    """For tests of one loss at a time."""
    return pytest.mark.parametrize("loss", [kind(**options) for kind, options in losses], ids=named(losses))


def relational(loss) -> bool:
    """Whether a sample's value depends on the others of its batch."""
    return getattr(loss, "relational", False)


def outputs(logits: Tensor) -> Outputs:
    return Outputs(logits, logits[:, None], {})


def batch(seed=0, size=B, heads=H, classes=K):
    """A student of several heads, a surer teacher and label distributions, all random."""
    g = torch.Generator().manual_seed(seed)
    z_s, z_t = torch.randn(size, heads, classes, generator=g), 3 * torch.randn(size, classes, generator=g)
    return Outputs(z_s.mean(1), z_s, {}), outputs(z_t), torch.rand(size, classes, generator=g).softmax(1)


def one_hot(*labels, classes=K):
    return F.one_hot(torch.tensor(labels), classes).float()


def gradient(loss, z_s, z_t, target):
    z_s = z_s.clone().requires_grad_()
    return torch.autograd.grad(loss(outputs(z_s), outputs(z_t), target).mean(), z_s)[0]
