"""Sinkhorn distance between the predictions of a batch."""

import torch
from torch import Tensor

from distill.losses.base.logit_loss import LogitLoss, check_numbers, check_temperature, soft


class Sinkhorn(LogitLoss):
    """Cost of moving the batch's student predictions onto its teacher predictions, by entropic optimal transport.

    With p = softmax(z / T): W_ij = sum_k |p_s[i, k] - p_t[j, k]|, P = exp(-W / epsilon) with its rows, then its columns,
    divided by their sums, iterations times; loss = mean over heads of sum_ij P_ij W_ij / B.

    It compares batches, not samples (any student may be moved to any teacher's prediction), and is not 0 for equal
    networks: use it beside ce or kd. In a batch of one sample it is the L1 distance.

    Args:
        temperature: T, above 0.
        epsilon: strength of the entropic regularization, above 0; W lies in [0, 2].
        iterations: normalizations of the rows and the columns, at least 1.
        apply_to: heads (each against the teacher's fused logits, then their mean), or logits (the fused prediction).

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> a scalar, by way of [H, B, B].

    Raises:
        ValueError: for a choice that does not exist, a number out of range, or a teacher of other classes.

    Reference: Cui et al., Sinkhorn Distance Minimization for Knowledge Distillation, arXiv 2402.17110, section 3 (the
    batch-wise Sinkhorn distance).
    Deviations: in the log domain, so a small epsilon does not underflow; divided by B, so that a weight keeps its meaning;
    the released code ignores its temperature (always 2) and multiplies by 0.001, which is a matter of the weight here.
    """

    term = "sinkhorn"
    relational = True

    def __init__(self, temperature: float = 2.0, epsilon: float = 0.1, iterations: int = 20, apply_to: str = "heads"):
        super().__init__(apply_to)
        check_temperature(self.term, temperature)
        check_numbers(
            self.term,
            epsilon=(epsilon, epsilon > 0, "a number above 0, such as 0.1"),
            iterations=(iterations, iterations >= 1, "1 or more, such as 20"),
        )
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations

    def per_head(self, z_s: Tensor, z_t: Tensor, target: Tensor) -> Tensor:
        p_s, p_t = (soft(z, self.temperature).exp().transpose(0, 1) for z in (z_s, z_t))  # [H, B, K], [1, B, K]
        cost = torch.cdist(p_s, p_t.expand_as(p_s), p=1)
        log_plan = -cost / self.epsilon
        for _ in range(self.iterations):
            log_plan = log_plan.log_softmax(dim=2)
            log_plan = log_plan.log_softmax(dim=1)
        return (log_plan.exp() * cost).sum(dim=(1, 2)) / cost.shape[1]
