"""Hard distillation: the teacher's decision as the label."""

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, cross_entropy, hard_label, soft


class HardDistillation(LogitLoss):
    """Cross-entropy with the class that the teacher chooses.

    With y_t = argmax of z_t (the first of equals): loss[b] = sum or mean over heads of -log softmax(z_s)_(y_t).

    Args:
        apply_to: heads (each against the teacher's fused decision), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, or a teacher of other classes.

    Reference: Touvron et al., Training data-efficient image transformers, arXiv 2012.12877, equation 3 (its second half).
    Deviations: one set of logits for labels and teacher, without a distillation token.
    """

    term = "hard"

    def __init__(self, apply_to: str = "heads", head_reduction: str = "mean"):
        super().__init__(apply_to, head_reduction)

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(hard_label(z_t[:, 0]), soft(z_s, 1.0))
