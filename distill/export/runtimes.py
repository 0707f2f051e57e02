"""Any exported file as one function: pictures -> logits and probabilities. Only the file's own engine is imported."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np

from distill.system.cli import format_error, not_installed

Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
PARITY = "parity.json"
ENGINES = {
    ".onnx": ("onnxruntime", "export"),
    ".pt2": ("torch", "export"),
    ".xml": ("openvino", "openvino"),
    ".pte": ("executorch", "executorch"),
    ".tflite": ("ai_edge_litert", "litert"),
}
FACTS = "facts.json"  # in .pt2 and .tflite files
GRAPH_SHA256 = "graph_sha256"  # in the facts of a .tflite file
ANSWERS = ("logits", "probabilities")
LIMITS = "An expression on a face is not an emotion; no answer of this network supports a decision about a person."


class LoadedModel(NamedTuple):
    """An exported file, ready to run."""

    answer: Answer  # input [B, ...] -> logits, probabilities [B, K]
    dtype: str  # of the input: uint8 (pictures) or float32 (the bare network's)
    shape: tuple[int | None, ...]  # of the input; None where a size is free
    facts: dict[str, str]  # name -> text, as the file's metadata has them


def refuse_changed(path: Path, needed: bool = False) -> None:
    """Refuse an exported file that is not the one of which parity.json beside it tells.

    Args:
        path: the file.
        needed: refuse a file, too, of which none tells.

    Raises:
        ValueError: with what to type.
    """
    parity, again = path.with_name(PARITY), "Type python -m distill.export RUN, and give what it writes."
    try:
        files = json.loads(parity.read_text(encoding="utf-8"))["files"].values() if parity.is_file() else ()
        recorded = {name: value for entry in files for name, value in entry.get("sha256", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{parity}: damaged, or of an earlier version. {again}") from None
    if path.name not in recorded:
        if needed:
            raise ValueError(
                f"{path}: not opened: a {path.suffix} file can hold code that is run, and no {PARITY} beside it says that it "
                f"is one of this project's exports. {again}"
            )
        return
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != recorded[path.name]:
            raise ValueError(f"{path}: damaged or changed: it is not the file that passed the gate. {again}")


def open_file(path: Path, threads: int, fresh: bool = False) -> LoadedModel:
    """Open an exported file, after comparing it with parity.json where one lies beside it.

    Args:
        path: .onnx, .pt2 (only with a parity.json that tells of it), .xml (OpenVINO), .pte (ExecuTorch) or .tflite (LiteRT).
        threads: of the engine.
        fresh: this process has just written it; parity.json comes last.

    Raises:
        ValueError: no such file, not such a file, changed since it was exported, or its engine is not installed.
    """
    openers = {".onnx": _onnx, ".pt2": _pt2, ".xml": _openvino, ".pte": _executorch, ".tflite": _litert}
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Type python -m distill.export RUN to make one.")
    if path.suffix not in openers:
        raise ValueError(f"{path}: not an exported file. Give one that ends in {', '.join(openers)}.")
    if not fresh:
        for part in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
            refuse_changed(part, needed=path.suffix == ".pt2")
    try:
        return openers[path.suffix](path, threads)
    except ImportError as error:
        package, extra = ENGINES[path.suffix]
        raise ValueError(f"{path}: {not_installed(package, error, extra)}") from None
    except Exception as error:  # each engine raises its own
        raise ValueError(
            f"{path}: damaged, or no {path.suffix} file of a student ({format_error(error, inside=True)}). Export it again."
        ) from error


def onnx_session(model: bytes, threads: int, of_one_size: bool = True):
    """Return onnxruntime's session of a file's content, on the CPU; memory is planned ahead where inputs are of one size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.enable_mem_pattern = of_one_size
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnx(path: Path, threads: int) -> LoadedModel:
    session = onnx_session(path.read_bytes(), threads)  # its name may have bytes that onnxruntime does not take
    (given,) = session.get_inputs()
    shape = tuple(size if isinstance(size, int) else None for size in given.shape)
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}[given.type]
    facts = dict(session.get_modelmeta().custom_metadata_map)
    return LoadedModel(lambda batch: tuple(session.run(list(ANSWERS), {given.name: batch})), dtype, shape, facts)


def _pt2(path: Path, threads: int) -> LoadedModel:
    import torch

    torch.set_num_threads(threads)
    more = {FACTS: ""}
    program = torch.export.load(path, extra_files=more)
    (given,) = program.example_inputs[0]
    dtype = str(given.dtype).removeprefix("torch.")
    shape = (None, None, None, 3) if dtype == "uint8" else (None, *given.shape[1:])
    return LoadedModel(from_module(program.module()), dtype, shape, json.loads(more[FACTS] or "{}"))


def from_module(module) -> Answer:
    """Return the function of a PyTorch module: tensor -> logits, probabilities."""
    import torch

    def answer(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            logits, probabilities = module(torch.from_numpy(batch))
        return logits.numpy(), probabilities.numpy()

    return answer


def from_pytorch(student, preprocess: bool, facts: dict[str, str] | None = None) -> LoadedModel:
    """Return a PyTorch student as an exported file would be: with the picture's preparation, or the network alone."""
    from distill.export.export_module import ExportModule

    module, spec = ExportModule(student, preprocess).eval(), student.input
    shape = (None, None, None, 3) if preprocess else (None, spec.channels, spec.size, spec.size)
    return LoadedModel(from_module(module), "uint8" if preprocess else "float32", shape, facts or {})


def _executorch(path: Path, threads: int) -> LoadedModel:
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)  # unsafe while it runs
    loaded = Runtime.get().load_program(path)
    method = loaded.load_method("forward")
    given = method.metadata.input_tensor_meta(0)
    dtype = {0: "uint8", 6: "float32"}[given.dtype()]  # numbers of torch's scalar types

    def run(picture: np.ndarray) -> list[np.ndarray]:
        return [part.numpy() for part in method.execute([torch.from_numpy(picture)])]

    (facts,) = loaded.load_method("facts").execute([])
    return LoadedModel(_one_by_one(run), dtype, (None, *given.sizes()[1:]), json.loads(facts))


def _one_by_one(run: Callable[[np.ndarray], Sequence[np.ndarray]]) -> Answer:
    """Return the function of a file for one picture: a batch of B is B passes."""

    def answer(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, probabilities = zip(*(run(batch[k : k + 1]) for k in range(len(batch))), strict=True)
        return np.concatenate(logits), np.concatenate(probabilities)

    return answer


def _litert(path: Path, threads: int) -> LoadedModel:
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()
    with ZipFile(io.BytesIO(content)) as archive:
        facts, end = json.loads(archive.read(FACTS)), archive.getinfo(FACTS).header_offset
    # a graph that is damaged may answer, or end the process
    if facts.pop(GRAPH_SHA256, None) not in (None, hashlib.sha256(content[:end]).hexdigest()):
        raise ValueError("its graph does not have the SHA-256 behind it")
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    (given,), answers = interpreter.get_input_details(), interpreter.get_output_details()

    def run(picture: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(given["index"], picture)
        interpreter.invoke()
        return [interpreter.get_tensor(answer["index"]) for answer in answers]

    shape = (None, *(int(size) for size in given["shape"][1:]))
    return LoadedModel(_one_by_one(run), np.dtype(given["dtype"]).name, shape, facts)


def _openvino(path: Path, threads: int) -> LoadedModel:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(path)
    compiled, (given,) = core.compile_model(model, "CPU", settings), model.inputs
    shape = tuple(None if size.is_dynamic else size.get_length() for size in given.partial_shape)
    dtype = "uint8" if given.element_type.to_dtype() == np.uint8 else "float32"
    notes = model.get_rt_info(["fer_distill"]).value
    facts = {name: str(getattr(value, "value", value)) for name, value in notes.items()}

    def answer(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = compiled(batch)
        return outputs["logits"], outputs["probabilities"]

    return LoadedModel(answer, dtype, shape, facts)
