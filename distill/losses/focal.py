"""Focal loss: cross-entropy that looks away from what is easy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.losses.ce import CrossEntropy
from distill.system.errors import expect


class Focal(CrossEntropy):
    """Cross-entropy whose every log p_k is multiplied by (1 - p_k)^gamma, p = softmax(z).

    loss[b] = sum, mean or weighted sum over heads h of -sum_k w_k q[b, k] (1 - p_k)^gamma log p_k.

    Args:
        gamma: at least 0; 0 is cross-entropy, larger values look away sooner.
        target, class_weights, label_smoothing, apply_to, head_reduction, head_weights: as in CrossEntropy.

    Shape:
        heads [B, H, K] or logits [B, K], target [B, K] -> [B].

    Raises:
        ConfigError: for a negative gamma, and as CrossEntropy.

    Reference: Lin et al., Focal Loss for Dense Object Detection, arXiv 1708.02002, equation 4 for one-hot targets (class
    weights are alpha_t of equation 5), with softmax instead of the sigmoid. Deviation: targets may be distributions, each
    class then counts by its share; p = q is not the minimum of that for gamma above 0.
    """

    term = "focal"

    def __init__(
        self,
        gamma: float = 2.0,
        target: str = "soft",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        apply_to: str = "heads",
        head_reduction: str = "mean",
        head_weights: Sequence[float] | None = None,
    ):
        super().__init__(target, class_weights, label_smoothing, apply_to, head_reduction, head_weights)
        expect(gamma >= 0, "loss.focal.gamma", "0 or more, such as 2", gamma)
        self.gamma = gamma

    def _modulate(self, log_p: Tensor) -> Tensor:
        rest = -torch.expm1(log_p)
        return rest.clamp(min=1e-12) ** self.gamma * log_p  # the slope of x^gamma at 0 is infinite where gamma < 1
