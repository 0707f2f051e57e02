"""A teacher that is no timm network: plain convolutions, trained from scratch."""

from itertools import pairwise

from torch import Tensor, nn

from distill.types import InputSpec, Outputs


class Plain(nn.Module):
    """Classify a face with three pairs of 3x3 convolutions.

    Args:
        num_classes: K.
        size: input height and width [pixels].
        channels: 1 (gray) or 3 (RGB; gray faces are repeated).
        mean, std: of the input, in units of pixels / 255.
        width: channels of the first pair; each following pair has twice as many.

    Shape:
        images: [B, channels, S, S] -> logits [B, K], heads [B, 1, K].
    """

    def __init__(self, num_classes: int, size: int, channels: int, mean: float, std: float, width: int):
        super().__init__()
        self.input = InputSpec(size, channels, mean=(mean,), std=(std,))
        widths = [channels, width, 2 * width, 4 * width]
        pairs = [
            nn.Sequential(convolution(before, after), convolution(after, after), nn.MaxPool2d(2))
            for before, after in pairwise(widths)
        ]
        self.net = nn.Sequential(*pairs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes))

    def forward(self, images: Tensor) -> Outputs:
        logits = self.net(images)
        return Outputs(logits, logits[:, None], {})


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch normalization and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
