"""Layers that more than one student may use, and the published ones that PyTorch does not have."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.system.errors import expect


def choose(key: str, value: object, choices: Sequence[str]) -> str:
    """Return value if it is one of the choices.

    Raises:
        ConfigError: naming the config key, the value and what to type instead.
    """
    expect(value in choices, f"student.{key}", f"{', '.join(choices[:-1])} or {choices[-1]}", repr(value))
    return str(value)


def scaled(channels: int, width: float, multiple: int = 8) -> int:
    """Return channels * width, rounded to a multiple of at least one."""
    return max(multiple, round(channels * width / multiple) * multiple)


class Maximum(torch.autograd.Function):
    """Elementwise max(a, b) whose gradient takes 3 passes over memory instead of torch.maximum's 9.

    Ties give their gradient to b (torch.maximum halves it).
    """

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        y = torch.maximum(a, b)
        ctx.save_for_backward(y - b)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        (excess,) = ctx.saved_tensors
        grad_a = torch.ops.aten.threshold_backward(grad, excess, 0)
        return grad_a, grad - grad_a


class MaxFeatureMap(nn.Module):
    """Convolve to twice the channels and keep the larger half: y = max(z[:n], z[n:]), z = filter(x).

    Shape:
        x: [B, in_channels, H, W] -> [B, out_channels, H', W'].

    Reference: Wu et al., A Light CNN for Deep Face Representation with Noisy Labels, arXiv 1511.02683, eq. 3.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.filter = nn.Conv2d(in_channels, 2 * out_channels, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.filter(x).chunk(2, dim=1)
        return Maximum.apply(a, b) if self.training else torch.maximum(a, b)


class MaxAvgPool(nn.Module):
    """Sum of the 2 x 2 maximum and the 2 x 2 average, stride 2: [B, C, H, W] -> [B, C, H/2, W/2]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding (before, after) of one axis; the odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: [B, C, S, S] -> [B, C', ceil(S / stride), ceil(S / stride)]."""

    def forward(self, x: Tensor) -> Tensor:
        before, after = same_padding(x.shape[-1], self.kernel_size[0], self.stride[0])
        if before == after:
            return F.conv2d(x, self.weight, self.bias, self.stride, before)
        return F.conv2d(F.pad(x, (before, after, before, after)), self.weight, self.bias, self.stride)
