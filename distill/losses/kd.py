"""Knowledge distillation from softened logits."""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.objective import Loss, check_choices, reduce_heads, select_heads
from distill.types import Outputs


class KnowledgeDistillation(Loss):
    """Divergence of each softened student head from the teacher's softened logits.

    With t = softmax(z_t / T), s_h = softmax(z_s[h] / T):
    kl: loss[b] = c * sum or mean over heads h of sum_k t_k (log t_k - log s_hk), ce: the same without log t_k,
    c = T^2 if scale_t2, else 1. Both have one gradient; ce is larger by c times the teacher's entropy.

    MicroExpNet's mixture (1 - a) CE + a CE(t, s): loss.ce.weight = 1 - a, loss.kd.weight = a, form ce, scale_t2 false.

    Args:
        temperature: T, above 0.
        scale_t2: multiply by T^2, so that the gradient's size hardly depends on T.
        form: kl or ce.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: for a choice that does not exist, or a teacher of another number of classes.

    Reference: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, section 2;
    Cugu et al., MicroExpNet, arXiv 1711.07011 (form ce without T^2).
    """

    needs_teacher = True

    def __init__(
        self,
        temperature: float = 2.0,
        scale_t2: bool = True,
        form: str = "kl",
        apply_to: str = "heads",
        head_reduction: str = "mean",
    ):
        super().__init__()
        check_choices(
            "kd",
            form=(form, ("kl", "ce")),
            apply_to=(apply_to, ("heads", "logits")),
            head_reduction=(head_reduction, ("sum", "mean")),
        )
        if not temperature > 0:
            raise ValueError(f"loss.kd.temperature: {temperature} was asked for; give a number above 0, such as 2.")
        self.temperature, self.scale = temperature, temperature**2 if scale_t2 else 1.0
        self.form, self.apply_to, self.head_reduction = form, apply_to, head_reduction

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        heads, z_t = select_heads(student, self.apply_to), select_heads(teacher, "logits").detach()
        if z_t.shape[-1] != heads.shape[-1]:
            raise ValueError(
                f"loss.kd: the teacher knows {z_t.shape[-1]} classes, the student {heads.shape[-1]}. "
                "Choose a teacher of the same classes."
            )
        log_t = F.log_softmax(z_t / self.temperature, dim=-1)
        log_s = F.log_softmax(heads / self.temperature, dim=-1)
        difference = log_t - log_s if self.form == "kl" else -log_s
        return self.scale * reduce_heads((log_t.exp() * difference).sum(dim=-1), self.head_reduction)
