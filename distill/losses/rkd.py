"""Relational distillation: distances and angles between the pictures of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base.feature_loss import Names, RelationalLoss
from distill.losses.base.logit_loss import check_numbers


class RelationalDistillation(RelationalLoss):
    """Huber distance between student and teacher of the distances and angles that the embeddings of a batch form.

    With e the embeddings, d_ij = |e_i - e_j| / mu, mu = the mean of the batch's distances above 0, and
    a_ijk = cos of the angle at i between e_j and e_k:
    loss = distance * mean_ij huber(d_s,ij - d_t,ij) + angle * mean_ijk huber(a_s,ijk - a_t,ijk), huber(x) = x^2 / 2 for
    |x| <= 1, else |x| - 1/2. A batch of one picture has no relations: 0.

    Args:
        student, teacher: layers, see FeatureLoss; without names the embeddings, whose widths may differ.
        distance: weight of the distances.
        angle: weight of the angles.
        most: pictures that form angles, at least 3: of a larger batch every (B / most)-th in its order, as angles take B^3
            numbers. Up to that size the order of the batch does not matter.

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C] -> a scalar, by way of [B, B] and [n, n, n], n = min(B, most).

    Raises:
        ValueError: a layer that does not exist, or a number out of range.

    Reference: Park et al., Relational Knowledge Distillation, arXiv 1904.05068, sections 3.2.1 (distance-wise) and 3.2.2
    (angle-wise). Deviations: at most `most` pictures form angles; equal embeddings are at distance 0 with gradient 0, where
    the authors' code has the square root of 1e-12.
    """

    term = "rkd"

    def __init__(
        self, student: Names = None, teacher: Names = None, distance: float = 1.0, angle: float = 2.0, most: int = 64
    ):
        super().__init__(student, teacher)
        check_numbers(
            self.term,
            distance=(distance, distance >= 0, "0 or more, such as 1"),
            angle=(angle, angle >= 0, "0 or more, such as 2"),
            most=(most, most >= 3, "3 pictures or more, such as 64"),
        )
        self.distance, self.angle, self.most = distance, angle, most

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        value = self.distance * F.smooth_l1_loss(distances(student), distances(teacher))
        n = min(len(student), self.most)
        chosen = torch.arange(n, device=student.device) * len(student) // n
        return value + self.angle * F.smooth_l1_loss(cosines(student[chosen]), cosines(teacher[chosen]))


def distances(e: Tensor) -> Tensor:
    """Return the distances of embeddings [B, C] in units of their mean: [B, B]; the gradient of a distance of 0 is 0."""
    d = torch.cdist(e, e, compute_mode="donot_use_mm_for_euclid_dist")  # by products, small distances would be noise
    mean = d.sum() / (d > 0).sum().clamp(min=1)
    return d / mean.clamp(min=1e-12)


def cosines(e: Tensor) -> Tensor:
    """Return cos of the angle at i between e_j and e_k for embeddings [B, C]: [B, B, B]; 0 where two of them are equal.

    Shorter than a millionth of the mean, a difference has no direction, only a gradient without bound: it counts as 0.
    """
    differences = e[None] - e[:, None]
    length = differences.detach().norm(dim=2, keepdim=True)
    toward = F.normalize(differences.masked_fill(length <= 1e-6 * length.mean(), 0), dim=2)
    return toward @ toward.transpose(1, 2)
