"""MicroExpNet's published objective."""

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, check_temperature, cross_entropy, hard_label, soft


class MicroExpNetMixture(LogitLoss):
    """Cross-entropy with the label mixed with cross-entropy with the softened teacher, without T^2.

    With y = argmax of the target:
    loss[b] = sum or mean over heads of -(1 - alpha) log softmax(z_s)_y + alpha H(softmax(z_t / T), softmax(z_s / T)).

    The same as loss=[ce,kd] with loss.ce.weight = 1 - alpha, loss.ce.target = hard, loss.kd.weight = alpha, form ce,
    scale_t2 false. At T = 8 the soft part's gradient is about 64 times smaller than with T^2: it is close to
    (1 - alpha) cross-entropy alone.

    Args:
        alpha: the soft part's share (the paper's lambda), in [0, 1].
        temperature: T, above 0.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K], target [B, K] -> [B].

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Cugu et al., MicroExpNet, arXiv 1711.07011, the loss of its knowledge distillation.
    Deviations: a target that is a distribution counts by its largest entry.
    """

    term = "microexpnet"
    needs_label = True

    def __init__(
        self, alpha: float = 0.5, temperature: float = 8.0, apply_to: str = "heads", head_reduction: str = "mean"
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(self.term, alpha=(alpha, 0 <= alpha <= 1, "a share in [0, 1], such as 0.5"))
        check_temperature(self.term, temperature)
        self.alpha, self.temperature = alpha, temperature

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        label_part = cross_entropy(hard_label(target), soft(z_s, 1.0))
        soft_part = cross_entropy(soft(z_t, self.temperature).exp(), soft(z_s, self.temperature))
        return (1 - self.alpha) * label_part + self.alpha * soft_part
