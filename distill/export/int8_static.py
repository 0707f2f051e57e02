"""Rounding a network to 8 bits: static QDQ, activations uint8, weights in int8 per channel, ranges from validation pictures."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from distill.augment.views import identity, render
from distill.export.int8_graph import (
    averages_as_convolutions,
    nodes_to_exclude,
    round_as_before_pooling,
    round_before_maximum,
    zeros_before_pooling,
)
from distill.export.onnx_graph import quiet
from distill.system.cli import format_error
from distill.types import InputSpec, Split

STEP = 32  # pictures per pass of the calibration


def evenly_spaced(split: Split, number: int) -> np.ndarray:
    """Return positions evenly spread over a split, [number] or fewer."""
    return np.unique(np.linspace(0, len(split) - 1, number).round().astype(np.int64))


def calibration_images(split: Split, spec: InputSpec, number: int) -> Tensor:
    """Return pictures evenly spread over a split, as the network sees them, [number, C, S, S] or fewer."""
    positions = evenly_spaced(split, number)
    return render(torch.from_numpy(split.pixels[split.rows[positions]]), identity(len(positions)), spec)


def quantize(net, images: Tensor):
    """Return a graph quantized to 8 bits; its input and output stay float.

    An activation is scale * (q - zero), q in 0..255, from the least to the largest value seen; a weight is scale_c * q, q in
    -64..64, from the largest of its output channel. uint8 by int8 is the pair that x86 has instructions for. Those of
    processors without VNNI add two products in 16 bits: 2 * 255 * 64 fits, 2 * 255 * 127 is cut off without a word. What
    works on a few numbers per picture stays float: it would lose accuracy and gain no time.

    Args:
        net: float ONNX graph, images [B, C, S, S] -> logits [B, K]; it is not changed.
        images: the pictures whose ranges count.

    Raises:
        ValueError: a part of this network that quantization does not support.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches: Iterator[Tensor] = iter(images.split(STEP))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    try:
        with quiet(), TemporaryDirectory() as folder:  # quiet: its advice to fold batch normalization, which is done
            path = Path(folder) / "int8.onnx"
            options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "nodes_to_exclude": nodes_to_exclude(net)}
            types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True}
            quantize_static(averages_as_convolutions(zeros_before_pooling(net)), path, Reader(), **options, **types)
            return round_as_before_pooling(round_before_maximum(onnx.load(path)))
    except Exception as error:  # of onnx, onnxruntime and the quantizer, each its own
        raise ValueError(f"this network cannot be quantized ({format_error(error, inside=True)})") from error
