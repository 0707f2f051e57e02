"""A small student: depthwise separable convolutions behind one dense one."""

from torch import Tensor, nn

from distill.types import InputSpec, Outputs


class Separable(nn.Module):
    """Classify a gray face with one 3x3 convolution and four depthwise separable ones.

    Args:
        num_classes: K.
        size: input height and width [pixels].
        width: channels of the first layer; the last one has eight times as many.
        mean, std: of the input, in units of pixels / 255.

    Shape:
        images: [B, 1, S, S] -> logits [B, K], heads [B, 1, K].
    """

    def __init__(self, num_classes: int, size: int, width: int, mean: float, std: float):
        super().__init__()
        self.input = InputSpec(size, channels=1, mean=(mean,), std=(std,))
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            separable(width, 2 * width, stride=2),
            separable(2 * width, 4 * width, stride=2),
            separable(4 * width, 8 * width, stride=1),
            separable(8 * width, 8 * width, stride=1),
        )
        self.classifier = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Outputs:
        logits = self.classifier(self.blocks(self.stem(images)).mean((2, 3)))
        return Outputs(logits, logits[:, None], {})


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a depthwise 3x3 and a pointwise 1x1 convolution, each with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
