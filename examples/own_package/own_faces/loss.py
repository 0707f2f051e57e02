"""A loss on logits: the angle between what student and teacher predict."""

from torch import Tensor, nn

from distill.losses.base.objective import Loss
from distill.types import Outputs


class Cosine(Loss):
    """One minus the cosine between the centered logits of student and teacher.

    loss[b] = 1 - <z_s - mean z_s, z_t - mean z_t> / (|z_s - mean z_s| |z_t - mean z_t|).

    Args:
        center: subtract the mean over classes first, so that a constant added to all logits changes nothing.

    Shape:
        logits [B, K] of both -> [B].
    """

    needs_teacher = True

    def __init__(self, center: bool):
        super().__init__()
        self.center = center

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        pair = [outputs.logits.float() for outputs in (student, teacher)]
        if self.center:
            pair = [logits - logits.mean(1, keepdim=True) for logits in pair]
        return 1 - nn.functional.cosine_similarity(*pair, dim=1)
