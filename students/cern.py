"""CERN, a compact facial expression recognition network of one global and four local heads."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.types import Outputs
from students.layers import MaxAvgPool, MaxFeatureMap, choose, input_spec

POOLINGS = ("max_avg", "max", "avg", "none")
SCALES = (30.0, 30.0, 30.0, 30.0, 1.0)  # top left, top right, bottom left, bottom right, global


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
        x = self.block1(self.pool(self.conv1(x)))
        x = self.block2(self.pool(self.group1(x)))
        return self.pool(self.group2(x))


class ChannelAttention(nn.Module):
    """Scale pooled channels by sigmoid(conv1d(pooled)): [B, C] -> [B, C].

    Reference: Wang et al., ECA-Net, arXiv 1910.03151. The scaled map is only ever averaged over its pixels here, and
    mean(scale * map) = scale * mean(map), so the averages alone are scaled.
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, pooled: Tensor) -> Tensor:
        return pooled * self.conv(pooled[:, None])[:, 0].sigmoid()


@torch.no_grad()
def zero_sum(layer: nn.Module) -> None:
    """Start a layer from normal weights of variance 1 / fan-in whose sum is 0 for each output, and no bias."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        weight = torch.randn_like(layer.weight).flatten(1)
        weight = (weight - weight.mean(1, keepdim=True)) / weight.shape[1] ** 0.5
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.zero_()


class Cern(nn.Module):
    """Classify a face from four quadrants and the whole, seen together with the mirrored face.

    The trunk sees image and mirror; head i averages its quadrant (or all) of both maps, scales channels by ECA, maps
    each to `features` numbers with ReLU, concatenates, normalises to length 1 and classifies without bias:
    heads[:, i] = SCALES[i] * W_i normalise([f_i(image) | f_i(mirror)]), logits = mean_i heads[:, i].

    Args:
        num_classes: K.
        size: picture side in pixels, a multiple of 16 (published 128).
        width: multiplier of the 48/96/192 channels and 256 features, rounded to multiples of 8 (published 1).
        pooling: max_avg (published: the sum), max or avg after conv1, group1 and group2; none: no pooling, those three
            convolutions have stride 2 instead: same map sizes, same parameters, fewer MACs.
        mean, std: of the input, in units of pixels / 255 (published 0 and 1).

    Shape:
        images: [B, 1, S, S] -> logits [B, K], heads [B, 5, K].

    Raises:
        ValueError: for a size, width or pooling that cannot be.

    Reference: CERN, Pattern Recognition Letters 155 (2022) 9-18. As in the authors' code, the global head is not
    scaled by 30, the mirrored map is cut with the same quadrant index, and classifier weights are not normalised.
    Deviation: without weights of LightCNN's to start from, filters and region_net rows are drawn with zero sum. All maps
    are positive on average; what all faces have in common would make their normalised embeddings nearly equal (cosine 0.96
    with PyTorch's default start, 0.57 with this one), and hundreds of steps would go by before anything is learnt.
    """

    def __init__(
        self,
        num_classes: int,
        size: int,
        width: float,
        pooling: str,
        mean: float | Sequence[float],
        std: float | Sequence[float],
    ):
        super().__init__()
        choose("pooling", pooling, POOLINGS)
        if size < 16 or size % 16:
            raise ValueError(f"student.size: {size} was asked for; CERN needs a multiple of 16, such as 48, 64 or 128.")
        if not width > 0:
            raise ValueError(f"student.width: {width} was asked for; give a multiplier above 0, such as 0.5 or 1.")
        self.input = input_spec(size, 1, mean, std)
        *channels, features = (max(8, round(n * width / 8) * 8) for n in (48, 96, 192, 256))
        self.base = Trunk(channels, pooling)
        self.eca = nn.ModuleList(ChannelAttention() for _ in SCALES)
        self.region_net = nn.ModuleList(nn.Sequential(nn.Linear(channels[-1], features), nn.ReLU()) for _ in SCALES)
        self.classifiers = nn.ModuleList(nn.Linear(2 * features, num_classes, bias=False) for _ in SCALES)
        self.base.apply(zero_sum)
        self.region_net.apply(zero_sum)

    def forward(self, images: Tensor) -> Outputs:
        maps = self.base(torch.cat([images, images.flip(-1)]))
        with torch.autocast(maps.device.type, enabled=False):
            heads = torch.stack(self.classify(maps.float()), dim=1)
        return Outputs(heads.mean(dim=1), heads, {})

    def classify(self, maps: Tensor) -> list[Tensor]:
        """Return the five heads' logits [B, K] from the maps [2B, C, H, W] of images and mirrors, in float32."""
        quadrants = F.adaptive_avg_pool2d(maps, 2).flatten(2)
        regions = [*quadrants.unbind(dim=2), quadrants.mean(dim=2)]
        heads = []
        for i, (scale, region) in enumerate(zip(SCALES, regions, strict=True)):
            image, mirror = self.region_net[i](self.eca[i](region)).chunk(2)
            heads.append(scale * self.classifiers[i](F.normalize(torch.cat([image, mirror], dim=1))))
        return heads
