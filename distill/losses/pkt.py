"""Probabilistic knowledge transfer: who is near whom in a batch, as probabilities."""

from torch import Tensor

from distill.losses.base.feature_loss import Names, RelationalLoss
from distill.losses.base.objective import check_choices

EPS = 1e-7


class ProbabilisticTransfer(RelationalLoss):
    """Divergence of the student's from the teacher's probabilities that one picture's neighbor is another.

    With cos_ij of the embeddings i and j, k_ij = (1 + cos_ij) / 2 and p_ij = k_ij / sum_j k_ij, j = i included:
    paper: loss = sum_ij p_t,ij log((p_t,ij + eps) / (p_s,ij + eps)); code: its mean over the B^2 pairs, 1 / B^2 of it.
    eps = 1e-7, also added to the norms. A batch of one picture has no neighbors: 0.

    Args:
        student, teacher: layers, see FeatureLoss; without names the embeddings, whose widths may differ.
        form: paper or code.

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C] -> a scalar, by way of [B, B].

    Raises:
        ValueError: a layer that does not exist, or a form that does not.

    Reference: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, arXiv 1803.10837,
    section 3, cosine kernel. Deviations: none of form code from the authors' code; the paper's sum leaves out j = i.
    """

    term = "pkt"

    def __init__(self, student: Names = None, teacher: Names = None, form: str = "paper"):
        super().__init__(student, teacher)
        check_choices(self.term, form=(form, ("paper", "code")))
        self.form = form

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        p_s, p_t = neighbors(student), neighbors(teacher)
        values = p_t * ((p_t + EPS) / (p_s + EPS)).log()
        return values.sum() if self.form == "paper" else values.mean()


def neighbors(e: Tensor) -> Tensor:
    """Return for each of the embeddings [B, C] a distribution over all of them, itself included: [B, B]."""
    e = e / (e.norm(dim=1, keepdim=True) + EPS)
    similarity = (e @ e.T + 1) / 2
    return similarity / similarity.sum(dim=1, keepdim=True)
