"""Activation boundaries: which of the teacher's neurons fire, not how strongly."""

import torch
from torch import Tensor

from distill.losses.base.feature_loss import Names
from distill.losses.base.logit_loss import check_numbers
from distill.losses.base.preactivation_loss import PreActivationLoss, deeper_counts_more
from distill.types import Outputs


class ActivationBoundary(PreActivationLoss):
    """Squared hinge that puts the student's neurons on the same side of their boundary as the teacher's, by a margin.

    With s = connector(F_s), a 1 x 1 convolution and BatchNorm, learned, and t = F_t:
    d[b] = mean over c, h, w of (s + m)^2 where t <= 0 and s > -m, (s - m)^2 where t > 0 and s <= m, else 0
    loss[b] = sum over pairs l = 1..L, fine to coarse, of 2^-(L - l) d_l[b].

    Args:
        student, teacher: layers, see FeatureLoss; without names every stage, the student's before its activation where a
            BatchNorm2d ends the stage.
        margin: m, at least 0.

    Shape:
        features [B, C, H, W] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist or is no map, or a margin out of range.

    Reference: Heo et al., Knowledge Transfer via Distillation of Activation Boundaries, arXiv 1811.03233, equations 5 to 7.
    Deviations: the teacher's stage is taken after its activation, which is above 0 exactly where it was before (ReLU, GELU,
    SiLU); the mean over the map instead of the sum; layer weights as in the released code; it may stay on all through
    a run (phases make it a first stage, as published).
    """

    term = "ab"
    moved = (True, False)

    def __init__(self, student: Names = None, teacher: Names = None, margin: float = 1.0):
        super().__init__(student, teacher)
        check_numbers(self.term, margin=(margin, margin >= 0, "0 or more, such as 1"))
        self.margin = margin

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        distances = []
        for s, t in self.connected(student, teacher):
            short = self.margin - torch.where(t > 0, s, -s)  # how far a neuron is from its side of the margin
            distances.append(short.clamp(min=0).square().flatten(1).mean(1))
        return deeper_counts_more(distances)
