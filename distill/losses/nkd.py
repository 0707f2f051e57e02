"""Normalized distillation: the label's share, and the other classes among themselves."""

from torch import Tensor

from distill.losses.base.logit_loss import (
    LogitLoss,
    check_numbers,
    check_temperature,
    cross_entropy,
    hard_label,
    log_others,
    soft,
)


class NormalizedDistillation(LogitLoss):
    """Cross-entropy of the label weighted by the teacher's trust in it, and of the other classes renormalized.

    With p = softmax(z), y = argmax of the target, o = softmax(z / T) over the classes but y:
    loss[b] = sum or mean over heads of -p_t,y log p_s,y - gamma T^2 sum_(i != y) o_t,i log o_s,i.

    The paper's plain cross-entropy is the term ce beside it.

    Args:
        gamma: weight of the other classes' part, at least 0.
        temperature: T of the other classes' part, above 0.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K], target [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Yang et al., From Knowledge Distillation to Self-Knowledge Distillation, arXiv 2303.13005, the NKD loss
    without its first term.
    Deviations: a target that is a distribution counts by its largest entry (the paper knows labels only).
    """

    term = "nkd"
    needs_label = True

    def __init__(
        self, gamma: float = 1.5, temperature: float = 1.0, apply_to: str = "heads", head_reduction: str = "mean"
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(self.term, gamma=(gamma, gamma >= 0, "0 or more, such as 1.5"))
        check_temperature(self.term, temperature)
        self.gamma, self.temperature = gamma, temperature

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        is_label = hard_label(target)
        label_part = cross_entropy(soft(z_t, 1.0).exp() * is_label, soft(z_s, 1.0))
        others_t, others_s = (log_others(z / self.temperature, is_label) for z in (z_t, z_s))
        return label_part + self.gamma * self.temperature**2 * cross_entropy(others_t.exp(), others_s)
