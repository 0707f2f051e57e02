"""Networks that end in global average pooling and one linear classifier, which some losses need."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from distill.models.feature_hooks import FeatureHooks, Layer, eval_mode, inspect_layers
from distill.types import InputSpec


class Pooled(NamedTuple):
    """The end of such a network."""

    layer: Layer  # the map [C, S, S] whose average over positions is what the classifier sees
    classifier: nn.Linear  # C -> K


def pooled_classifier(network: nn.Module, who: str, instead: str) -> Pooled:
    """Find the last map and the classifier of a network, and make sure by trying it that only an average lies between.

    Args:
        network: images -> Outputs, with an input: InputSpec; its modes are left as they were.
        who: loss and role, for the error message.
        instead: what to type, for the error message.

    Raises:
        ValueError: the network ends otherwise.
    """
    info = inspect_layers(network)
    name = info.embedding.name
    classifier = network.get_submodule(name.removesuffix(":in"))
    if name.endswith(":in") and isinstance(classifier, nn.Linear):
        maps = [x for x in info.layers.values() if len(x.shape) == 3 and x.shape[0] == classifier.in_features]
        maps = [x for x in maps if x.shape[1] > 1]  # whether a single place was averaged cannot be seen
        features = _try(network, [info.embedding, *maps])
        means = {x: features[x.name].mean(dim=(2, 3)) for x in maps if features[name].ndim == 2}
        fitting = [x for x, mean in means.items() if torch.allclose(mean, features[name], rtol=1e-3, atol=1e-5)]
        if fitting:
            outputs = [layer for layer in fitting if not layer.name.endswith(":in")]
            return Pooled((outputs or fitting)[-1], classifier)
    raise ValueError(
        f"{who} does not end in global average pooling, of a map of more than one position, and one linear classifier. {instead}"
    )


@torch.no_grad()
def _try(network: nn.Module, layers: list[Layer]) -> dict[str, Tensor]:
    """Return the layers' outputs for a random picture in eval mode."""
    parameter, spec = next(network.parameters()), cast(InputSpec, network.input)
    picture = torch.rand(1, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    hooks = FeatureHooks(network)
    try:
        for layer in layers:
            hooks.add(network, layer)
        with eval_mode(network):
            return network(picture.to(parameter)).features
    finally:
        hooks.remove()
