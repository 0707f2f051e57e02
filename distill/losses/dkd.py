"""Decoupled distillation: target and other classes apart."""

import torch
from torch import Tensor

from distill.losses.base.logit_loss import (
    LogitLoss,
    check_numbers,
    check_temperature,
    divergence,
    hard_label,
    log_others,
    soft,
)


class DecoupledDistillation(LogitLoss):
    """Distillation in two parts with a weight each: how sure the label is, and how the other classes share the rest.

    With p = softmax(z / T), y = argmax of the target, b = (p_y, 1 - p_y), o = softmax(z / T) over the classes but y:
    loss[b] = c * sum or mean over heads of alpha KL(b_t || b_s) + beta KL(o_t || o_s), c = T^2 if scale_t2, else 1.

    KD is the case alpha = 1, beta = 1 - p_t,y of each sample. With two classes the second part is 0.

    Args:
        alpha: weight of the label's part (TCKD), at least 0.
        beta: weight of the other classes' part (NCKD), at least 0.
        temperature: T, above 0.
        scale_t2: multiply by T^2.
        standardize: standardized logits replace both z, as in kd.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K], target [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Zhao et al., Decoupled Knowledge Distillation, arXiv 2203.08679, equation 7.
    Deviations: a target that is a distribution counts by its largest entry; the warm-up over the first 20 epochs is not
    here but a matter of the term's weight; all in log space, without the released code's mask of -1000 and its
    log(softmax), which can be -inf.
    """

    term = "dkd"
    needs_label = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 2.0,
        temperature: float = 2.0,
        scale_t2: bool = True,
        standardize: bool = False,
        apply_to: str = "heads",
        head_reduction: str = "mean",
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(
            self.term, alpha=(alpha, alpha >= 0, "0 or more, such as 1"), beta=(beta, beta >= 0, "0 or more, such as 2")
        )
        check_temperature(self.term, temperature)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.scale_t2, self.standardize = scale_t2, standardize

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        is_label = hard_label(target)
        log_t, log_s = (soft(z, self.temperature, self.standardize) for z in (z_t, z_s))
        label_part = divergence(label_or_not(log_t, is_label), label_or_not(log_s, is_label))
        others_part = divergence(log_others(log_t, is_label), log_others(log_s, is_label))
        value = self.alpha * label_part + self.beta * others_part
        return value * self.temperature**2 if self.scale_t2 else value


def label_or_not(log_p: Tensor, is_label: Tensor) -> Tensor:
    """Return log (p_y, 1 - p_y), [.., 2]."""
    label = log_p.masked_fill(~is_label, 0.0).sum(dim=-1)
    return torch.stack([label, log_p.masked_fill(is_label, float("-inf")).logsumexp(dim=-1)], dim=-1)
