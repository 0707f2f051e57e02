"""The forms of an exported student: what each is called, how it is made and saved, and whether it must agree exactly."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from distill.export import int8_static as int8
from distill.export import litert, parity
from distill.export import onnx_graph as graph
from distill.export import weights_and_config as package
from distill.export.options import Options
from distill.export.runtimes import ENGINES, LoadedModel, from_pytorch, open_file
from distill.export.source_run import SourceRun
from distill.system.errors import ConfigError
from distill.types import Dataset

EXACT_HINT = (
    "An operation of this network is exported wrongly: compare the students' own, and keep adaptive pooling at fixed sizes; "
    "export.preprocess=false shows whether it is the picture's preparation."
)
INT8_HINT = "Type export.int8=false to do without."
FILES = (  # of all forms
    *(package.WEIGHTS, package.CONFIG, "student.onnx", "student.pt2", "student.int8.onnx"),
    *("student.xml", "student.bin", "student.pte", "student.tflite", "student.int8.tflite"),
)


class ExportFormat(NamedTuple):
    """One form."""

    files: tuple[str, ...]  # its files; the first one is run
    make: Callable[[], Any]  # what is written; asked for each time that it is
    write: Callable[[Any, Path, dict[str, str]], None]  # takes that, the path of the first file, and the facts
    exact: bool = True  # a float form, which must agree with PyTorch; an int8 one may lose little accuracy
    hint: str = EXACT_HINT  # what to try where the gate refuses it


def export_formats(
    run: SourceRun, data: Dataset, options: Options, say: Callable[[str], None]
) -> Iterator[ExportFormat]:
    """Yield the forms that are asked for, each made when it is first written.

    Args:
        run: the finished run.
        data: its data; validation faces set the ranges of int8.
        options: what is asked for.
        say: takes a message about what is left out.

    Raises:
        ConfigError: a package is not installed, or the network cannot be exported at all.
    """
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ConfigError("export", f"missing: {', '.join(missing)}. Type pip install -e '.[export]'.")
    student, num_classes, valid = run.student, len(run.classes), data.splits["valid"]
    changed = "Its weights were changed while they were written: type the command again."
    yield ExportFormat((package.WEIGHTS, package.CONFIG), lambda: run, package.save_run, hint=changed)
    network = graph.bare_onnx(student)
    prepare = graph.prepare_onnx(student) if options.preprocess else None
    complete = graph.deployable(network, prepare, student, num_classes, run.temperature)
    yield ExportFormat(("student.onnx",), lambda: complete, graph.save_onnx)
    traced = cache(lambda: graph.deployed(student, options.preprocess, run.temperature))
    yield ExportFormat(("student.pt2",), traced, graph.save_program)
    picture = valid.pixels.shape[2:]
    one = cache(lambda: graph.deployed(student, options.preprocess, run.temperature, picture))
    light = cache(lambda: litert.float32(student, options.preprocess, picture, num_classes, run.temperature))
    without = "Type export.litert=false to do without."
    engine_forms = {
        "openvino": [ExportFormat(("student.xml", "student.bin"), lambda: complete, graph.save_openvino)],
        "executorch": [ExportFormat(("student.pte",), one, graph.save_executorch)],
        "litert": [ExportFormat(("student.tflite",), light, litert.save, hint=without)],
    }
    if options.int8:
        rounded: dict[str, Any] = {"exact": False, "hint": INT8_HINT}
        images = int8.calibration_images(valid, student.input, options.calibration)
        quantized = cache(
            lambda: graph.deployable(int8.quantize(network, images), prepare, student, num_classes, run.temperature)
        )
        yield ExportFormat(("student.int8.onnx",), quantized, graph.save_onnx, **rounded)
        rows, spec = int8.evenly_spaced(valid, options.calibration), None if options.preprocess else student.input
        light8 = cache(lambda: litert.int8(light(), np.split(parity.inputs(valid, rows, spec), len(rows))))
        rounded["hint"] = "Type export.int8=false, or export.litert=false, to do without."
        engine_forms["litert"].append(ExportFormat(("student.int8.tflite",), light8, litert.save, **rounded))
    packages = {extra: package for package, extra in ENGINES.values()}
    for name, forms in engine_forms.items():
        if getattr(options, name) and find_spec(packages[name]) is None:
            say(f"export.{name}: left out, {packages[name]} is not installed. Type pip install -e '.[{name}]'.")
        elif getattr(options, name):
            yield from forms


def load_exported(form: ExportFormat, folder: Path, options: Options, plugins: Sequence[str]) -> LoadedModel:
    """Open a form that lies in a folder; its network may be from these packages, too."""
    if form.files[0] == package.WEIGHTS:
        return from_pytorch(package.load(folder, plugins), options.preprocess)
    return open_file(folder / form.files[0], torch.get_num_threads(), fresh=True)
