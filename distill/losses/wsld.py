"""Weighted soft labels: distil where the student is worse than the teacher."""

import torch
from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_temperature, cross_entropy, soft


class WeightedSoftLabels(LogitLoss):
    """Soft cross-entropy, weighted per sample by how far the student's own error exceeds the teacher's.

    With CE = H(target, softmax(z)): w = 1 - exp(-CE_s / CE_t), a constant to the gradient, and
    loss[b] = c * sum or mean over heads of w H(softmax(z_t / T), softmax(z_s / T)), c = T^2 if scale_t2, else 1.

    Args:
        temperature: T, above 0; the weights are taken at T = 1.
        scale_t2: multiply by T^2.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K], target [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, a temperature that is not above 0, or a teacher of other classes.

    Reference: Zhou et al., Rethinking Soft Labels for Knowledge Distillation, arXiv 2102.00650, section 4 (weighted soft
    labels).
    Deviations: targets may be distributions; CE_t is at least 1e-7, so a teacher without error gives w = 1.
    """

    term = "wsld"
    needs_every_label = True

    def __init__(
        self, temperature: float = 2.0, scale_t2: bool = True, apply_to: str = "heads", head_reduction: str = "mean"
    ):
        super().__init__(apply_to, head_reduction)
        check_temperature(self.term, temperature)
        self.temperature, self.scale_t2 = temperature, scale_t2

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        value = cross_entropy(soft(z_t, self.temperature).exp(), soft(z_s, self.temperature))
        value = value * self.weights(z_s.detach(), z_t, target)
        return value * self.temperature**2 if self.scale_t2 else value

    def weights(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        """Return w of each sample and head, [B, H], in [0, 1]."""
        error_s, error_t = (cross_entropy(target[:, None], soft(z, 1.0)) for z in (z_s, z_t))
        return -torch.expm1(-error_s / error_t.clamp(min=1e-7))
