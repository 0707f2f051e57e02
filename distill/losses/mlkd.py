"""Multi-level distillation: samples, batch and classes at several temperatures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, divergence, soft


class MultiLevelDistillation(LogitLoss):
    """Divergence per sample plus the differences of the predictions' Gram matrices, summed over temperatures.

    With P = softmax(z / T), [B, K], of one head or of the teacher:
    loss = mean over heads of sum over T of mean_b T^2 KL(P_t[b] || P_s[b])
    + |P_s P_s' - P_t P_t'|^2 / B + |P_s' P_s - P_t' P_t|^2 / K, |.|^2 the sum of squares.

    The second term grows with B and the third with B^2; normalize divides them by B and B^2, which makes them means.

    Args:
        temperatures: every T, above 0.
        normalize: make the matrix terms independent of the batch size; false is the paper's formula.
        standardize: the divergence alone takes standardized logits, as in kd (so does the code of arXiv 2403.01427).
        apply_to: heads (each against the teacher's fused logits, then their mean), or logits (the fused prediction).

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> a scalar.

    Raises:
        ValueError: for a choice that does not exist, no temperature or one that is not above 0, or a teacher of other
            classes.

    Reference: Jin et al., Multi-Level Logit Distillation, CVPR 2023 (no arXiv number), the three alignments of section 3;
    standardize: Sun et al., arXiv 2403.01427.
    Deviations: one view, where the paper adds a weakly and a strongly augmented one. This is the paper's formula, not the
    released code, whose masks of confident samples only scale a mean and whose strong view takes weak logits.
    """

    term = "mlkd"
    relational = True

    def __init__(
        self,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        normalize: bool = True,
        standardize: bool = False,
        apply_to: str = "heads",
    ):
        super().__init__(apply_to)
        given = [] if isinstance(temperatures, str | float | int) else list(temperatures)
        usable = bool(given) and all(t > 0 for t in given)
        check_numbers(self.term, temperatures=(temperatures, usable, "a list of numbers above 0, such as [2,4]"))
        self.temperatures, self.normalize, self.standardize = given, normalize, standardize

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        return sum(self._at(temperature, z_s, z_t) for temperature in self.temperatures)

    def _at(self, temperature: float, z_s: Tensor, z_t: Tensor) -> Tensor:
        size, classes = z_s.shape[0], z_s.shape[2]
        log_t, log_s = (soft(z, temperature, self.standardize) for z in (z_t, z_s))
        p_t, p_s = (soft(z, temperature).exp().transpose(0, 1) for z in (z_t, z_s))  # [1 or H, B, K]
        batch = (torch.matmul(p_s, p_s.mT) - torch.matmul(p_t, p_t.mT)).square().sum(dim=(1, 2)) / size
        kinds = (torch.matmul(p_s.mT, p_s) - torch.matmul(p_t.mT, p_t)).square().sum(dim=(1, 2)) / classes
        if self.normalize:
            batch, kinds = batch / size, kinds / size**2
        return temperature**2 * divergence(log_t, log_s).mean(dim=0) + batch + kinds
