"""A network as a teacher: it renders batches as the network wants them, and answers; the frozen one is always in eval mode."""

import torch
from torch import nn

from distill.augment.views import render_batch
from distill.models.feature_hooks import FeatureInfo, Layer, attach_hooks, inspect_layers
from distill.models.teacher import LiveTeacher
from distill.system.hardware import autocast
from distill.types import Batch, MixedBatch, Outputs


class NetworkTeacher(LiveTeacher):
    """Answers Batch -> Outputs from one network, with gradients while it learns.

    Args:
        network: images -> Outputs, with an input: InputSpec.
        name: for people.
        classes: class order of its logits.
        precision: dtype of its forward pass.
    """

    def __init__(self, network: nn.Module, name: str, classes: tuple[str, ...], precision: torch.dtype):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.name, self.classes, self.precision = name, tuple(classes), precision
        self.forward_images, self.learning = 0, False

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


class FrozenTeacher(NetworkTeacher):
    """A network that nothing can train; it answers about all the classes that it knows, or about some of them.

    Args:
        network, name, classes, precision: as of NetworkTeacher.
        known: class order of the network's logits, None for classes; softmax over some is that over all, renormalized.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        classes: tuple[str, ...],
        precision: torch.dtype,
        known: tuple[str, ...] | None = None,
    ):
        super().__init__(network.requires_grad_(False).eval(), name, classes, precision)
        self.columns = None if known in (None, classes) else [known.index(name) for name in classes]

    def forward(self, batch: Batch | MixedBatch) -> Outputs:
        answer = super().forward(batch)
        if self.columns is None:
            return answer
        return answer._replace(logits=answer.logits[:, self.columns], heads=answer.heads[..., self.columns])

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in eval mode whatever is asked: batch statistics and dropout would make soft targets of another network."""
        return super().train(False)
