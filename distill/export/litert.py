"""A student as LiteRT's .tflite, for one picture at a time of one size: float32, and int8 inside."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import redirect_stderr
from io import BytesIO, StringIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from torch import nn

from distill.export import onnx_graph as graph
from distill.export.export_module import LogitsOnly, Preprocess
from distill.export.int8_graph import zeros_before_pooling
from distill.export.litert_graph import as_tflite
from distill.export.litert_writer import SIGNATURE
from distill.export.runtimes import FACTS, GRAPH_SHA256

# Their answers stay float: the picture's preparation, and the few numbers at the end.
FLOAT = f"{graph.PARTS}|images|logits|probabilities|number"


def float32(
    student: nn.Module, preprocess: bool, picture: tuple[int, int], num_classes: int, temperature: float = 1.0
) -> bytes:
    """Return the file of the whole student.

    Args:
        student: in eval mode.
        preprocess: True takes a picture, uint8 [1, H, W, 3]; False the network's own input, float [1, C, S, S].
        picture: its height and width.
        num_classes: K.
        temperature: that logits are divided by.

    Raises:
        ValueError: an operation of this network is not written here.
    """
    given = graph.example(student, False)[:1]
    net = graph.to_onnx(graph.program(LogitsOnly(student), given, {}), "images", "logits")
    prepare = None
    if preprocess:
        given = torch.zeros(1, *picture, 3, dtype=torch.uint8)
        prepare = graph.as_part(graph.program(Preprocess(student.input), given, {}))
    made = graph.deployable(zeros_before_pooling(net), prepare, student, num_classes, temperature)
    (one,) = made.graph.input
    for value, shape in ((one, given.shape), *((answer, (1, num_classes)) for answer in made.graph.output)):
        for size, number in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            size.dim_value = number
    return as_tflite(made)


def int8(model: bytes, pictures: Iterable[np.ndarray]) -> bytes:
    """Return a file whose network computes in int8: activations per tensor, weights per channel.

    Args:
        model: the float file.
        pictures: inputs of it, [1, ...] each, whose ranges count.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer

    (given,) = Interpreter(model_content=model).get_input_details()
    with graph.quiet(), redirect_stderr(StringIO()):  # its progress bar
        made = quantizer.Quantizer(model)
        made.add_static_config(f"^(?!{FLOAT})", "*", activation_num_bits=8, weight_num_bits=8)
        ranges = made.calibrate({SIGNATURE: [{given["name"]: one} for one in pictures]}, num_threads=1)
        return bytes(made.quantize(ranges, enable_progress_report=False).quantized_model)


def save(model: bytes, path: Path, facts: dict[str, str]) -> None:
    """Write a file with the facts, the SHA-256 of the graph too, as JSON in a zip archive behind it, as LiteRT's files carry others."""
    content = BytesIO(model)
    with ZipFile(content, "a") as archive:
        archive.writestr(ZipInfo(FACTS), json.dumps(facts | {GRAPH_SHA256: hashlib.sha256(model).hexdigest()}))
    path.write_bytes(content.getvalue())
