"""Where a network looks: which places of its last map raise the score of a class."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.feature_hooks import Layer, eval_mode, layout, survey

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

    Reference: Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2. Deviations: the map is moved to where its
    places look from (padding on two sides only moves them by up to half a place in every stage); where the last map does not
    reach the logits (a transformer that answers from its class token alone) the one before is taken, and so on.
    """
    found = survey(network)
    last = found.stages[-1:]
    others = [a for a in found.layers.values() if len(a.shape) == 3 and a.shape[1] > 1 and not a.name.endswith(":in")]
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
    return _moved(maps, offset(network, layer, images))[:, 0], logits.softmax(1).detach()


def offset(network: nn.Module, layer: Layer, images: Tensor, pictures: int = 4) -> tuple[float, float]:
    """Return how far below and to the right of the picture's middle the middle of a map looks from, in pixels.

    It is the centre of mass of the slopes of the map's middle by the pixels, in a copy of the network whose filters see their
    middle alone: what counts is where a place looks, not what was learnt there.
    """
    plain, kept = _without_preferences(network), []
    noise = torch.rand(pictures, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    noise = (noise / 1000).requires_grad_()  # so faint that nothing saturates
    plain.get_submodule(layer.name).register_forward_hook(lambda module, given, output: kept.append(output))
    with torch.enable_grad():
        plain(noise)
        places = layout(plain)(kept[-1])[:pictures]
        middle = (slice((side - 1) // 2, side // 2 + 1) for side in places.shape[-2:])
        (slope,) = torch.autograd.grad(places[..., *middle].sum(), noise)
    mass = slope.abs().sum((0, 1))
    found = []
    for side, count, weight in zip(mass.shape, places.shape[-2:], (mass.sum(1), mass.sum(0)), strict=True):
        centre = (weight * (torch.arange(side) + 0.5)).sum() / weight.sum().clamp_min(1e-30)
        reach = side / count / 2  # more than half a place is no matter of padding
        found.append(float((centre - side / 2).clamp(-reach, reach)) if weight.sum() > 0 else 0.0)
    return found[0], found[1]


def _without_preferences(network: nn.Module) -> nn.Module:
    """Return a copy in which every filter sees its own middle alone and every normalisation leaves that as it is."""
    plain = copy.deepcopy(network).eval()
    with torch.no_grad():
        for name, values in [*plain.named_parameters(), *plain.named_buffers()]:
            if name.endswith(("bias", "running_mean")):
                values.zero_()
            elif values.ndim == 4:
                middle = (slice((side - 1) // 2, side // 2 + 1) for side in values.shape[2:])
                values.zero_()[..., *middle] = 1 / values.shape[1]
            elif values.is_floating_point() and values.ndim:
                values.fill_(1 / values.shape[1] if values.ndim == 2 else 1.0)
    return plain


def _moved(maps: Tensor, by: tuple[float, float]) -> Tensor:
    """Return maps moved down and to the right by so many pixels; what comes in repeats the border."""
    height, width = maps.shape[-2:]
    theta = maps.new_tensor([[1, 0, -2 * by[1] / width], [0, 1, -2 * by[0] / height]]).expand(len(maps), 2, 3)
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
