"""The parity gate and what it guards: networks whose conversion goes right, and real ways in which it goes wrong."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from hydra import compose, initialize_config_module
from onnx import numpy_helper
from run_folders import base

from distill import build
from distill.config import schema as config
from distill.data.common.emotions import EMOTIONS
from distill.data.procedural import procedural
from distill.export import int8_graph as rounding
from distill.export import int8_static as int8
from distill.export import onnx_graph as graph
from distill.export import parity as gate
from distill.export import runtimes as running
from distill.export import weights_and_config as package
from distill.export.export_module import ExportModule, LogitsOnly
from distill.losses.base.reused_classifier import attach_reused_head
from distill.models.feature_hooks import inspect_layers
from distill.types import Dataset
from students.microexpnet import MicroExpNet
from students.timm_student import TimmStudent

STUDENTS = {
    "cern": ("student=cern", "student.width=0.125", "student.size=32"),
    "cern alone": ("student=cern", "student.width=0.125", "student.size=32", "student.variant=no_mirror"),
    "microexpnet": ("student=microexpnet", "student.pooling=none", "student.size=30"),
    "mobilenet_inception": ("student=mobilenet_inception", "student.reconstruction=B", "student.width=0.25"),
    "scan_cci": ("student=scan_cci", "student.backbone=resnet18", "student.pretrained=false"),
    "timm": ("student=timm", "student.name=test_resnet"),
}


def network(words):
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.typed(compose("run", overrides=[*words, "logger=none"]))
    return build.network(cfg.student, cfg.plugins, Dataset("", EMOTIONS, "", {})).eval()


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Validation faces, whose labels are what the sharp student answers."""
    data = base()["data"] | {"train": 8, "valid": 160, "test": 8, "size": 40}
    given = {key: value for key, value in data.items() if key != "_target_"}
    return procedural(tmp_path_factory.mktemp("store"), **given).splits["valid"]


@pytest.fixture(scope="module")
def sharp(split):
    """A MicroExpNet that tells faces apart, if not by their expression, and its labels."""
    torch.manual_seed(0)
    student = MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()
    with torch.no_grad():
        student.out.bias -= torch.from_numpy(gate.reference(student, split, False).logits).mean(0)
        student.out.weight *= 100
        student.out.bias *= 100
    wanted = gate.reference(student, split, True)
    found = replace(split, label=wanted.logits.argmax(1))
    assert len(set(found.label.tolist())) >= 4
    return student, gate.ReferenceOutputs(found, wanted.logits, wanted.resized)


@pytest.fixture(scope="module")
def mirroring():
    """A small CERN and its ONNX graph."""
    student = network(STUDENTS["cern"])
    return student, graph.bare_onnx(student)


def answer(proto, tmp_path):
    path = tmp_path / "student.onnx"
    graph.save_onnx(proto, path, {})
    return running.open_file(path, 1).answer


def rounded(student, split, tmp_path):
    """The answer of the int8 file that python -m distill.export would write."""
    net = int8.quantize(graph.bare_onnx(student), int8.calibration_images(split, student.input, 64))
    return answer(graph.deployable(net, graph.prepare_onnx(student), student, 8), tmp_path)


@pytest.mark.parametrize("words", STUDENTS.values(), ids=STUDENTS)
def test_every_student_is_traced_for_every_batch_size(words):
    student = network(words)
    spec = student.input
    traced = graph.program(LogitsOnly(student), graph.example(student, False), {0: "batch"}).module()
    for number in (1, 3):
        images = torch.randn(number, spec.channels, spec.size, spec.size)
        torch.testing.assert_close(traced(images), student(images).logits, atol=1e-5, rtol=1e-5)


def test_the_mirroring_student_becomes_a_graph_that_answers_alike(mirroring, split, tmp_path):
    student, net = mirroring
    wanted = gate.reference(student, split, True)
    whole = graph.deployable(net, graph.prepare_onnx(student), student, 8)
    parity = gate.measure(answer(whole, tmp_path), wanted)
    assert gate.parity_failure(parity, exact=True) is None and max(parity.other_batch, parity.other_size) < 1e-4


def test_the_mirroring_student_is_rounded_where_it_pays(mirroring, split, tmp_path):
    student, net = mirroring
    before, images = net.SerializeToString(), int8.calibration_images(split, student.input, 64)
    proto = int8.quantize(net, images)
    assert net.SerializeToString() == before
    makers = {name: node.op_type for node in proto.graph.node for name in node.output}
    kinds = [node.op_type for node in proto.graph.node]
    halves = [node for node in proto.graph.node if node.op_type == "Split"]
    assert len(halves) == kinds.count("Max") == 11 and {makers[n.input[0]] for n in halves} == {"QuantizeLinear"}
    assert "AveragePool" not in kinds
    floats = {"Sigmoid", "ReduceL2", "Div", "Mul"}
    near = {makers.get(name) for node in proto.graph.node if node.op_type in floats for name in node.input}
    assert floats <= set(kinds) and not {"QuantizeLinear"} & near, "attention and normalization stay float"
    assert all(pooled_as_given(proto)) and len(pooled_as_given(proto)) == 3
    given, wanted = images[:7].numpy(), student(images[:7]).logits.detach()
    found = answer(graph.deployable(proto, None, student, 8), tmp_path)(given)[0]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


def pooled_as_given(proto):
    """Say of each maximum over pixels whether it keeps the rounding of its input."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    users = {name: node for node in proto.graph.node for name in node.input}
    pools = [node for node in proto.graph.node if node.op_type == "MaxPool"]
    return [makers[pool.input[0]].input[1:] == users[pool.output[0]].input[1:] for pool in pools]


def test_an_answer_that_a_relu_follows_is_rounded_from_zero_on_and_pooled_as_it_was_rounded(sharp):
    student, wanted = sharp
    images = int8.calibration_images(wanted.split, student.input, 64)
    net = graph.bare_onnx(student)
    assert [node.op_type for node in net.graph.node][1:3] == ["MaxPool", "Relu"]
    proto = int8.quantize(net, images)
    assert pooled_as_given(proto) == [True, True] and "Relu" not in [node.op_type for node in proto.graph.node][:-4]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    rounded = [makers[makers[n.input[0]].input[0]] for n in proto.graph.node if n.op_type == "MaxPool"]
    assert [constants[node.input[2]] for node in rounded] == [0, 0], "no number is spent on what the Relu makes zero"


def test_rounding_before_a_maximum_changes_no_number(tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    constants = {"s": np.float32(0.02), "z": np.uint8(90)}
    nodes = [
        helper.make_node("Relu", ["images"], ["y"]),
        helper.make_node("Split", ["y"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Max", ["a", "b"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["logits"]),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, c, 5, 5]) for n, c in (("images", 6), ("logits", 3))
    ]
    made = helper.make_graph(
        nodes, "halves", values[:1], values[1:], [numpy_helper.from_array(np.array(v), n) for n, v in constants.items()]
    )
    net = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    moved = rounding.round_before_maximum(net)
    assert [n.op_type for n in moved.graph.node] == ["Relu", "QuantizeLinear", "Split", "Max", "DequantizeLinear"]
    images = 3 * np.random.default_rng(0).standard_normal((2, 6, 5, 5), dtype=np.float32)
    runs = [
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"images": images})[0]
        for proto in (net, moved)
    ]
    assert np.array_equal(*runs) and len(np.unique(runs[0])) > 10


def test_a_reused_classifier_is_exported_with_its_student(tmp_path):
    student = network(STUDENTS["microexpnet"])
    attach_reused_head(student, inspect_layers(student).stages[-1], 2, torch.nn.Linear(12, 8))
    own = student.eval().out.bias.detach().clone()
    images = torch.randn(3, 1, 30, 30)
    wanted = student(images).logits.detach()
    found = answer(graph.deployable(graph.bare_onnx(student), None, student, 8), tmp_path)(images.numpy())[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    student.out.bias.data = own + 100
    np.testing.assert_array_equal(student(images).logits.detach(), wanted)


def test_a_healthy_rounded_student_passes(sharp, tmp_path):
    student, wanted = sharp
    parity = gate.measure(rounded(student, wanted.split, tmp_path), wanted)
    assert parity.agreement > 0.9 and parity.other_batch < 0.1 and parity.other_size_agreement > 0.85
    assert parity.difference == parity.accuracy - 1 and parity.accuracy == parity.agreement, (
        "labels are its own answers"
    )


def test_a_student_with_one_huge_channel_cannot_be_rounded_and_is_refused(sharp, tmp_path):
    student, wanted = sharp
    spoilt = MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25).eval()
    spoilt.load_state_dict(student.state_dict())
    with torch.no_grad():  # the same function: ReLU and maximum pass a factor on
        spoilt.conv1.weight[0] *= 3000
        spoilt.conv1.bias[0] *= 3000
        spoilt.conv2.weight[:, 0] /= 3000
    np.testing.assert_allclose(gate.reference(spoilt, wanted.split, False).logits, wanted.logits, atol=0.05)
    verdict = gate.parity_failure(gate.measure(rounded(spoilt, wanted.split, tmp_path), wanted), exact=False)
    assert verdict.startswith("loses ") and "more than 0.5" in verdict


def test_a_file_that_is_right_at_one_picture_size_alone_is_refused(sharp):
    student, wanted = sharp
    right, side = running.from_module(ExportModule(student)), wanted.split.pixels.shape[2]

    def cut(batch):
        return right(np.ascontiguousarray(batch[:, :side, :side]))

    assert gate.parity_failure(gate.measure(right, wanted), exact=True) is None
    parity = gate.measure(cut, wanted)
    assert parity.agreement == 1 and "at another picture size" in gate.parity_failure(parity, exact=True)
    assert "faces of another size" in gate.parity_failure(parity, exact=False)


def test_a_file_that_is_right_at_one_batch_size_alone_is_refused(sharp):
    student, wanted = sharp
    right = running.from_module(ExportModule(student))

    def of_the_first(batch):
        logits, probabilities = right(batch)
        return (
            (logits, probabilities)
            if len(batch) > 7
            else (logits[:1] + 0 * logits, probabilities[:1] + 0 * probabilities)
        )

    verdict = gate.parity_failure(gate.measure(of_the_first, wanted), exact=True)
    assert verdict.startswith("answers otherwise at another batch size")


def test_a_file_that_is_wrong_about_many_faces_in_another_order_is_refused(sharp):
    student, wanted = sharp
    right = running.from_module(ExportModule(student))

    def by_place(batch):
        """Right about a batch of 32, of 1 and of 7; in a larger one each answer depends on the face before it."""
        return tuple((part + 0.01 * np.roll(part, 1, 0)) / 1.01 if len(batch) > 32 else part for part in right(batch))

    parity = gate.measure(by_place, wanted)
    assert parity.agreement == 1 and "at another batch size" in gate.parity_failure(parity, exact=True)


def test_a_file_that_disagrees_or_answers_no_numbers_is_refused(sharp):
    student, wanted = sharp
    right = running.from_module(ExportModule(student))
    verdict = gate.parity_failure(gate.measure(lambda batch: right(255 - batch), wanted), exact=True)
    assert verdict.startswith("agrees with the PyTorch student on ") and "less than 99.9%" in verdict
    with pytest.raises(ValueError, match="not all finite"):
        gate.measure(lambda batch: tuple(np.nan * part for part in right(batch)), wanted)
    with pytest.raises(ValueError, match="not the softmax"):
        gate.measure(lambda batch: (right(batch)[0],) * 2, wanted)


@pytest.mark.parametrize("number", gate.OTHER_BATCHES)
def test_a_file_that_answers_no_numbers_at_another_batch_or_picture_size_is_refused(sharp, number):
    student, wanted = sharp
    right, side = running.from_module(ExportModule(student)), wanted.split.pixels.shape[2]

    def spoilt(where):
        return lambda batch: tuple(np.nan * part if where(batch) else part for part in right(batch))

    with pytest.raises(ValueError, match="not all finite"):
        gate.measure(spoilt(lambda batch: len(batch) == number), wanted)
    with pytest.raises(ValueError, match="not all finite"):
        gate.measure(lambda batch: (right(batch)[0], spoilt(lambda b: b.shape[1] != side)(batch)[1]), wanted)


def test_a_network_that_depends_on_the_batch_size_is_refused_in_one_sentence():
    class Fixed(MicroExpNet):
        def forward(self, images):
            return super().forward(images.reshape(2, 1, 36, 36))

    with pytest.raises(ValueError, match="cannot trace this network for every batch size") as caught:
        graph.bare_onnx(Fixed(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25))
    assert "\n" not in str(caught.value)


def test_timm_reads_an_exported_timm_student_from_its_folder(tmp_path):
    node = {
        **{"_target_": "students.timm_student.TimmStudent", "name": "test_resnet", "size": 40, "channels": 1},
        **{"mean": [0.5], "std": [0.25], "pretrained": False, "drop_rate": 0.1, "weights": None},
    }
    given = {key: value for key, value in node.items() if key not in ("_target_", "weights")}
    student = TimmStudent(num_classes=8, **given).eval()
    package.save(tmp_path, student, node | {"lr_scale": None}, EMOTIONS, [], {"dataset": "none"})
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 1, 40, 40)
    assert torch.equal(theirs(images), student(images).logits)
    assert torch.equal(package.load(tmp_path)(images).logits, student(images).logits)
    assert list(theirs.pretrained_cfg["mean"]) == [0.5] and list(theirs.pretrained_cfg["input_size"]) == [1, 40, 40]
