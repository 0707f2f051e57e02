"""One network of several widths: a narrower one takes the first channels of every tensor of the widest."""

import random
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.func import functional_call

from distill.types import Outputs

NARROW = "narrow"  # attribute that holds the narrower networks, of which only the buffers are their own


class Sandwich:
    """Which widths learn in a step beside the widest: the first listed, the narrowest, and some of the others by turns of chance.

    The step's number alone decides, so that a run goes on with the widths that it would have had.

    Args:
        widths: those of the network, the one that it is about first.

    Reference: Yu and Huang, Universally Slimmable Networks, arXiv 1903.05134, section 3.2 (the sandwich rule).
    """

    def __init__(self, widths: Sequence[float]):
        self.always = tuple(dict.fromkeys(w for w in (widths[0], min(widths)) if w != max(widths)))
        self.others = tuple(w for w in widths if w not in (*self.always, max(widths)))
        self.step: int | None = None  # None: nobody learns from the narrower ones
        self.random = 1

    def drawn(self) -> tuple[float, ...]:
        """Return the widths of this step."""
        if self.step is None:
            return ()
        chance = random.Random(self.step).sample(self.others, min(self.random, len(self.others)))
        return (*self.always, *chance)


def make_elastic(network: nn.Module, widths: Sequence[float], make: Callable[[float], nn.Module]) -> None:
    """Let a network answer for narrower ones, too: in training in Outputs.features, of the widths that learn; else as the first.

    Weights are shared, BatchNorm's running statistics are each width's own.

    Args:
        network: of the widest width.
        widths: all of them, the one that the network is about first.
        make: width -> a plain network, whose tensors have the names of the network's and at most their sizes.

    Reference: Yu et al., Slimmable Neural Networks, arXiv 1812.08928, section 3 (shared weights, statistics of each width).
    """
    network.widths, network.make_width, network.sandwich = tuple(widths), make, Sandwich(widths)
    narrow = nn.ModuleDict({_key(width): _without_weights(make(width)) for width in widths if width != max(widths)})
    setattr(network, NARROW, narrow)
    network.register_forward_hook(_answer)


def feature(width: float) -> str:
    """Return under which name in Outputs.features the logits of a width are."""
    return f"width {width:g}"


def cut(network: nn.Module, width: float | None = None) -> nn.Module:
    """Return the plain network of one width, with tensors of its own; one that is not elastic as it is.

    Args:
        network: the network.
        width: one of its widths; None for the first.
    """
    if not hasattr(network, "widths"):
        return network
    width = network.widths[0] if width is None else width
    shared = network.state_dict()
    plain, inner = network.make_width(width), f"{NARROW}.{_key(width)}."
    wanted = plain.state_dict()
    plain.load_state_dict(
        {name: _first(shared.get(inner + name, shared[name]), tensor.shape) for name, tensor in wanted.items()}
    )
    return plain.to(next(network.parameters()).device).train(network.training)


def _key(width: float) -> str:
    return f"{width:g}".replace(".", "_")


def _first(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor[tuple(map(slice, shape))]


def _without_weights(network: nn.Module) -> nn.Module:
    """Take the parameters out of a network, which then has but their sizes."""
    network.sizes = {name: parameter.shape for name, parameter in network.named_parameters()}
    for module in network.modules():
        for name in module._parameters:
            module._parameters[name] = None
    return network


def _of_width(network: nn.Module, width: float, images: Tensor) -> Outputs:
    narrow = getattr(network, NARROW)[_key(width)]
    weights = {name: _first(network.get_parameter(name), shape) for name, shape in narrow.sizes.items()}
    return functional_call(narrow, weights, (images,))


def _answer(network: nn.Module, given: tuple[Tensor], output: Outputs) -> Outputs:
    """Add to the widest's training answer the logits of this step's widths; otherwise answer as the first width."""
    if network.training:
        learning = {feature(width): _of_width(network, width, *given).logits for width in network.sandwich.drawn()}
        return output._replace(features={**output.features, **learning})
    first = network.widths[0]
    return output if first == max(network.widths) else _of_width(network, first, *given)
