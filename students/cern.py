"""CERN, a compact facial expression recognition network of one global and four local heads."""

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.system.errors import expect
from distill.types import InputSpec, Outputs
from students.layers import MaxAvgPool, MaxFeatureMap, choose, scaled

POOLINGS = ("max_avg", "max", "avg", "none")
VARIANTS = ("full", "eca_in_front", "no_global", "no_regions", "no_mirror", "base_only")
HEADS = {"no_global": range(4), "no_regions": (4,), "base_only": (4,)}  # of 4 quadrants and the whole; else all five


class Residual(nn.Module):
    """y = MFM(MFM(x)) + x: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = MaxFeatureMap(channels, channels, 3)
        self.conv2 = MaxFeatureMap(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


class Group(nn.Module):
    """A 1 x 1 and a 3 x 3 max-feature-map layer: [B, C, H, W] -> [B, C', H/stride, W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv_a = MaxFeatureMap(in_channels, in_channels, 1)
        self.conv = MaxFeatureMap(in_channels, out_channels, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv_a(x))


class Trunk(nn.Module):
    """The first layers of LightCNN-29 v2: [B, 1, S, S] -> [B, channels[2], S/8, S/8]."""

    def __init__(self, channels: Sequence[int], pooling: str):
        super().__init__()
        a, b, c = channels
        stride = 2 if pooling == "none" else 1
        self.conv1 = MaxFeatureMap(1, a, 5, stride)
        self.block1 = nn.Sequential(Residual(a))
        self.group1 = Group(a, b, stride)
        self.block2 = nn.Sequential(Residual(b), Residual(b))
        self.group2 = Group(b, c, stride)
        pools = {"max_avg": MaxAvgPool(), "max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2), "none": nn.Identity()}
        self.pool = pools[pooling]

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # zero-sum filters take small differences of the picture
            x = self.conv1(x.float())
        x = self.block1(self.pool(x))
        x = self.block2(self.pool(self.group1(x)))
        return self.pool(self.group2(x))


class ChannelAttention(nn.Module):
    """Factors of the channels, sigmoid(conv1d(pooled)): [B, C] -> [B, C] in (0, 1).

    Reference: Wang et al., ECA-Net, arXiv 1910.03151. The scaled map is only ever averaged over its pixels here, and
    mean(scale * map) = scale * mean(map), so the averages alone are scaled.
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.conv(pooled[:, None])[:, 0].sigmoid()


@torch.no_grad()
def zero_sum(layer: nn.Module) -> None:
    """Start a layer from normal weights of variance 1 / fan-in whose sum is 0 for each output, and no bias."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        weight = torch.randn_like(layer.weight).flatten(1)
        weight = (weight - weight.mean(1, keepdim=True)) / weight.shape[1] ** 0.5
        layer.weight.copy_(weight.view_as(layer.weight))
        assert layer.bias is not None
        layer.bias.zero_()


class Cern(nn.Module):
    """Classify a face from four quadrants and the whole, seen together with the mirrored face.

    The trunk sees image and mirror; head i averages its quadrant (or all) of both maps, scales channels by ECA, maps
    each to `features` numbers with ReLU, concatenates, normalizes to length 1 and classifies without bias:
    heads[:, i] = scale_i * W_i normalize([f_i(image) | f_i(mirror)]), logits = mean_i heads[:, i], scale_i = 30 for
    the quadrants (top left, top right, bottom left, bottom right) and global_scale for the whole.

    Args:
        num_classes: K.
        size: picture side in pixels, a multiple of 16 (published 128).
        width: multiplier of the 48/96/192 channels and 256 features, rounded to multiples of 8 (published 1).
        pooling: max_avg (published: the sum), max or avg after conv1, group1 and group2; none: no pooling, those three
            convolutions have stride 2 instead: same map sizes, same parameters, fewer MACs.
        mean, std: of the input, in units of pixels / 255 (published 0 and 1).
        variant: full, or one of the published ablations. eca_in_front: one ECA on the whole map in place of one per
            head; no_global: the quadrants' heads alone; no_regions: the global head alone; no_mirror: the image alone;
            base_only: W mean(map) of the image alone, no ECA, features, normalization or scale.
        global_scale: of the global head (published 1, so that it hardly counts in the mean; 30 repairs that).
        normalize_weights: bring the rows of each W_i to length 1 (published false, although the code sets out to).

    Shape:
        images: [B, 1, S, S] -> logits [B, K], heads [B, H, K], H = 4 for no_global, 1 for no_regions and base_only, else 5.

    Raises:
        ValueError: for a size, width, pooling, variant or global_scale that cannot be.

    Reference: CERN, Pattern Recognition Letters 155 (2022) 9-18. As in the authors' code, the global head is not
    scaled by 30, the mirrored map is cut with the same quadrant index, and classifier weights are not normalized.
    Deviation: without weights of LightCNN's to start from, filters and region_net rows are drawn with zero sum. All maps
    are positive on average; what all faces have in common would make their normalized embeddings nearly equal (cosine 0.96
    with PyTorch's default start, 0.57 with this one), and hundreds of steps would go by before anything is learned.
    """

    def __init__(
        self,
        num_classes: int,
        size: int,
        width: float,
        pooling: str,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        variant: str,
        global_scale: float,
        normalize_weights: bool,
    ):
        super().__init__()
        choose("pooling", pooling, POOLINGS)
        self.variant = choose("variant", variant, VARIANTS)
        check_numbers(size, width, variant, global_scale)
        self.input = InputSpec(size, 1, mean, std)
        self.normalize_weights, bare = normalize_weights, variant == "base_only"
        self.mirror = not bare and variant != "no_mirror"
        scales = (30.0, 30.0, 30.0, 30.0, float(global_scale))
        self.scales = {i: scales[i] for i in HEADS.get(variant, range(5))}
        *channels, features = (scaled(n, width) for n in (48, 96, 192, 256))
        seen = channels[-1] if bare else features * (1 + self.mirror)
        embedded = 0 if bare else len(self.scales)
        attended = 1 if variant == "eca_in_front" else embedded
        self.base = Trunk(channels, pooling)
        self.eca = nn.ModuleList(ChannelAttention() for _ in range(attended))
        self.region_net = nn.ModuleList(
            nn.Sequential(nn.Linear(channels[-1], features), nn.ReLU()) for _ in range(embedded)
        )
        self.classifiers = nn.ModuleList(nn.Linear(seen, num_classes, bias=False) for _ in self.scales)
        self.base.apply(zero_sum)
        self.region_net.apply(zero_sum)

    def forward(self, images: Tensor) -> Outputs:
        maps = self.base(torch.cat([images, images.flip(-1)]) if self.mirror else images)
        with torch.autocast(maps.device.type, enabled=False):
            heads = torch.stack(self.classify(maps.float()), dim=1)
        return Outputs(heads.mean(dim=1), heads, {})

    def classify(self, maps: Tensor) -> list[Tensor]:
        """Return the heads' logits [B, K] from the maps of images [B, C, H, W], or of images and mirrors [2B, ...]."""
        quadrants = F.adaptive_avg_pool2d(maps, 2).flatten(2)
        pooled = quadrants.mean(dim=2)
        if self.variant == "base_only":
            return [F.linear(pooled, self.weight(0))]
        regions, heads = [*quadrants.unbind(dim=2), pooled], []
        for head, (i, scale) in enumerate(self.scales.items()):
            attention = self.eca[0](pooled) if self.variant == "eca_in_front" else self.eca[head](regions[i])
            features = self.region_net[head](regions[i] * attention)
            seen = torch.cat(features.unflatten(0, (2, -1)).unbind(), dim=1) if self.mirror else features
            heads.append(scale * F.linear(F.normalize(seen), self.weight(head)))
        return heads

    def weight(self, head: int) -> Tensor:
        """Return a classifier's weight [K, features], its rows of length 1 if normalize_weights."""
        weight = self.classifiers[head].get_parameter("weight")
        return F.normalize(weight) if self.normalize_weights else weight


def check_numbers(size: int, width: float, variant: str, global_scale: float) -> None:
    """Refuse numbers that make no CERN; see Cern for what they are.

    Raises:
        ConfigError: the first that cannot be, and what to give.
    """
    expect(size >= 16 and size % 16 == 0, "student.size", "a multiple of 16, such as 48, 64 or 128", size)
    expect(width > 0, "student.width", "a multiplier above 0, such as 0.5 or 1", width)
    expect(global_scale > 0, "student.global_scale", "a factor above 0 (published 1)", global_scale)
    if variant in ("no_global", "base_only") and global_scale != 1:
        warnings.warn(
            f"student.global_scale={global_scale} has no effect: student.variant={variant} has no scaled global head.",
            stacklevel=3,
        )
