"""Correlation congruence: how similar any two pictures of a batch are."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.feature_loss import Names, RelationalLoss, channels
from distill.losses.base.logit_loss import check_numbers
from distill.losses.base.objective import check_choices
from distill.types import Outputs


class CorrelationCongruence(RelationalLoss):
    """Mean squared difference between the student's and the teacher's matrix of similarities within a batch.

    With e embeddings of length 1, the student's after a learned linear map to the teacher's width:
    taylor: C_ij = exp(-2 gamma) sum_{p=0..2} (2 gamma)^p / p! (e_i . e_j)^p, the Gaussian kernel exp(-gamma |e_i - e_j|^2)
    to second order; loss = 1 / B^2 sum_ij (C_s,ij - C_t,ij)^2.
    difference: with D_i = |e_s,i - e_t,i| in every channel c, loss = mean over i < B of sum_c D_ic D_(i+1)c; neighbors are
    those of the batch's order, so shuffling changes its value, and a batch of one picture gives 0.

    Three losses share this name: the paper's is taylor, the one that its authors released is difference, and another
    toolkit takes the root of taylor's sum.

    Args:
        student, teacher: layers, see FeatureLoss; without names the embeddings.
        form: taylor or difference.
        gamma: inverse squared width of the kernel, above 0; of taylor alone.

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C] -> a scalar, by way of [B, B].

    Raises:
        ValueError: a layer that does not exist, a form that does not, or a gamma that is not above 0.

    Reference: Peng et al., Correlation Congruence for Knowledge Distillation, arXiv 1904.01802, section 3 (the Gaussian
    kernel's Taylor expansion). Deviations: the linear map is the student's alone, so that the teacher's matrix stays what it
    is; the released code, form difference, maps both to 128 channels.
    """

    term = "cc"

    def __init__(self, student: Names = None, teacher: Names = None, form: str = "taylor", gamma: float = 0.4):
        super().__init__(student, teacher)
        check_choices(self.term, form=(form, ("taylor", "difference")))
        check_numbers(self.term, gamma=(gamma, gamma > 0, "a number above 0, such as 0.4"))
        self.form, self.gamma = form, gamma

    def make(self) -> None:
        self.regressors = nn.ModuleList(nn.Linear(channels(s.shape), channels(t.shape)) for s, t in self.pairs)

    def vectors(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(self.regressors, super().vectors(student, teacher), strict=True)
        return [(F.normalize(r(s), dim=1), F.normalize(t, dim=1)) for r, (s, t) in pairs]

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.form == "taylor":
            return (self.kernel(student) - self.kernel(teacher)).square().mean()
        difference = (student - teacher).abs()
        return (difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)

    def kernel(self, e: Tensor) -> Tensor:
        """Return C of embeddings of length 1, [B, C] -> [B, B]."""
        z = 2 * self.gamma * (e @ e.T)
        return math.exp(-2 * self.gamma) * (1 + z + z.square() / 2)
