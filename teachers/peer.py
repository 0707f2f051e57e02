"""A second student that learns beside the first: the teacher of mutual learning."""

import torch
from torch import Tensor, nn

from distill.augment.views import render_batch
from distill.models.feature_hooks import FeatureInfo, Layer, attach_hooks, inspect_layers
from distill.models.teacher import LiveTeacher
from distill.system.hardware import autocast
from distill.types import Batch, MixedBatch, Outputs


def is_peer(teacher: dict) -> bool:
    """Say whether a teacher's config is that of a second student that learns beside the first."""
    return teacher["_target_"] == "teachers.peer.Peer"


class Peer(LiveTeacher):
    """Answers training batches as a student does, with gradients and in train mode; other splits in eval mode without.

    Its parameters reach the optimizer and the checkpoints through the loss that trains it (distill.losses.dml).

    Args:
        network: images -> Outputs, with an input: InputSpec.
        name: for people.
        classes: class order of its logits.
        precision: dtype of its forward pass, the student's.

    Reference: Zhang et al., Deep Mutual Learning, arXiv 1706.00384.
    """

    learns = True

    def __init__(self, network: nn.Module, name: str, classes: tuple[str, ...], precision: torch.dtype):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.name, self.classes, self.precision = name, tuple(classes), precision
        self.forward_images, self.learning = 0, False

    def open(self, split: str, view_id: int, table: Tensor, features: bool = True) -> None:
        """Learn from the train split, only answer about others."""
        self.learning = split == "train"
        self.network.train(self.learning)

    def input_size(self) -> int:
        return self.network.input.size

    def inspect_layers(self) -> FeatureInfo:
        """Return the layers that a loss can ask for."""
        return inspect_layers(self.network)

    def attach_hooks(self, layers: list[Layer]) -> None:
        """Answer these layers' outputs, too, from now on."""
        attach_hooks(self.network, layers)

    def forward(self, batch: Batch | MixedBatch) -> Outputs:
        images = render_batch(batch, self.network.input)
        self.forward_images += len(images)
        with torch.set_grad_enabled(self.learning), autocast(images.device, self.precision):
            answer = self.network(images)
        return Outputs(answer.logits.float(), answer.heads.float(), answer.features)
