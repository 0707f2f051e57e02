"""What losses on the relations within a batch share."""

from abc import ABC, abstractmethod

from torch import Tensor

from distill.losses.base.feature_loss import FeatureLoss, in_float32
from distill.types import Outputs


def channels(shape: tuple[int, ...]) -> int:
    """Return the width of the vector that a layer of this shape is averaged to, see feature.vector."""
    return shape[0] if len(shape) == 3 else shape[-1]


class RelationalLoss(FeatureLoss, ABC):
    """A loss on how the pictures of a batch lie to each other; a child compares one pair of embeddings in relation().

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C], averaged over their positions -> a scalar, the mean over pairs.
    """

    pairing = "embedding"

    @in_float32
    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        values = [self.relation(s, t) for s, t in self.vectors(student, teacher)]
        return sum(values) / len(values)

    @abstractmethod
    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return a scalar from the student's [B, C] and the teacher's [B, C']."""
