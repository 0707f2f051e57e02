"""A served page for tests: an exported student, a stand-in for CenterFace, the engine from npm, and a server."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.data.common.emotions import EMOTIONS
from distill.export import onnx_graph as graph
from distill.serve import __main__ as serve
from distill.serve.engine import engine
from distill.serve.site import site
from students.microexpnet import MicroExpNet

STORE = Path(os.environ.get("FER_DISTILL_STORE", "~/.cache/fer-distill")).expanduser()
FACTS = {"classes": json.dumps(EMOTIONS), "picture": "[48, 48]", "student": "tiny", "num_parameters": "1234"}


def write_student(home: Path) -> Path:
    """Write an exported student with large logits, its bare network, its card and a detector."""
    torch.manual_seed(0)
    student = MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()
    with torch.no_grad():
        list(student.parameters())[-2].mul_(60)
    network, prepare = graph.bare_onnx(student), graph.prepare_onnx(student)
    graph.save_onnx(graph.deployable(network, prepare, student, 8), home / "student.onnx", FACTS)
    graph.save_onnx(graph.deployable(network, None, student, 8), home / "bare.onnx", FACTS)
    (home / "model-card.md").write_text("# A card", encoding="utf-8")
    write_detector(home / "detector.onnx")
    return home


def write_detector(path: Path) -> None:
    """Write a network with CenterFace's inputs and outputs, as it is shipped; a bright spot of 4 pixels is a face of 40 x 32."""
    from onnx import TensorProto, checker, helper, numpy_helper, save_model

    value, nodes, weights = helper.make_tensor_value_info, [], []
    kernels = {"537": [0.1 / 48], "538": [0, 0], "539": [0, 0], "540": [0] * 10}
    biases = {"537": [-20], "538": np.log([10, 8]), "539": [0.25, -0.25], "540": [0] * 10}
    for name, kernel in kernels.items():
        tensor = np.broadcast_to(np.array(kernel, np.float32)[:, None, None, None], (len(kernel), 3, 4, 4))
        weights += [numpy_helper.from_array(tensor.copy(), f"{name}.weight")]
        weights += [numpy_helper.from_array(np.array(biases[name], np.float32), f"{name}.bias")]
        out = "logit" if name == "537" else name
        nodes.append(helper.make_node("Conv", ["input.1", f"{name}.weight", f"{name}.bias"], [out], strides=[4, 4]))
    nodes.append(helper.make_node("Sigmoid", ["logit"], ["537"]))
    given = [value("input.1", TensorProto.FLOAT, [10, 3, 32, 32])]
    given += [value(tensor.name, TensorProto.FLOAT, list(tensor.dims)) for tensor in weights]
    answers = [value(name, TensorProto.FLOAT, [10, len(kernel), 8, 8]) for name, kernel in kernels.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "bright", given, answers, weights), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    checker.check_model(model)
    save_model(model, path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, exported."""
    return write_student(tmp_path_factory.mktemp("a run, käse"))


@pytest.fixture(scope="module")
def files(home):
    """What its page is made of."""
    return page_files(home)


@pytest.fixture(scope="module")
def address(files):
    """Where its page is served."""
    with served(files) as address:
        yield address


@pytest.fixture
def plain_address(files, monkeypatch):
    """Where the page is served without the headers that allow threads."""
    for header in ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy"):
        monkeypatch.delitem(serve.HEADERS, header)
    with served(files) as address:
        yield address


def page_files(home: Path) -> dict[str, bytes]:
    """Return the page's files; where npm cannot give the engine, the test is skipped."""
    try:
        return site(home / "student.onnx", engine(STORE), home / "detector.onnx")
    except ValueError as error:
        pytest.skip(str(error))


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files and say where."""
    page = serve.server(files, "127.0.0.1", 0)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    with page:
        yield f"http://127.0.0.1:{page.server_address[1]}/"
        page.shutdown()
