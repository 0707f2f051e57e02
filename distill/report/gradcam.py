"""Where a network looks: which places of its last map raise the score of a class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.feature_hooks import Layer, eval_mode, inspect_layers, layout

TRIED = 12  # maps, from the last one backwards, until the class's score depends on one


def grad_cam(network: nn.Module, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor, Layer]:
    """Return for each picture the places of the last map that speak for a class.

    map = relu(sum_c w_c A_c) / max, with w_c the mean over places of d logit_class / d A_c, A the last map of the last stage.

    Args:
        network: images -> Outputs, with an input: InputSpec; its modes are left as they were.
        images: rendered for it.
        classes: whose logit is looked at; none means each picture's own answer.

    Shape:
        images: [B, C, S, S]; classes: [B]; maps [B, S, S] in [0, 1], probabilities [B, K], and the map's layer, [C, H, W].

    Raises:
        ValueError: the network has no map that its logits depend on.

    Reference: Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2. Deviation: where the last map does not reach
    the logits (a transformer that answers from its class token alone) the one before is taken, and so on.
    """
    info = inspect_layers(network)
    last = info.stages[-1:]
    others = [a for a in info.layers.values() if len(a.shape) == 3 and a.shape[1] > 1 and not a.name.endswith(":in")]
    with eval_mode(network):
        for layer in [*last, *others[::-1][:TRIED]]:
            maps, probabilities = _maps(network, layer, images, classes)
            if maps is not None:
                return maps, probabilities, layer
    raise ValueError("it has no map that its answer depends on")


def _maps(network: nn.Module, layer: Layer, images: Tensor, classes: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Return the maps of one layer, or none where no logit depends on it."""
    kept: list[Tensor] = []

    def take(module: nn.Module, given: tuple, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # the network may go on to change it in place

    hook = network.get_submodule(layer.name).register_forward_hook(take)
    try:
        with torch.enable_grad():
            logits = network(images).logits
            classes = logits.argmax(1) if classes is None else classes
            score = logits[torch.arange(len(logits)), classes].sum()
            (slope,) = torch.autograd.grad(score, kept[-1], allow_unused=True)
    finally:
        hook.remove()
    if slope is None or not slope.any():
        return None, logits.softmax(1).detach()
    arrange = layout(network)
    values, slope = (arrange(tensor)[: len(images)] for tensor in (kept[-1].detach(), slope))
    maps = (slope.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).relu()
    maps = maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-12)
    maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
    return maps[:, 0], logits.softmax(1).detach()
