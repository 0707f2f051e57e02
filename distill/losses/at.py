"""Attention transfer: the student's attention maps should match the teacher's."""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base.feature_loss import FeatureLoss, Names, pooled
from distill.losses.base.logit_loss import check_numbers
from distill.losses.base.objective import check_choices
from distill.types import Outputs


class AttentionTransfer(FeatureLoss):
    """Distance between the attention maps of student and teacher, channels averaged away.

    With Q(F)[b, h, w] = mean over c of |F[b, c, h, w]|^p, u = Q_s / |Q_s|_2 and v = Q_t / |Q_t|_2 over h, w:
    code:  loss[b] = sum over pairs of mean over h, w of (u - v)^2
    paper: loss[b] = sum over pairs of 1/2 |u - v|_2

    Both maps are averaged over areas to the smaller size first. A map of zeros has u = 0 and gets no gradient.

    Args:
        student, teacher: layers, see FeatureLoss; without names every stage.
        form: code, as the authors released it, or paper.
        p: power of the activations, at least 1.

    Shape:
        features [B, C, H, W] -> [B]; the numbers of channels may differ. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist or is no map, or a choice that does not exist.

    Reference: Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv 1612.03928, equation 2.
    Deviations: form code is the released code's squared distance instead of the paper's norm; the mean over channels
    instead of the sum, which the normalization cancels.
    """

    term = "at"
    pairing = "stages"
    compares_maps = True

    def __init__(self, student: Names = None, teacher: Names = None, form: str = "code", p: float = 2.0):
        super().__init__(student, teacher)
        check_choices(self.term, form=(form, ("code", "paper")))
        check_numbers(self.term, p=(p, p >= 1, "1 or more, such as 2"))
        self.form, self.p = form, p

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        pairs = [pooled(s, t) for s, t in self.maps(student, teacher)]
        differences = [self._attention(s) - self._attention(t) for s, t in pairs]
        return sum(d.square().mean(1) if self.form == "code" else d.norm(dim=1) / 2 for d in differences)

    def _attention(self, x: Tensor) -> Tensor:
        return F.normalize(x.abs().pow(self.p).mean(1).flatten(1), eps=1e-8)
