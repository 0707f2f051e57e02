"""A student that takes a picture as a camera or a file gives it: the rendering of evaluation as a part of the network."""

import numpy as np
import torch
from torch import Tensor, nn

from distill.augment.views import LUMA
from distill.types import InputSpec


class Preprocess(nn.Module):
    """Draw a picture of any size as a network wants to see it, as distill.augment.views.render does with the identity view.

    images = (R_H x R_W^T - mean) / std: averaging over whole k x k blocks, k = max(1, floor(min(H, W) / S)), and bilinear
    interpolation with border padding are linear, axis by axis, so that one [S, H] and one [S, W] matrix do both:
    R[i, p] = max(0, 1 - |clip((i + 1/2) side / (S k) - 1/2, 0, floor(side / k) - 1) - floor(p / k)|) / k.
    So the size comes in as a number, not as a choice of operations, which exporters freeze at the example's size.

    Args:
        spec: size, channels, mean and std of the network's input.

    Shape:
        image: [B, H, W, 3] uint8, RGB -> [B, spec.channels, spec.size, spec.size] float32.
    """

    def __init__(self, spec: InputSpec):
        super().__init__()
        self.size, self.gray = spec.size, spec.channels == 1
        self.register_buffer("luma", torch.tensor(LUMA)[:, None])
        self.register_buffer("centers", (torch.arange(spec.size) + 0.5) / spec.size)
        mean, std = (torch.tensor(numbers).expand(spec.channels)[:, None, None] for numbers in (spec.mean, spec.std))
        self.register_buffer("gain", 1 / (255 * std))
        self.register_buffer("offset", mean / std)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:3]
        high, wide = torch.full((), height).float(), torch.full((), width).float()
        block = torch.floor(high.minimum(wide) / self.size).clamp(min=1)
        down, across = self.matrix(height, high / block, block), self.matrix(width, wide / block, block).T
        gain = self.gain / (block * block)
        if self.gray:  # the gain on three numbers, not on every pixel: a small network feels it
            drawn = (down @ ((image.float() @ (self.luma * gain[0])).squeeze(-1) @ across))[:, None]
        else:
            drawn = down @ (image.float().permute(0, 3, 1, 2) @ across) * gain
        return drawn - self.offset

    def matrix(self, side: int, sides: Tensor, block: Tensor) -> Tensor:
        """Return `block` times the share of each of `side` pixels, `sides` blocks, in each pixel that is drawn, [S, side]."""
        at = (self.centers * sides - 0.5).clamp(min=0).minimum(torch.floor(sides) - 1)
        return (1 - (at[:, None] - torch.floor(torch.arange(side, dtype=torch.float32) / block)).abs()).relu()


class LogitsOnly(nn.Module):
    """The network alone: images [B, C, S, S] float32 -> logits [B, K]."""

    def __init__(self, student: nn.Module):
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> Tensor:
        return self.student(images).logits


class ExportModule(nn.Module):
    """What is exported: a picture, or with preprocess=False the network's own input, -> logits / temperature, probabilities [B, K]."""

    def __init__(self, student: nn.Module, preprocess: bool = True, temperature: float = 1.0):
        super().__init__()
        self.prepare = Preprocess(student.input) if preprocess else nn.Identity()
        self.net, self.temperature = LogitsOnly(student), temperature

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(self.prepare(image)) / self.temperature
        return logits, logits.softmax(1)


def as_picture(pixels: np.ndarray) -> np.ndarray:
    """Return packed pixels [B, C, H, W], C = 1 or 3, as pictures [B, H, W, 3] uint8."""
    return np.ascontiguousarray(np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:])).transpose(0, 2, 3, 1))
