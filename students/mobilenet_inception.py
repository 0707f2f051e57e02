"""A reconstruction of the light network of 2019 that puts an Inception block in front of MobileNetV2's bottlenecks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.system.errors import expect
from distill.types import InputSpec, Outputs
from students.layers import choose, scaled

POOLINGS = ("max", "avg", "none")
BOTTLENECKS = (  # expansion, channels, number, stride
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
RECONSTRUCTIONS = {"A": (7, 1280), "B": (5, 512)}  # rows of BOTTLENECKS, channels of the last convolution


class Pointwise(nn.Conv2d):
    """A 1x1 convolution with a stride, of the pixels that it looks at alone.

    torch 2.14's float32 gradient of such a convolution of few channels, channels last, on a CPU, writes beyond its memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x[:, :, :: self.stride[0], :: self.stride[1]], self.weight)


def conv(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution without bias, batch normalization, ReLU6: [B, C, H, W] -> [B, C', ceil(H/s), ceil(W/s)]."""
    layer = Pointwise if kernel == 1 and stride > 1 else nn.Conv2d
    return nn.Sequential(
        layer(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


class InceptionStem(nn.Module):
    """Four parallel branches of stride 2, concatenated: [B, 3, H, W] -> [B, sum(channels), H/2, W/2].

    1x1 | 1x1, 3x3 | 1x1, 5x5 | 3x3 pooling, 1x1; with pooling none the last branch is a strided 1x1.
    """

    def __init__(self, channels: Sequence[int], pooling: str):
        super().__init__()
        a, b, c, d = channels
        pools = {"max": nn.MaxPool2d(3, 2, 1), "avg": nn.AvgPool2d(3, 2, 1), "none": nn.MaxPool2d(1, 2)}
        self.branches = nn.ModuleList(
            [
                conv(3, a, stride=2),
                nn.Sequential(conv(3, a), conv(a, b, 3, stride=2)),
                nn.Sequential(conv(3, a), conv(a, c, 5, stride=2)),
                nn.Sequential(pools[pooling], conv(3, d)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Bottleneck(nn.Module):
    """Expand 1x1, filter each channel 3x3, project 1x1 without activation; x is added where shapes agree.

    Reference: Sandler et al., MobileNetV2, arXiv 1801.04381, section 3.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        inner = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            *([conv(in_channels, inner)] if expansion > 1 else []),
            conv(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetInception(nn.Module):
    """Classify a face with an Inception stem, MobileNetV2's bottlenecks, a 1x1 convolution and one linear layer.

    THIS IS A RECONSTRUCTION. The paper's abstract and notes of its readers give the order of the blocks and the training
    recipe; filter counts, the number of bottlenecks and the stem's branches are this project's choice. A number measured
    with it is not a number of the paper's network.

    Args:
        num_classes: K.
        size: picture side in pixels, at least 32 (published 224).
        width: multiplier of all channels, rounded to multiples of 8 (stem branches: of 4).
        pooling: in the stem's fourth branch: max (reconstruction), avg, or none (every second pixel); parameters and MACs
            are the same.
        reconstruction: A: all of MobileNetV2's bottlenecks and 1280 channels (2,235,836 parameters for 8 classes);
            B: trimmed after the 96-channel ones, with 512 (598,524).
        dropout: fraction of features dropped before the classifier.
        mean, std: of the input, one number or one per channel, in units of pixels / 255 (published 0 and 1).

    Shape:
        images: [B, 3, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ConfigError: for a size, width, pooling, reconstruction or dropout that cannot be.

    Reference: Lightweight Deep Learning Model For Facial Expression Recognition, TrustCom/BigDataSE 2019.
    """

    def __init__(
        self,
        num_classes: int,
        size: int,
        width: float,
        pooling: str,
        reconstruction: str,
        dropout: float,
        mean: float | Sequence[float],
        std: float | Sequence[float],
    ):
        super().__init__()
        rows, last = RECONSTRUCTIONS[choose("reconstruction", reconstruction, tuple(RECONSTRUCTIONS))]
        choose("pooling", pooling, POOLINGS)
        expect(size >= 32, "student.size", "32 pixels or more (published 224)", size)
        expect(width > 0, "student.width", "a multiplier above 0, such as 0.5 or 1", width)
        expect(0 <= dropout < 1, "student.dropout", "a fraction in [0, 1)", dropout)
        self.input = InputSpec(size, 3, mean, std)
        stem = [scaled(n, width, 4) for n in (8, 12, 8, 4)]
        layers: list[nn.Module] = [InceptionStem(stem, pooling)]
        channels = sum(stem)
        for expansion, out, count, stride in BOTTLENECKS[:rows]:
            for i in range(count):
                layers.append(Bottleneck(channels, scaled(out, width), expansion, 1 if i else stride))
                channels = scaled(out, width)
        self.features = nn.Sequential(*layers, conv(channels, scaled(last, width)))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(scaled(last, width), num_classes)
        self.apply(glorot)

    def forward(self, images: Tensor) -> Outputs:
        pooled = self.features(images).mean(dim=(2, 3))
        logits = self.classifier(self.dropout(pooled))
        return Outputs(logits, logits[:, None], {})


def glorot(layer: nn.Module) -> None:
    """Fill a layer with Glorot-uniform weights and no bias, Keras' default start."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
