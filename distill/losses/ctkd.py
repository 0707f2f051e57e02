"""Curriculum temperature: distillation whose temperature is learned against the student."""

import math

import torch
from torch import Tensor, nn

from distill.losses.base.logit_loss import LogitLoss, check_numbers, divergence, soft


class CurriculumTemperature(LogitLoss):
    """Distillation at one temperature for all pictures, which is learned so as to make the divergence larger.

    With T = lowest + span sigmoid(theta), theta one learned number, t = softmax(z_t / T), s_h = softmax(z_s[h] / T):
    loss[b] = c * sum or mean over heads h of KL(t || s_h), c = T^2 if scale_t2, else 1.
    The gradient of theta, by way of t, s and T^2, is multiplied by -reversal: the same optimizer raises for theta what it
    lowers for the student. With reversal 0 it is distillation at a fixed temperature.

    reversal rises from 0 to 1 along half a cosine, {from: 0, to: 1, end: 10, shape: cosine}: easy first, then harder.
    Optimizers of the Adam family undo most of a gradient's scale, so under them it is the sign that counts.

    Args:
        lowest: least temperature, above 0.
        span: largest minus least temperature, above 0.
        start: temperature to begin with, between them; 15.62 is theta = 1.
        reversal: factor of the turned gradient, at least 0; a ramp over epochs is usual.
        scale_t2: multiply by T^2.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Li et al., Curriculum Temperature for Knowledge Distillation, arXiv 2211.16231, Global-T, lowest 1, span 20,
    and the cosine ramp of lambda over the first 10 epochs. Deviations: Instance-T, a temperature for each picture, is left
    out; the ramp moves with every step, not with every epoch.
    """

    term = "ctkd"

    def __init__(
        self,
        lowest: float = 1.0,
        span: float = 20.0,
        start: float = 15.62,
        reversal: float = 1.0,
        scale_t2: bool = True,
        apply_to: str = "heads",
        head_reduction: str = "mean",
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(
            self.term,
            lowest=(lowest, lowest > 0, "a temperature above 0, such as 1"),
            span=(span, span > 0, "a number above 0, such as 20"),
            start=(start, lowest < start < lowest + span, f"a temperature between {lowest:g} and {lowest + span:g}"),
            reversal=(reversal, reversal >= 0, "0 or more, such as 1"),
        )
        self.lowest, self.span, self.reversal, self.scale_t2 = lowest, span, reversal, scale_t2
        share = (start - lowest) / span
        self.theta = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    @property
    def temperature(self) -> Tensor:
        """T as learned so far, a scalar."""
        return self.lowest + self.span * self.theta.sigmoid()

    def learned_numbers(self) -> dict[str, float]:
        return {"temperature": self.temperature.item()}

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        t = self.temperature
        t = (1 + self.reversal) * t.detach() - self.reversal * t  # T, with -reversal times its gradient
        value = divergence(soft(z_t, t), soft(z_s, t))
        return value * t**2 if self.scale_t2 else value
