"""MicroExpNet, two convolutions and one hidden layer for facial expression recognition on a CPU."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.system.errors import ConfigError, expect
from distill.types import InputSpec, Outputs
from students.layers import SameConv2d, choose

POOLINGS = ("none", "first", "second", "both")  # published names: v, p1, p2, p12
SQUEEZE = {"M": 1, "S": 4, "XS": 8, "XXS": 16}
INITS = ("published", "xavier", "torch")
TENSORFLOW_NAMES = {"conv1": "c1", "conv2": "c2", "fc": "fc", "out": "o"}


class MicroExpNet(nn.Module):
    """Classify a gray face with conv 8x8 - conv 4x4 - hidden layer - logits, in TensorFlow's SAME padding.

    Pooling is max 2 x 2, stride 2. With pooling after the first convolution that has stride 2, else 4. The map is
    flattened in (height, width, channel) order, so published TensorFlow weights fit (load_tensorflow_weights). ReLU and
    max pooling commute, so ReLU comes after the pooling, on fewer numbers.

    Args:
        num_classes: K (published 8).
        size: picture side in pixels (published 84).
        width: M, S, XS or XXS, or the number of hidden units: published 256/64/32/16 for pooling none and first,
            768/192/96/48 for second and both.
        pooling: none, first, second or both (published v, p1, p2, p12).
        dropout: fraction of hidden units dropped in training (published 0.5 on labels alone, 0 with a teacher).
        init: weights Xavier-uniform with biases N(0, 0.5^2) (published) or 0 (xavier); torch: PyTorch's defaults.
        mean, std: of the input, in units of pixels / 255 (published: raw 0..255, mean 0, std 1/255).

    Shape:
        images: [B, 1, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ConfigError: for a size, width, pooling, dropout or init that cannot be.

    Reference: Cugu et al., MicroExpNet, arXiv 1711.07011.
    """

    def __init__(
        self,
        num_classes: int,
        size: int,
        width: str | int,
        pooling: str,
        dropout: float,
        init: str,
        mean: float | Sequence[float],
        std: float | Sequence[float],
    ):
        super().__init__()
        self.pool1 = choose("pooling", pooling, POOLINGS) in ("first", "both")
        self.pool2 = pooling in ("second", "both")
        expect(size >= 1, "student.size", "a number of pixels (published 84)", size)
        expect(0 <= dropout < 1, "student.dropout", "a fraction in [0, 1)", dropout)
        self.input = InputSpec(size, 1, mean, std)
        units, side = hidden_units(width, self.pool2), -(-size // (16 if self.pool2 else 8))
        self.conv1 = SameConv2d(1, 16, 8, stride=2 if self.pool1 else 4)
        self.conv2 = SameConv2d(16, 32, 4, stride=2)
        self.fc = nn.Linear(32 * side * side, units)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(units, num_classes)
        if choose("init", init, INITS) != "torch":
            for layer in (self.conv1, self.conv2, self.fc, self.out):
                nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.normal_(layer.bias, std=0.5 if init == "published" else 0.0)

    def forward(self, images: Tensor) -> Outputs:
        x = self.conv1(images)
        x = F.relu(F.max_pool2d(x, 2, ceil_mode=True) if self.pool1 else x)
        x = self.conv2(x)
        x = F.relu(F.max_pool2d(x, 2, ceil_mode=True) if self.pool2 else x)
        x = F.relu(self.fc(x.permute(0, 2, 3, 1).flatten(1)))
        logits = self.out(self.dropout(x))
        return Outputs(logits, logits[:, None], {})


def hidden_units(width: str | int, pool2: bool) -> int:
    """Return the number of hidden units for a published size or a number.

    Raises:
        ConfigError: for any other width.
    """
    if width in SQUEEZE:
        return (768 if pool2 else 256) // SQUEEZE[width]
    if isinstance(width, int) and width > 0:
        return width
    raise ConfigError("student.width", f"expected M, S, XS, XXS or a whole number of hidden units, got {width!r}.")


def load_tensorflow_weights(net: MicroExpNet, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy published weights into a network in place.

    Args:
        net: of the width and pooling that the arrays have.
        arrays: wc1, wc2 [H, W, in, out], wfc, wo [in, out] and biases bc1, bc2, bfc, bo; more names are ignored.

    Raises:
        ValueError: for an array that is missing or does not fit.
    """
    state = {}
    for layer, published in TENSORFLOW_NAMES.items():
        for kind in ("weight", "bias"):
            key, name = f"{layer}.{kind}", kind[0] + published
            if name not in arrays:
                raise ValueError(f"MicroExpNet weights: array {name!r} is missing; there are {sorted(arrays)}.")
            array = np.asarray(arrays[name])
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            expected = tuple(net.get_parameter(key).shape)
            if array.shape != expected:
                raise ValueError(
                    f"MicroExpNet weights: {name!r} gives {key} the shape {array.shape}, this network has {expected}. "
                    "Choose the width, pooling, size and number of classes that the weights were made for."
                )
            state[key] = torch.from_numpy(np.ascontiguousarray(array))
    net.load_state_dict(state)
