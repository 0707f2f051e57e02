"""Deep mutual learning: two students that learn from the labels and from each other."""

from typing import Any

import torch
from torch import Tensor, nn

from distill.losses.base.logit_loss import check_numbers, check_temperature, cross_entropy, divergence, soft
from distill.losses.base.objective import Loss, check_heads, reduce_heads, select_heads
from distill.system.errors import ConfigError
from distill.types import Outputs


class MutualLearning(Loss):
    """Each student's divergence from the other one's fixed answer, and the peer's cross-entropy with the labels.

    With p = softmax(z / T) of the student, q = softmax(z' / T) of the peer, [.] without gradient, c = T^2 if scale_t2, else 1:
    loss[b] = c KL([q] || p) + c KL([p] || q) + label_weight * CE(target, softmax(z')).
    The student gets the gradient of the first part alone, the peer that of the others: with weight 1 and label_weight 1
    (and loss.ce.weight 1 for the student) both have the published objective.

    bind() takes the peer's network in as a part of the loss, so that the optimizer and the checkpoints know it. The best epoch
    is the student's; the peer keeps the weights of the last one, without a moving average. train.max_grad_norm bounds the joint norm
    of both.

    Args:
        label_weight: factor of the peer's cross-entropy, at least 0.
        temperature: T, above 0.
        scale_t2: multiply both divergences by T^2.
        apply_to: heads (each against the other's fused logits), or logits (the fused predictions).
        head_reduction: sum or mean.

    Shape:
        heads [B, H, K] or logits [B, K] of both, H need not be equal; target [B, K] -> [B].

    Raises:
        ConfigError: for a choice that does not exist, or a teacher that does not learn.

    Reference: Zhang et al., Deep Mutual Learning, arXiv 1706.00384, equations 6 and 7.
    Deviations: both step at once from the answers before the step (the paper: one after the other); temperature.
    """

    term = "dml"
    needs_teacher = True

    def __init__(
        self,
        label_weight: float = 1.0,
        temperature: float = 1.0,
        scale_t2: bool = True,
        apply_to: str = "heads",
        head_reduction: str = "mean",
    ):
        super().__init__()
        check_heads(self.term, apply_to, head_reduction)
        check_numbers(self.term, label_weight=(label_weight, label_weight >= 0, "0 or more, such as 1"))
        check_temperature(self.term, temperature)
        self.label_weight, self.temperature, self.scale_t2 = label_weight, temperature, scale_t2
        self.apply_to, self.head_reduction = apply_to, head_reduction

    def bind(self, student: nn.Module, teacher: Any) -> None:
        if not teacher.learns:
            raise ConfigError(
                f"loss.{self.term}", "needs a teacher that learns, too. Type teacher=peer, or loss=[ce,kd]."
            )
        self.peer = teacher.network

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        s, t = (select_heads(outputs, self.apply_to) for outputs in (student, teacher))
        with torch.autocast(s.device.type, enabled=False):
            labels = cross_entropy(target.float()[:, None], soft(t, 1.0))
            imitation = self._imitate(s, teacher) + self._imitate(t, student)
            return imitation + self.label_weight * reduce_heads(labels, self.head_reduction)

    def _imitate(self, heads: Tensor, other: Outputs) -> Tensor:
        """Return the divergence [B] of heads [B, H, K] from the other's fused answer, which gets no gradient."""
        fixed = soft(select_heads(other, "logits").detach(), self.temperature)
        value = divergence(fixed, soft(heads, self.temperature))
        return reduce_heads(value * self.temperature**2 if self.scale_t2 else value, self.head_reduction)
