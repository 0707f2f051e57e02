"""Distillation by correlation: relations instead of equal numbers."""

from collections.abc import Sequence

from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, check_temperature, soft


class Dist(LogitLoss):
    """One minus the correlation of both networks' predictions, along the classes and along the batch.

    With p = softmax(z / T), r Pearson's correlation, c = T^2 if scale_t2, else 1:
    loss = mean over heads of c (beta (1 - mean_b r(p_s[b, :], p_t[b, :])) + gamma (1 - mean_k r(p_s[:, k], p_t[:, k]))).

    A row or column that hardly varies (norm below 1e-6) has r = 0 and gets no gradient. In a batch of one sample no class
    varies, so the gamma part is left out (0). Correlations do not fade as T rises, so T^2 enlarges the gradient.

    teacher_adjustment: z_t - tau log pi replaces z_t before all this, as in kd.

    Args:
        beta: weight of the part along the classes (inter-class), at least 0.
        gamma: weight of the part along the batch (intra-class), at least 0; it wants batches that show every class.
        temperature: T, above 0.
        scale_t2: multiply by T^2.
        apply_to: heads (each against the teacher's fused logits, then their mean), or logits (the fused prediction).
        teacher_adjustment: tau, at least 0; 0 leaves the teacher's logits as they are.
        class_priors: K numbers above 0, or None where tau is 0.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> a scalar.

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Huang et al., Knowledge Distillation from a Stronger Teacher, arXiv 2205.10536, section 3 (the loss
    without its cross-entropy); teacher_adjustment: Menon et al., arXiv 2007.07314, see kd.
    Deviations: what does not vary is left out as said above (the released code adds 1e-8 to the norms).
    """

    term = "dist"
    relational = True

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 0.5,
        temperature: float = 1.0,
        scale_t2: bool = True,
        apply_to: str = "heads",
        teacher_adjustment: float = 0.0,
        class_priors: Sequence[float] | None = None,
    ):
        super().__init__(apply_to, "mean", teacher_adjustment, class_priors)
        check_numbers(
            self.term, beta=(beta, beta >= 0, "0 or more, such as 1"), gamma=(gamma, gamma >= 0, "0 or more, such as 1")
        )
        check_temperature(self.term, temperature)
        self.beta, self.gamma, self.temperature, self.scale_t2 = beta, gamma, temperature, scale_t2

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        p_s, p_t = (soft(z, self.temperature).exp() for z in (z_s, z_t))
        value = self.beta * (1 - correlation(p_s, p_t, dim=2).mean(dim=0))
        if len(p_s) > 1:
            value = value + self.gamma * (1 - correlation(p_s, p_t, dim=0).mean(dim=1))
        return value * self.temperature**2 if self.scale_t2 else value


def correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Return Pearson's correlation along dim; 0, without a gradient, where either hardly varies."""
    a, b = (x - x.mean(dim=dim, keepdim=True) for x in (a, b))
    squares = [x.square().sum(dim=dim) for x in (a, b)]
    norms = [square.clamp(min=1e-12).sqrt() for square in squares]
    varies = (squares[0] > 1e-12) & (squares[1] > 1e-12)
    return ((a * b).sum(dim=dim) / (norms[0] * norms[1])).masked_fill(~varies, 0.0)
