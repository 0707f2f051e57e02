"""One soft target from votes and teacher."""

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, check_temperature, cross_entropy, soft


class VotesAndTeacher(LogitLoss):
    """Cross-entropy with a mixture of the label distribution and the teacher's softened prediction.

    With q = (1 - alpha) target + alpha softmax(z_t / T):
    loss[b] = sum or mean over heads of -sum_k q_k log softmax(z_s)_k.

    Its gradient is that of (1 - alpha) cross-entropy + alpha KL with only the teacher softened.

    Args:
        alpha: the teacher's share, in [0, 1].
        temperature: T of the teacher, above 0; the student is not softened.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K], target [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Barsoum et al., arXiv 1608.01041 (cross-entropy on the votes of FER+, alpha = 0); Zhao et al., Robust
    Lightweight Facial Expression Recognition Network with Label Distribution Training, AAAI 2021 (no arXiv number;
    alpha = 1, T = 1).
    Deviations: the sum over the classes, where EfficientFace's code takes their mean (K times smaller); log softmax in one
    step, where it takes the logarithm of a softmax that may be 0.
    """

    term = "votes_and_teacher"

    def __init__(
        self, alpha: float = 0.5, temperature: float = 1.0, apply_to: str = "heads", head_reduction: str = "mean"
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(self.term, alpha=(alpha, 0 <= alpha <= 1, "a share in [0, 1], such as 0.5"))
        check_temperature(self.term, temperature)
        self.alpha, self.temperature = alpha, temperature

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        q = (1 - self.alpha) * target[:, None] + self.alpha * soft(z_t, self.temperature).exp()
        return cross_entropy(q, soft(z_s, 1.0))
