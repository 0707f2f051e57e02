"""Transformed teacher matching: only the teacher is softened."""

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, divergence, soft


class TransformedTeacherMatching(LogitLoss):
    """Divergence of the student, unsoftened, from the teacher's distribution raised to a power.

    With p_t = softmax(z_t), q = p_t^gamma / sum_k p_t,k^gamma = softmax(gamma z_t):
    loss[b] = sum or mean over heads of u KL(q || softmax(z_s)), u = 1, or sum_k p_t,k^gamma if weighted.

    Args:
        gamma: the power, above 0; 1 / gamma is the teacher's temperature.
        weighted: WTTM, in which a sample counts the more the less sure the teacher is.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, a gamma that is not above 0, or a teacher of other classes.

    Reference: Zheng and Yang, Knowledge Distillation Based on Transformed Teacher Matching, arXiv 2402.11148, sections 3
    (TTM) and 4 (WTTM), without their cross-entropy.
    """

    term = "ttm"

    def __init__(
        self, gamma: float = 0.5, weighted: bool = False, apply_to: str = "heads", head_reduction: str = "mean"
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(self.term, gamma=(gamma, gamma > 0, "a number above 0, such as 0.5"))
        self.gamma, self.weighted = gamma, weighted

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        log_p = self.gamma * soft(z_t, 1.0)
        value = divergence(log_p.log_softmax(dim=-1), soft(z_s, 1.0))
        return log_p.logsumexp(dim=-1).exp() * value if self.weighted else value
