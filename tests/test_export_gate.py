"""The parity gate and what it guards: networks whose conversion goes right, and real ways in which it goes wrong."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_module
from run_folders import base

from distill import build, config
from distill.data.labels import EMOTIONS
from distill.data.procedural import procedural
from distill.exporting import gate, graph, int8, package, running
from distill.exporting.deployed import Bare, Deployed
from distill.features import survey
from distill.losses.reused_head import attach_reused_head
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
        cfg = config.plain(compose("run", overrides=[*words, "logger=none"]))
    return build.network(cfg, Dataset("", EMOTIONS, "", {})).eval()


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
    return student, gate.Reference(found, wanted.logits, wanted.resized)


def answer(proto, tmp_path):
    path = tmp_path / "student.onnx"
    graph.save_onnx(proto, path, {})
    return running.open_file(path, 1).answer


def rounded(student, split, tmp_path):
    """The answer of the int8 file that python -m distill.export would write."""
    net = int8.quantize(graph.bare_onnx(student), int8.calibration_images(split, student.input, 64))
    return answer(graph.whole(net, graph.prepare_onnx(student), student, 8), tmp_path)


@pytest.mark.parametrize("words", STUDENTS.values(), ids=STUDENTS)
def test_every_student_is_traced_for_every_batch_size(words):
    student = network(words)
    spec = student.input
    traced = graph.program(Bare(student), graph.example(student, False), {0: "batch"}).module()
    for number in (1, 3):
        images = torch.randn(number, spec.channels, spec.size, spec.size)
        torch.testing.assert_close(traced(images), student(images).logits, atol=1e-5, rtol=1e-5)


def test_the_mirroring_student_becomes_a_graph_that_answers_alike(split, tmp_path):
    student = network(STUDENTS["cern"])
    wanted = gate.reference(student, split, True)
    whole = graph.whole(graph.bare_onnx(student), graph.prepare_onnx(student), student, 8)
    parity = gate.measure(answer(whole, tmp_path), wanted)
    assert gate.verdict(parity, exact=True) is None and max(parity.other_batch, parity.other_size) < 1e-4


def test_a_reused_classifier_is_exported_with_its_student(tmp_path):
    student = network(STUDENTS["microexpnet"])
    attach_reused_head(student, survey(student).stages[-1], 2, torch.nn.Linear(12, 8))
    own = student.eval().out.bias.detach().clone()
    images = torch.randn(3, 1, 30, 30)
    wanted = student(images).logits.detach()
    found = answer(graph.whole(graph.bare_onnx(student), None, student, 8), tmp_path)(images.numpy())[0]
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
    verdict = gate.verdict(gate.measure(rounded(spoilt, wanted.split, tmp_path), wanted), exact=False)
    assert verdict.startswith("loses ") and "more than 0.5" in verdict


def test_a_file_that_is_right_at_one_picture_size_alone_is_refused(sharp):
    student, wanted = sharp
    right, side = running.of_torch(Deployed(student)), wanted.split.pixels.shape[2]

    def cut(batch):
        return right(np.ascontiguousarray(batch[:, :side, :side]))

    assert gate.verdict(gate.measure(right, wanted), exact=True) is None
    parity = gate.measure(cut, wanted)
    assert parity.agreement == 1 and "at another picture size" in gate.verdict(parity, exact=True)
    assert "faces of another size" in gate.verdict(parity, exact=False)


def test_a_file_that_is_right_at_one_batch_size_alone_is_refused(sharp):
    student, wanted = sharp
    right = running.of_torch(Deployed(student))

    def of_the_first(batch):
        logits, probabilities = right(batch)
        return (
            (logits, probabilities)
            if len(batch) > 7
            else (logits[:1] + 0 * logits, probabilities[:1] + 0 * probabilities)
        )

    verdict = gate.verdict(gate.measure(of_the_first, wanted), exact=True)
    assert verdict.startswith("answers otherwise at another batch size")


def test_a_file_that_disagrees_or_answers_no_numbers_is_refused(sharp):
    student, wanted = sharp
    right = running.of_torch(Deployed(student))
    verdict = gate.verdict(gate.measure(lambda batch: right(255 - batch), wanted), exact=True)
    assert verdict.startswith("agrees with the PyTorch student on ") and "less than 99.9%" in verdict
    with pytest.raises(ValueError, match="not all finite"):
        gate.measure(lambda batch: tuple(np.nan * part for part in right(batch)), wanted)
    with pytest.raises(ValueError, match="not the softmax"):
        gate.measure(lambda batch: (right(batch)[0],) * 2, wanted)


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
