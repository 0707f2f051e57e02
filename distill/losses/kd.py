"""Knowledge distillation from softened logits."""

from collections.abc import Sequence

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_temperature, cross_entropy, divergence, soft
from distill.losses.base.objective import check_choices


class KnowledgeDistillation(LogitLoss):
    """Divergence of each softened student head from the teacher's softened logits.

    With t = softmax(z_t / T), s_h = softmax(z_s[h] / T):
    kl: loss[b] = c * sum or mean over heads h of sum_k t_k (log t_k - log s_hk), ce: the same without log t_k,
    c = T^2 if scale_t2, else 1. Both have one gradient; ce is larger by c times the teacher's entropy.
    standardize: (z - mean) / (std + 1e-7) over the classes replaces both z, std with K - 1 below; logits whose std
    is less than 1e-3 count as equal and get no gradient.

    teacher_adjustment: z_t - tau log pi replaces z_t before all this, pi the class priors: a teacher of common and rare classes
    answers as if all were equally common (tau = 1).

    MicroExpNet's mixture (1 - a) CE + a CE(t, s): loss.ce.weight = 1 - a, loss.kd.weight = a, form ce, scale_t2 false.
    Of K standardized logits the largest is at most (K - 1) / sqrt(K): with 8 classes no teacher is surer than 0.37 at
    T = 2, 0.71 at T = 1 and 0.98 at T = 0.5.

    Args:
        temperature: T, above 0.
        scale_t2: multiply by T^2, so that the gradient's size hardly depends on T.
        form: kl or ce.
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean.
        standardize: distil the shape of the logits alone, not their mean and spread.
        teacher_adjustment: tau, at least 0; 0 leaves the teacher's logits as they are.
        class_priors: K numbers above 0, or None where tau is 0.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of another number of classes.

    Reference: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, section 2;
    Cugu et al., MicroExpNet, arXiv 1711.07011 (form ce without T^2);
    Sun et al., Logit Standardization in Knowledge Distillation, arXiv 2403.01427, algorithm 1 (standardize);
    Menon et al., Long-tail Learning via Logit Adjustment, arXiv 2007.07314 (its post-hoc adjustment, here of the
    teacher). Kim, Distilling Balanced Knowledge from a Biased Teacher, arXiv 2506.18496, has the same aim by another loss, which
    rebalances groups of classes.
    """

    term = "kd"

    def __init__(
        self,
        temperature: float = 2.0,
        scale_t2: bool = True,
        form: str = "kl",
        apply_to: str = "heads",
        head_reduction: str = "mean",
        standardize: bool = False,
        teacher_adjustment: float = 0.0,
        class_priors: Sequence[float] | None = None,
    ):
        super().__init__(apply_to, head_reduction, teacher_adjustment, class_priors)
        check_choices(self.term, form=(form, ("kl", "ce")))
        check_temperature(self.term, temperature)
        self.temperature, self.scale_t2, self.form, self.standardize = temperature, scale_t2, form, standardize

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        log_t, log_s = (soft(z, self.temperature, self.standardize) for z in (z_t, z_s))
        value = divergence(log_t, log_s) if self.form == "kl" else cross_entropy(log_t.exp(), log_s)
        return value * self.temperature**2 if self.scale_t2 else value
