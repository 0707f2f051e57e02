"""Variational information distillation: the teacher's map as a normal variable that the student's map predicts."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, pooled
from distill.types import Outputs

INITIAL, SMALLEST = 5.0, 1e-5  # variance at the start, and least variance


class VariationalInformation(FeatureLoss):
    """Negative log-likelihood of the teacher's map, normal around what a small network predicts from the student's.

    With mu = three 1 x 1 convolutions, ReLU between them, and var_c = softplus(rho_c) + 1e-5, both learned, var 5 at first:
    loss[b] = sum over pairs of mean over c, h, w of 1/2 ((mu(F_s) - F_t)^2 / var_c + log var_c).

    Both maps are averaged over areas to the smaller size first. The value falls below 0 as the variances do.

    Args:
        student, teacher: layers, see FeatureLoss; without names every stage.

    Shape:
        features [B, C, H, W] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist or is no map.

    Reference: Ahn et al., Variational Information Distillation for Knowledge Transfer, arXiv 1904.05835, equations 4 to 6.
    Deviations: the mean over the map instead of the sum, without the constant log(2 pi) / 2.
    """

    term = "vid"
    pairing = "stages"
    compares_maps = True

    def make(self) -> None:
        shapes = [(student.shape[0], teacher.shape[0]) for student, teacher in self.pairs]
        self.means = nn.ModuleList(mean_network(c_s, c_t) for c_s, c_t in shapes)
        rho = math.log(math.expm1(INITIAL - SMALLEST))
        self.rho = nn.ParameterList(nn.Parameter(torch.full((c_t,), rho)) for _, c_t in shapes)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        total = 0.0
        for mean, rho, maps in zip(self.means, self.rho, self.maps(student, teacher), strict=True):
            s, t = pooled(*maps)
            variance = F.softplus(rho)[:, None, None] + SMALLEST
            error = (mean(s) - t).square() / variance + variance.log()
            total = total + error.flatten(1).mean(1) / 2
        return total


def mean_network(c_s: int, c_t: int) -> nn.Sequential:
    """Return three 1 x 1 convolutions from c_s to c_t channels, ReLU between them."""
    return nn.Sequential(nn.Conv2d(c_s, c_t, 1), nn.ReLU(), nn.Conv2d(c_t, c_t, 1), nn.ReLU(), nn.Conv2d(c_t, c_t, 1))
