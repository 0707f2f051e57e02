"""A student's second end: a projector and a teacher's classifier, attached from outside and saved with the student."""

import json
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.feature_hooks import Layer, layout
from distill.types import Outputs

NAME = "reused_head"
ATTACHED, CLASSIFIER = f"{NAME}.", f"{NAME}.classifier."  # beginnings of its tensors' names


class ReusedHead(nn.Module):
    """Project a student's last map and classify it with a teacher's frozen classifier.

    Which layer it reads, and at which size, lies beside its weights in the buffer `place`, so that a weight file is enough to
    rebuild it.

    Args:
        channels: of the student's map.
        hidden: channels inside the projector.
        features: channels of the teacher's last map, which the projector answers with.
        num_classes: K.
        bias: whether the classifier has one.
        place: {"layer": name in the student, "side": to which a larger map is pooled first}.

    Shape:
        map [B, channels, S, S] -> logits [B, K].
    """

    def __init__(self, channels: int, hidden: int, features: int, num_classes: int, bias: bool, place: dict):
        super().__init__()
        sizes = ((channels, hidden, 1), (hidden, hidden, 3), (hidden, features, 1))
        parts = [
            (nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, kernel in sizes
        ]
        self.projector = nn.Sequential(*(layer for part in parts for layer in part))
        self.classifier = nn.Linear(features, num_classes, bias=bias).requires_grad_(False)
        self.register_buffer("place", torch.tensor(list(json.dumps(place).encode()), dtype=torch.uint8))
        self.layer, self.side = place["layer"], place["side"]
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, self.side) if x.shape[2] > self.side else x
        return self.classifier(self.projector(x).mean(dim=(2, 3)))

    def keep(self, module: nn.Module, arguments: tuple, output: Tensor) -> None:
        """Remember the last map: a hook of the student's layer."""
        x = arguments[0] if self.layer.endswith(":in") else output
        self.seen.append(x.clone())  # the network may go on to change it in place

    def answer(self, student: nn.Module, arguments: tuple, output: Outputs) -> Outputs:
        """Replace the student's logits by this head's: a hook of the student."""
        x = layout(student)(self.seen.pop())[: output.logits.shape[0]]
        logits = self(x)
        return output._replace(logits=logits, heads=logits[:, None])


def attach_reused_head(student: nn.Module, layer: Layer, side: int, classifier: nn.Linear, factor: int = 2) -> None:
    """Make a projector and a copy of a teacher's classifier part of a student, and its answer.

    Args:
        student: images -> Outputs; changed in place.
        layer: its last map [C, S, S].
        side: to which a larger map is pooled first.
        classifier: the teacher's.
        factor: the projector has 1 / factor of the teacher's channels inside.
    """
    features, num_classes = classifier.in_features, classifier.out_features
    hidden, bias = max(features // factor, 1), classifier.bias is not None
    place = {"layer": layer.name, "side": side}
    head = ReusedHead(layer.shape[0], hidden, features, num_classes, bias, place)
    head.classifier.load_state_dict(classifier.state_dict())
    _attach(student, head)


def attach_from_state(student: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a plain student the reused head that weights come with, of their shapes; load them afterwards.

    Args:
        student: images -> Outputs; changed in place, unless the weights have no such head or it has one already.
        state: a state dict or the tensors of a weight file.
    """
    tensors = {name.removeprefix(f"{NAME}."): tensor for name, tensor in state.items() if name.startswith(f"{NAME}.")}
    if not tensors or hasattr(student, NAME):
        return
    hidden, channels = tensors["projector.0.weight"].shape[:2]
    num_classes, features = tensors["classifier.weight"].shape
    place = json.loads(bytes(tensors["place"].tolist()))
    _attach(student, ReusedHead(channels, hidden, features, num_classes, "classifier.bias" in tensors, place))


def _attach(student: nn.Module, head: ReusedHead) -> None:
    like = next(student.parameters())
    setattr(student, NAME, head.to(like.device).to(memory_format=torch.channels_last).train(student.training))
    student.get_submodule(head.layer.removesuffix(":in")).register_forward_hook(head.keep)
    student.register_forward_hook(head.answer, prepend=True)  # before what hands over the maps that losses ask for
