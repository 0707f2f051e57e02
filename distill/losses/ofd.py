"""Overhaul of feature distillation: the teacher's map before its activation, where it says something."""

import math

import torch
from torch import Tensor, nn

from distill.losses.base.preactivation_loss import PreActivationLoss, deeper_counts_more, norm_of
from distill.types import Outputs


class Overhaul(PreActivationLoss):
    """Partial squared distance of the student's maps from the teacher's under a ReLU with a margin below zero.

    With s = connector(F_s), a 1 x 1 convolution and BatchNorm, learned, and t = max(F_t, m_c):
    d[b] = mean over c, h, w of (t - s)^2, but 0 where s <= t <= 0
    loss[b] = sum over pairs l = 1..L, fine to coarse, of 2^-(L - l) d_l[b].

    m_c = E[x | x < 0], x normal with mean beta_c and standard deviation |gamma_c| of the teacher's BatchNorm2d; where its
    layer is not what a BatchNorm2d gives, m_c = 0.

    Args:
        student, teacher: layers, see FeatureLoss; without names every stage, before its activation where a BatchNorm2d ends
            it (timm's with the activation inside included).

    Shape:
        features [B, C, H, W] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist or is no map.

    Reference: Heo et al., A Comprehensive Overhaul of Feature Distillation, arXiv 1904.01866, equations 1 to 4.
    Deviations: the teacher stays in eval mode (the authors' is in train mode); in a residual network the map is that of the
    last branch before the shortcut is added, whose BatchNorm gives the margin; the mean over the map instead of the
    sum; the margin is exact instead of -3 |gamma| where x < 0 is rare.
    """

    term = "ofd"

    def make(self) -> None:
        super().make()
        network = self.networks[1].live_teacher().network
        for place, (_, teacher) in enumerate(self.pairs):
            norm = norm_of(network, teacher.name)
            values = torch.zeros(teacher.shape[0]) if norm is None else margin(norm)
            self.register_buffer(f"margin{place}", values[:, None, None], persistent=False)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        maps = enumerate(self.connected(student, teacher))
        return deeper_counts_more([partial(s, t.maximum(self.get_buffer(f"margin{place}"))) for place, (s, t) in maps])


def partial(s: Tensor, t: Tensor) -> Tensor:
    """Return the mean over the map of (t - s)^2, but 0 where s <= t <= 0: [B, C, H, W] -> [B]."""
    return (t - s).masked_fill((s <= t) & (t <= 0), 0.0).square().flatten(1).mean(1)


@torch.no_grad()
def margin(norm: nn.BatchNorm2d) -> Tensor:
    """Return E[x | x < 0] of every channel, [C]: beta - |gamma| phi(a) / Phi(-a), a = beta / |gamma|."""
    if not norm.affine:
        return torch.full((norm.num_features,), -math.sqrt(2 / math.pi))
    std, mean = norm.weight.detach().cpu().double().abs(), norm.bias.detach().cpu().double()
    a = mean / std.clamp(min=1e-12)
    log_density = -a.square() / 2 - math.log(2 * math.pi) / 2
    values = mean - std * (log_density - torch.special.log_ndtr(-a)).exp()
    return torch.where(std > 1e-6, values, mean).clamp(max=0).float()  # a channel that does not vary is its mean
