"""Neuron selectivity transfer: the channels of both networks should fire at the same places, in whatever order."""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base.feature_loss import FeatureLoss, pooled
from distill.types import Outputs


class NeuronSelectivity(FeatureLoss):
    """Maximum mean discrepancy between the channels of student and teacher, each a sample of where a neuron fires.

    With f[i] channel i of a picture's map, flattened and of length 1, and k(x, y) = (x . y)^2:
    loss[b] = sum over pairs of mean_ij k(f_s[i], f_s[j]) + mean_ij k(f_t[i], f_t[j]) - 2 mean_ij k(f_s[i], f_t[j]).

    Both maps are averaged over areas to the smaller size first. A channel of zeros stays 0.

    Args:
        student, teacher: layers, see FeatureLoss; without names every stage.

    Shape:
        features [B, C, H, W] -> [B], by way of [B, C, C]; the numbers of channels may differ. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist or is no map.

    Reference: Huang and Wang, Like What You Like, arXiv 1707.01219, equation 6 with the polynomial kernel d = 2, c = 0.
    Deviations: maps are compared after averaging over areas; every stage, as in later comparisons, instead of the last.
    """

    term = "nst"
    pairing = "stages"
    compares_maps = True

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        total = 0.0
        for s, t in self.maps(student, teacher):
            f_s, f_t = (F.normalize(x.flatten(2), dim=2, eps=1e-8) for x in pooled(s, t))
            total = total + kernel(f_s, f_s) + kernel(f_t, f_t) - 2 * kernel(f_s, f_t)
        return total


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean over i, j of (x_i . y_j)^2: [B, C, P], [B, D, P] -> [B]."""
    return torch.bmm(x, y.transpose(1, 2)).square().mean((1, 2))
