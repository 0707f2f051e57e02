"""What a teacher is to training, losses and evaluation, and what all live ones share."""

from collections.abc import Collection
from typing import Protocol

from torch import Tensor, nn

from distill.models.feature_hooks import FeatureInfo, Layer
from distill.types import Batch, MixedBatch, Outputs


class Teacher(Protocol):
    """Answers batches of the view that was opened last: a network, an ensemble, a peer, or stored logits."""

    learns: bool  # beside the student, through the loss that trains it
    classes: tuple[str, ...]
    forward_images: int  # that went through a network in this process

    def __call__(self, batch: Batch | MixedBatch) -> Outputs: ...
    def open(self, split: str, view_id: int, table: Tensor, features: bool = True) -> None: ...
    def reserve(self, views: Collection[int]) -> None: ...
    def input_size(self) -> int: ...
    def inspect_layers(self) -> FeatureInfo: ...
    def attach_hooks(self, layers: list[Layer]) -> None: ...
    def live_teacher(self) -> "LiveTeacher": ...


class LiveTeacher(nn.Module):
    """A teacher that renders whatever batch it is given and asks its network."""

    learns = False

    def open(self, split: str, view_id: int, table: Tensor, features: bool = True) -> None:
        """Make a view the one that is answered; there is nothing to prepare."""

    def reserve(self, views: Collection[int]) -> None:
        """Make sure that there is room for training views; nothing of them is stored."""

    def live_teacher(self) -> "LiveTeacher":
        """Return the teacher whose network can be looked into."""
        return self
