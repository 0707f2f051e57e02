"""Teacher-free distillation: a virtual teacher that is nearly always right."""

import math

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, check_temperature, divergence, hard_label, soft


class TeacherFreeDistillation(LogitLoss):
    """Divergence from a virtual teacher that gives the label a fixed chance and shares the rest evenly.

    With y = argmax of the target, v_y = correct, v_k = (1 - correct) / (K - 1) for k != y, v^T the softened v,
    proportional to v_k^(1 / T): loss[b] = c * sum or mean over heads of KL(v^T || softmax(z_s / T)),
    c = T^2 if scale_t2, else 1.

    Args:
        correct: the virtual teacher's chance of the label, in (0, 1); from 0.9 on in the paper.
        temperature: T, above 0; 1 is label smoothing.
        scale_t2: multiply by T^2.
        apply_to: heads, or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        heads [B, H, K] or logits [B, K], target [B, K] -> [B]. No teacher is needed.

    Raises:
        ValueError: for a choice that does not exist, or a number out of range.

    Reference: Yuan et al., Revisiting Knowledge Distillation via Label Smoothing Regularization, arXiv 1909.11723, the
    loss Tf-KD_reg without its cross-entropy.
    Deviations: a target that is a distribution counts by its largest entry; the released code softens the probabilities
    as if they were logits, softmax(v / T), leaves the student unsoftened and takes the mean over B and K.
    """

    term = "tfkd"
    needs_label = True
    needs_teacher = False

    def __init__(
        self,
        correct: float = 0.99,
        temperature: float = 20.0,
        scale_t2: bool = True,
        apply_to: str = "heads",
        head_reduction: str = "mean",
    ):
        super().__init__(apply_to, head_reduction)
        check_numbers(self.term, correct=(correct, 0 < correct < 1, "a chance between 0 and 1, such as 0.99"))
        check_temperature(self.term, temperature)
        self.correct, self.temperature, self.scale_t2 = correct, temperature, scale_t2

    def per_head(self, z_s: Tensor, z_t: Tensor | None, target: Tensor) -> Tensor:
        advantage = math.log(self.correct * (target.shape[1] - 1) / (1 - self.correct))  # log v_y - log v_k
        virtual = hard_label(target).to(z_s.dtype) * advantage
        value = divergence(soft(virtual, self.temperature), soft(z_s, self.temperature))
        return value * self.temperature**2 if self.scale_t2 else value
