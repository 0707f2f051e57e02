"""Similarity preserving: faces that the teacher finds similar should be similar to the student."""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base.feature_loss import FeatureLoss
from distill.types import Outputs


class SimilarityPreserving(FeatureLoss):
    """Squared distance between the similarities that student and teacher see among the samples of a batch.

    With F flattened to [B, D] and G = F F^T, every row divided by its length: loss = sum over pairs of |G_s - G_t|_F^2 / B^2.
    The two need not have one shape. In a batch of one sample G is 1 for both, and the loss 0.

    Args:
        student, teacher: layers, see FeatureLoss; without names the deepest stage of each.

    Shape:
        features [B, ...] -> a scalar, by way of [B, B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist.

    Reference: Tung and Mori, Similarity-Preserving Knowledge Distillation, arXiv 1907.09682, equations 1 to 4.
    Deviations: none; a sample whose features are all 0 has a row of zeros.
    """

    term = "sp"
    pairing = "last"

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return sum((similarity(s) - similarity(t)).square().mean() for s, t in self.maps(student, teacher))


def similarity(x: Tensor) -> Tensor:
    """Return the products of all samples with each other, [B, B], rows of length 1."""
    x = x.flatten(1)
    return F.normalize(x @ x.T, eps=1e-8)
