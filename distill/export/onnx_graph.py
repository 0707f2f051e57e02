"""A student as torch.export's program and as an ONNX graph, of any batch size, any picture size where it prepares itself; their files."""

import io
import json
import logging
import warnings
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast
from unittest import mock

import torch
from torch import Tensor, nn

from distill.export.export_module import ExportModule, LogitsOnly, Preprocess
from distill.export.runtimes import ANSWERS
from distill.system.errors import ConfigError
from distill.types import InputSpec

PICTURE = ("batch", "height", "width", 3)  # the axes of a picture, of which the first three may change
PARTS = "prepare/"  # names of the nodes that prepare the picture


def example(student: nn.Module, preprocess: bool) -> Tensor:
    """Return an input to trace with: no two of its sizes are equal, so that none is mistaken for another."""
    spec = cast(InputSpec, student.input)
    if preprocess:
        return torch.zeros(2, spec.size + 5, spec.size + 9, 3, dtype=torch.uint8)
    return torch.zeros(2, spec.channels, spec.size, spec.size)


def program(module: nn.Module, given: Tensor, axes: dict[int, str]) -> torch.export.ExportedProgram:
    """Trace a module whose input may change its size along the named axes.

    Raises:
        ConfigError: the module cannot be traced so.
    """
    module = module.eval().requires_grad_(False)
    sizes = {axis: torch.export.Dim(name, min=1) for axis, name in axes.items()} or None
    try:
        # in float32 a network's autocast(enabled=False) says nothing, but is a node that ONNX does not have
        with quiet(), mock.patch.object(torch, "autocast", lambda *arguments, **options: nullcontext()):
            return torch.export.export(module, (given,), dynamic_shapes=(sizes,))
    except Exception as error:  # torch raises many kinds
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            "student",
            f"torch.export cannot trace this network for every batch size: {reason[:200]} In its forward, take sizes "
            "from shapes by arithmetic, and split a batch with unflatten(0, (n, -1)), not chunk(n).",
        ) from error


def deployed(
    student: nn.Module, preprocess: bool, temperature: float = 1.0, picture: tuple[int, int] | None = None
) -> torch.export.ExportedProgram:
    """Return the program of the whole student, input -> logits / temperature, probabilities [B, K]; or for one picture alone."""
    given, axes = example(student, preprocess), dict(enumerate(PICTURE[:3])) if preprocess else {0: "batch"}
    if picture:  # its height and width: engines of fixed sizes
        given, axes = torch.zeros(1, *picture, 3, dtype=torch.uint8) if preprocess else given[:1], {}
    return program(ExportModule(student, preprocess, temperature), given, axes)


def bare_onnx(student: nn.Module):
    """Return the ONNX graph of the network alone: images [B, C, S, S] -> logits [B, K]."""
    return to_onnx(program(LogitsOnly(student), example(student, False), {0: "batch"}), "images", "logits")


def prepare_onnx(student: nn.Module):
    """Return the ONNX graph that prepares a picture: image [B, H, W, 3] uint8 -> images [B, C, S, S]."""
    return as_part(program(Preprocess(student.input), example(student, True), dict(enumerate(PICTURE[:3]))))


def as_part(prepare: torch.export.ExportedProgram):
    """Return the program of a Preprocess as an ONNX graph whose names are no network's: image -> images."""
    from onnx import compose

    graph = to_onnx(prepare, "image", "images")
    return compose.add_prefix(graph, PARTS, rename_inputs=False, rename_outputs=False)


def to_onnx(traced: torch.export.ExportedProgram, given: str, answer: str):
    """Return a program of one input and one output as an ONNX graph that names them so."""
    with quiet():
        made = torch.onnx.export(traced, dynamo=True, input_names=[given], output_names=[answer], verbose=False)
    net = made.model_proto  # made anew each time it is read
    graph = net.graph
    for part in (*graph.node, *graph.input, *graph.value_info, *graph.initializer, *graph.output):
        del part.metadata_props[:]  # paths and stack traces of this machine
    return net


def deployable(net, prepare, student: nn.Module, num_classes: int, temperature: float = 1.0):
    """Put the pieces together: prepare (or None), the network, its logits / temperature, and probabilities = softmax(logits).

    Args:
        net: images -> logits, float or int8; it is not changed.
        prepare: image -> images, or None where the bare network is wanted.
        student: for the sizes of its input.
        num_classes: K.
        temperature: T.

    Returns:
        The ONNX model, checked: image or images -> logits and probabilities [B, K].
    """
    import onnx
    from onnx import compose, helper

    merged = deepcopy(net)
    if prepare is not None:
        prepare.ir_version = merged.ir_version
        merged = compose.merge_models(prepare, merged, io_map=[("images", "images")])
    graph, spec = merged.graph, student.input
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["logits/undivided" if one == "logits" else one for one in names]
    graph.initializer.append(helper.make_tensor("logits/divisor", onnx.TensorProto.FLOAT, [], [temperature]))
    divided = ["logits/undivided", "logits/divisor"], ["logits"]
    graph.node.append(helper.make_node("Div", *divided, name="logits/temperature"))
    graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], name="probabilities", axis=1))
    if prepare is None:
        name, kind, shape = "images", onnx.TensorProto.FLOAT, ["batch", spec.channels, spec.size, spec.size]
    else:
        name, kind, shape = "image", onnx.TensorProto.UINT8, list(PICTURE)
    answers = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", num_classes]) for n in ANSWERS]
    for part, values in ((graph.input, [helper.make_tensor_value_info(name, kind, shape)]), (graph.output, answers)):
        del part[:]
        part.extend(values)
    del graph.value_info[:]
    graph.name, merged.producer_name = "student", "fer-distill"
    onnx.checker.check_model(merged)
    return merged


def save_onnx(proto, path: Path, facts: dict[str, str]) -> None:
    """Write a graph into one file, the facts in its metadata."""
    import onnx

    onnx.helper.set_model_props(proto, facts)
    onnx.save_model(proto, path)


def save_program(traced: torch.export.ExportedProgram, path: Path, facts: dict[str, str]) -> None:
    """Write a program, the facts in its extra file facts.json."""
    path.unlink(missing_ok=True)
    content = io.BytesIO()  # its own writer of files ends the process where the disk is full
    with quiet():
        torch.export.save(traced, content, extra_files={"facts.json": json.dumps(facts)})
    path.write_bytes(content.getvalue())


def save_openvino(proto, path: Path, facts: dict[str, str]) -> None:
    """Write a graph as OpenVINO's .xml and .bin, float32, the facts in its rt_info."""
    import openvino

    with TemporaryDirectory() as folder:
        save_onnx(proto, Path(folder) / "student.onnx", facts)
        model = openvino.convert_model(Path(folder) / "student.onnx")
    for name, text in facts.items():
        model.set_rt_info(text, ["fer_distill", name])
    for written in (path, path.with_suffix(".bin")):
        written.unlink(missing_ok=True)  # an engine that has it open keeps its own
    openvino.save_model(model, path, compress_to_fp16=False)


def save_executorch(traced: torch.export.ExportedProgram, path: Path, facts: dict[str, str]) -> None:
    """Write a program as ExecuTorch's .pte, by XNNPACK where it can; a method of the file, facts, answers the facts as JSON."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        methods = {"facts": json.dumps(facts)}
        lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()], constant_methods=methods)
        path.unlink(missing_ok=True)  # an engine that has it open keeps its own
        path.write_bytes(lowered.to_executorch().buffer)


@contextmanager
def quiet():
    """Keep exporters from talking about their own inner life."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
