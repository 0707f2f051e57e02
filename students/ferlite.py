"""FerLite, small residual networks for gray faces, in three sizes and any width between."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.elastic import make_elastic
from distill.system.errors import ConfigError, expect
from distill.types import InputSpec, Outputs
from students.layers import choose, scaled

POOLINGS = ("none", "avg", "max")


class Stage(NamedTuple):
    """Residual blocks of one resolution; the first halves the map of the stage before."""

    channels: int  # of each block
    blocks: int  # their number


class Graph(NamedTuple):
    """A size: channels of the first convolution and of the last, and what stands between them."""

    stem: int
    stages: tuple[Stage, ...]
    head: int


SIZES = {
    "S": Graph(24, (Stage(24, 1), Stage(32, 1), Stage(40, 1)), 128),
    "M": Graph(24, (Stage(24, 2), Stage(48, 2), Stage(56, 1)), 192),
    "L": Graph(48, (Stage(64, 2), Stage(128, 2), Stage(160, 1)), 384),
}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias and its BatchNorm, which an export folds into one."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """y = relu(f(x) + shortcut(x)), f = conv 3x3 - ReLU - conv 3x3: [B, C, H, W] -> [B, C', H/stride, W/stride].

    The shortcut is x itself, or the average of 2 x 2 pixels and a 1 x 1 convolution where the shape changes.

    Reference: He et al., Deep Residual Learning, arXiv 1512.03385; the averaging shortcut is ResNet-D's, arXiv 1812.01187.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, pooling: str):
        super().__init__()
        step = stride if pooling == "none" else 1
        pools = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
        self.pool = pools[pooling](stride) if step != stride else nn.Identity()
        first, second = convolution(inputs, outputs, 3, step), convolution(outputs, outputs, 3)
        self.body = nn.Sequential(first, nn.ReLU(), second)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.AvgPool2d(step), convolution(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        return F.relu(self.body(x) + self.shortcut(x))


class FerLite(nn.Module):
    """Classify a gray face: 3x3 convolution of stride 2, stages of residual blocks, 1x1 convolution, average, linear layer.

    Args:
        num_classes: K.
        size: picture side in pixels, a multiple of 8.
        width: S, M or L; or a number, the factor of M's channels, rounded to multiples of 8; or a list of numbers, several
            widths in one network, which is about the first; or elastic, those of ELASTIC.
        pooling: how a stage halves the map: none (its first convolution has stride 2), avg or max (2 x 2, before it).
        dropout: fraction of the averaged features dropped before the linear layer.
        mean, std: of the input, in units of pixels / 255.

    Shape:
        images: [B, 1, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ConfigError: for a size, width, pooling or dropout that cannot be.
    """

    ELASTIC = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)

    def __init__(
        self,
        num_classes: int,
        size: int,
        width: str | float | list,
        pooling: str,
        dropout: float,
        mean: float | Sequence[float],
        std: float | Sequence[float],
    ):
        super().__init__()
        choose("pooling", pooling, POOLINGS)
        expect(size >= 16 and size % 8 == 0, "student.size", "a multiple of 8 from 16 on, such as 48 or 64", size)
        expect(0 <= dropout < 1, "student.dropout", "a fraction in [0, 1)", dropout)
        widths = several(self.ELASTIC if width == "elastic" else width)
        graph = graph_of(max(widths) if widths else width)
        self.input = InputSpec(size, 1, mean, std)
        self.stem = nn.Sequential(convolution(1, graph.stem, 3, 2), nn.ReLU())
        blocks, channels = [], graph.stem
        for number, stage in enumerate(graph.stages):
            for index in range(stage.blocks):
                stride = 2 if number and not index else 1
                blocks.append(Block(channels, stage.channels, stride, pooling))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(convolution(channels, graph.head, 1), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(graph.head, num_classes)
        if widths:
            like = {"pooling": pooling, "dropout": dropout, "mean": mean, "std": std}
            make_elastic(self, widths, lambda width: FerLite(num_classes, size, width, **like))

    def forward(self, images: Tensor) -> Outputs:
        x = self.head(self.blocks(self.stem(images)))
        logits = self.classifier(self.dropout(x.mean(dim=(2, 3))))
        return Outputs(logits, logits[:, None], {})


def several(width: str | float | Sequence[float]) -> tuple[float, ...]:
    """Return the widths of a list, or none where one width was asked for.

    Raises:
        ConfigError: less than two of them, a size instead of a number, or two that are the same network.
    """
    if not isinstance(width, list | tuple):
        return ()
    if len(width) < 2 or any(isinstance(one, str) for one in width):
        raise ConfigError(
            "student.width",
            f"expected two or more factors of M's channels, such as [1,0.75,0.5], got {width}. "
            "S, M and L have other numbers of blocks.",
        )
    if len({graph_of(one) for one in width}) < len(width):
        raise ConfigError(
            "student.width", f"two of {width} are one network, in multiples of 8 channels. Leave one out."
        )
    return tuple(float(one) for one in width)


def graph_of(width: str | float) -> Graph:
    """Return the graph of a named size, or M's with its channels multiplied by a number.

    Raises:
        ConfigError: for any other width.
    """
    if isinstance(width, str) and width in SIZES:
        return SIZES[width]
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 16:
        raise ConfigError(
            "student.width",
            "expected S, M, L, elastic, a factor of M's channels above 0 such as 0.75, or a list of factors, "
            f"got {width!r}.",
        )

    graph = SIZES["M"]
    stages = tuple(stage._replace(channels=scaled(stage.channels, width)) for stage in graph.stages)
    return Graph(scaled(graph.stem, width), stages, scaled(graph.head, width))
