"""The forms of an exported student: what each is called, how it is made and saved, and whether it must agree exactly."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from distill.export import int8_static as int8
from distill.export import onnx_graph as graph
from distill.export import openvino_executorch as engines
from distill.export import weights_and_config as package
from distill.export.options import Options
from distill.export.runtimes import Opened, of_student, open_file
from distill.export.source_run import Finished
from distill.types import Dataset


class Form(NamedTuple):
    """One form.

    Args:
        files: its files; the first one is run.
        exact: a float form, which must agree with PyTorch; an int8 one may lose little accuracy.
        save: (folder, facts) -> None.
        hint: what to try where the gate refuses it.
    """

    files: tuple[str, ...]
    exact: bool
    save: Callable[[Path, dict[str, str]], None]
    hint: str


FILES = (
    *(package.WEIGHTS, package.CONFIG, "student.onnx", "student.pt2", "student.int8.onnx"),
    *("student.xml", "student.bin", "student.pte"),
)  # of all forms


def forms(run: Finished, data: Dataset, options: Options, say: Callable[[str], None]) -> Iterator[Form]:
    """Yield the forms that are asked for, each made when it is first saved.

    Args:
        run: the finished run.
        data: its data; validation faces set the ranges of int8.
        options: what is asked for.
        say: takes a sentence about what is left out.

    Raises:
        ValueError: a package is not installed, or the network cannot be exported at all.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    student, cfg = run.student, run.cfg
    weights = (package.WEIGHTS, package.CONFIG)
    yield Form(
        weights,
        True,
        lambda folder, facts: package.save(
            folder, student, cfg["student"], run.classes, cfg["plugins"], facts, run.temperature
        ),
        "Its weights were changed while they were written: type the command again.",
    )
    network = graph.bare_onnx(student)
    prepare = graph.prepare_onnx(student) if options.preprocess else None
    whole = graph.whole(network, prepare, student, len(run.classes), run.temperature)
    yield Form(("student.onnx",), True, _onnx("student.onnx", lambda: whole), EXACT_HINT)
    traced = cache(lambda: graph.deployed(student, options.preprocess, run.temperature))
    yield Form(
        ("student.pt2",),
        True,
        lambda folder, facts: graph.save_program(traced(), folder / "student.pt2", facts),
        EXACT_HINT,
    )
    if options.int8:
        images = int8.calibration_images(data.splits["valid"], student.input, options.calibration)
        rounded = cache(
            lambda: graph.whole(int8.quantize(network, images), prepare, student, len(run.classes), run.temperature)
        )
        save = _onnx("student.int8.onnx", rounded)
        yield Form(("student.int8.onnx",), False, save, "Type export.int8=false to do without.")
    for name, make in (("openvino", _openvino), ("executorch", _executorch)):
        if getattr(options, name) and find_spec(name) is None:
            say(f"export.{name}: left out, {name} is not installed. Type pip install -e '.[{name}]'.")
        elif getattr(options, name):
            yield make(run, data, options, whole)


def _openvino(run: Finished, data: Dataset, options: Options, whole) -> Form:
    files = ("student.xml", "student.bin")
    return Form(files, True, lambda folder, facts: engines.save_openvino(whole, folder / files[0], facts), EXACT_HINT)


def _executorch(run: Finished, data: Dataset, options: Options, whole) -> Form:
    picture = data.splits["valid"].pixels.shape[2:]
    traced = cache(lambda: graph.of_one_picture(run.student, options.preprocess, picture, run.temperature))
    return Form(
        ("student.pte",),
        True,
        lambda folder, facts: engines.save_executorch(traced(), folder / "student.pte", facts),
        EXACT_HINT,
    )


EXACT_HINT = (
    "An operation of this network is exported wrongly: compare the students' own, and keep adaptive pooling at fixed sizes; "
    "export.preprocess=false shows whether it is the picture's preparation."
)


def _onnx(name: str, make: Callable) -> Callable[[Path, dict[str, str]], None]:
    return lambda folder, facts: graph.save_onnx(make(), folder / name, facts)


def _require(*names: str) -> None:
    if missing := [name for name in names if find_spec(name) is None]:
        raise ValueError(f"export: {', '.join(missing)} not installed. Type pip install -e '.[export]'.")


def opened(form: Form, folder: Path, options: Options, plugins: Sequence[str]) -> Opened:
    """Open a form that lies in a folder; its network may be from these packages, too."""
    if form.files[0] == package.WEIGHTS:
        return of_student(package.load(folder, plugins), options.preprocess)
    return open_file(folder / form.files[0], torch.get_num_threads(), fresh=True)
