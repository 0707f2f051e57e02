"""A network's feature maps by name, taken with forward hooks: no network is edited, and there is no cost while no hook is attached."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.types import InputSpec, Outputs


class Layer(NamedTuple):
    """A place in a network whose output can be taken."""

    name: str  # a module's dotted name; with :in after it, that module's input
    shape: tuple[int, ...]  # of the output without the batch: [C, H, W], [C], or [N, C]
    overwritten: bool  # True if the network goes on to change the tensor in place, so that it must be copied


class FeatureInfo(NamedTuple):
    """The layers of a network whose outputs can be taken."""

    layers: dict[str, Layer]  # every module that is called once and answers a tensor of a row per picture, by name
    stages: tuple[Layer, ...]  # the last map of each resolution, fine to coarse, [C, S, S] each
    embedding: Layer  # what the classifier sees, or the last vector

    def find(self, layer_name: str, key: str) -> Layer:
        """Return a layer by stageN, embedding, a module's name (a timm network's without its net.), or the end of one name.

        Raises:
            ValueError: no such layer, with what exists.
        """
        if layer_name == "embedding":
            return self.embedding
        named = {f"stage{n}": layer for n, layer in enumerate(self.stages, 1)} | self.layers
        layer_name = f"net.{layer_name}" if f"net.{layer_name}" in named else layer_name
        ends = [name for name in self.layers if name.endswith(f".{layer_name}")]
        if layer_name not in named and len(ends) > 1:
            raise ValueError(f"{key}: {layer_name!r} is the end of {len(ends)} names. Type one of {', '.join(ends)}.")
        if layer_name not in named and not ends:
            known = [f"stage{n} ({layer.name})" for n, layer in enumerate(self.stages, 1)]
            close = get_close_matches(layer_name, self.layers, n=3, cutoff=0.6)
            raise ValueError(
                f"{key}: there is no layer {layer_name!r}. Choose {', '.join([*known, f'embedding ({self.embedding.name})'])}"
                f"{', or one like ' + ', '.join(close) if close else ''}; any of the {len(self.layers)} modules can be named."
            )
        return named[layer_name if layer_name in named else ends[0]]


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode for the length of a with block, and every module back into its own afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def inspect_layers(network: nn.Module) -> FeatureInfo:
    """Run a network on two random pictures, then on the same in the other order, in eval mode; return what can be taken.

    What does not change places with the pictures has no row for each of them (windows of an attention, position
    embeddings) and is not offered.

    Args:
        network: images -> Outputs, with an input: InputSpec; its modes are left as they were.

    Raises:
        ValueError: a network in which no module answers a vector or a map of a picture.
    """
    parameter, spec = next(network.parameters()), cast(InputSpec, network.input)
    images = torch.rand(2, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    with eval_mode(network):
        logits, seen = _watch(network, images.to(parameter))
        _, swapped = _watch(network, images.flip(0).to(parameter))
    calls = Counter(name for name, *_ in seen)
    again = {name: rows for name, _, rows, *_ in swapped}
    arrange = layout(network)
    layers, linears = {}, []
    for name, tensor, rows, version, module in seen:
        if calls[name] == 1 and len(rows) == 2 and torch.allclose(rows, again[name].flip(0), rtol=1e-2, atol=1e-4):
            layers[name] = Layer(name, tuple(arrange(tensor).shape[1:]), tensor._version != version)
            if isinstance(module, nn.Linear) and not name.endswith(":in"):
                linears.append(name)
    outputs = [layer for name, layer in layers.items() if not name.endswith(":in")]
    by_side: dict[int, Layer] = {}  # the outermost, and of those the last, map of each; stages.0 is as far out as stem
    for layer in outputs:
        if len(layer.shape) == 3 and layer.shape[1] == layer.shape[2] > 1:
            other = by_side.get(layer.shape[1])
            if other is None or _depth(layer.name) <= _depth(other.name):
                by_side[layer.shape[1]] = layer
    stages = tuple(by_side[side] for side in sorted(by_side, reverse=True))
    classifier = linears[-1] if linears and layers[linears[-1]].shape[-1] == logits.shape[-1] else None
    inner = [layer for layer in outputs if len(layer.shape) == 1 and layer.shape[0] != logits.shape[-1]]
    if not (classifier or inner or stages):
        raise ValueError(
            f"{type(network).__name__}: no module of this network answers a vector or a map of a picture, so there is nothing "
            "inside to compare. Choose losses on logits, such as loss=[ce,kd]."
        )
    embedding = layers[f"{classifier}:in"] if classifier else (inner or stages)[-1]
    return FeatureInfo(layers, stages, embedding)


def _watch(network: nn.Module, images: Tensor) -> tuple[Tensor, list[tuple]]:
    """Return the logits, and (name, tensor, start of its first two rows, version, module) of all that modules take and answer."""
    seen, hooks = [], []

    def note(name: str, module: nn.Module, given: tuple, *output) -> None:
        tensor = output[0] if output else given[0] if given else None
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.ndim > 1:
            rows = tensor[:2].flatten(1)[:, :256].float().clone()
            seen.append((name, tensor, rows, tensor._version, module))

    for name, module in network.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(partial(note, f"{name}:in")))
            hooks.append(module.register_forward_hook(partial(note, name)))
    try:
        return network(images).logits, seen
    finally:
        for hook in hooks:
            hook.remove()


def _depth(name: str) -> int:
    return sum(not part.isdigit() for part in name.split("."))


def layout(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what turns a network's maps into [B, C, H, W]: timm's transformers answer tokens or channels last."""
    net = getattr(network, "net", network)
    if getattr(net, "output_fmt", "NCHW") == "NHWC":
        return _channels_first
    if hasattr(net, "num_prefix_tokens") or hasattr(net, "patch_embed"):
        return partial(_tokens_as_maps, prefix=getattr(net, "num_prefix_tokens", 0))
    return lambda x: x


def _channels_first(x: Tensor) -> Tensor:
    """[B, S, S, C] -> [B, C, S, S]; what a convolution inside answers is [B, C, S, S] already."""
    return x.permute(0, 3, 1, 2) if x.ndim == 4 and x.shape[1] == x.shape[2] else x


def _tokens_as_maps(x: Tensor, prefix: int) -> Tensor:
    """[B, prefix + S * S, C] -> [B, C, S, S], also where the prefix is not there yet; all else stays."""
    for skipped in (prefix, 0) if x.ndim == 3 else ():
        side = math.isqrt(max(x.shape[1] - skipped, 0))
        if side > 0 and side * side == x.shape[1] - skipped:
            return x[:, skipped:].transpose(1, 2).unflatten(2, (side, side))
    return x


class FeatureHook:
    """The hook on one module; an object, so that a copy of the network keeps its maps apart from the original's."""

    def __init__(self, features: dict[str, Tensor], layer: Layer):
        self.features, self.layer = features, layer

    def __call__(self, module: nn.Module, given: tuple, *output: Tensor) -> None:
        tensor = output[0] if output else given[0]
        self.features[self.layer.name] = tensor.clone() if self.layer.overwritten else tensor


class FeatureHooks:
    """The hooks of one network: the asked layers' outputs come out in Outputs.features.

    A network that looks at several copies of a picture (CERN: its mirror image) answers several rows for each; the first
    B rows are the pictures themselves.
    """

    def __init__(self, network: nn.Module):
        self.layers: dict[str, Layer] = {}
        self.features: dict[str, Tensor] = {}
        self.hooks = [network.register_forward_pre_hook(self._forget), network.register_forward_hook(self._hand_over)]
        self.arrange = layout(network)

    def add(self, network: nn.Module, layer: Layer) -> None:
        if layer.name in self.layers:
            return
        self.layers[layer.name] = layer
        module, keep = network.get_submodule(layer.name.removesuffix(":in")), FeatureHook(self.features, layer)
        given = layer.name.endswith(":in")
        self.hooks.append(module.register_forward_pre_hook(keep) if given else module.register_forward_hook(keep))

    def _forget(self, module, arguments) -> None:
        self.features.clear()  # what a pass that raised has left

    def _hand_over(self, module, arguments, output: Outputs) -> Outputs:
        rows = len(output.logits)
        features = {name: self.arrange(tensor)[:rows] for name, tensor in self.features.items()}
        self.features.clear()
        return output._replace(features={**output.features, **features})

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


def attach_hooks(network: nn.Module, layers: Iterable[Layer]) -> None:
    """Attach hooks that put these layers' outputs into Outputs.features; a layer that is hooked already is left."""
    hooks = network.__dict__.get("_feature_hooks")
    if hooks is None:
        hooks = network.__dict__["_feature_hooks"] = FeatureHooks(network)
    for layer in layers:
        hooks.add(network, layer)


def detach_hooks(network: nn.Module) -> None:
    """Remove every hook."""
    if hooks := network.__dict__.pop("_feature_hooks", None):
        hooks.remove()
