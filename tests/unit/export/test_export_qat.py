"""Fine-tuning with the rounding of int8: what it changes, and when it ends."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from exported import export, small_run

from distill.export import int8_static as int8
from distill.export import onnx_graph as graph
from distill.export import parity as gate
from distill.export import source_run as finished
from distill.export.int8_qat import fine_tuned
from distill.export.options import Options


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("home"))


@pytest.fixture()
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "run"))


def test_fine_tuning_with_the_rounding_teaches_a_copy_and_leaves_no_rounding_in_it(folder):
    run = finished.read_run(folder, [])
    before = {name: tensor.clone() for name, tensor in run.student.state_dict().items()}
    asked = Options(int8="qat", qat_epochs=1, qat_rounds=2, qat_lr=1e-3)
    rounds = [dict(tuned.state_dict()) for tuned in fine_tuned(run, finished.faces(run), asked)]
    assert len(rounds) == 2
    tuned = rounds[-1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.student.state_dict().items())
    assert set(tuned) == set(before) and all(tensor.isfinite().all() for tensor in tuned.values())
    changes = [float((tensor - before[name]).abs().max()) for name, tensor in tuned.items()]
    assert 0 < max(changes) < 0.05 and len(tuned["out.weight"].unique()) > 127


def test_fine_tuning_brings_a_student_that_rounding_spoils_nearer_to_itself(folder):
    run = finished.read_run(folder, [])
    data = finished.faces(run)
    with torch.no_grad():  # the same function, but what the other channels say is lost in the rounding of one
        run.student.conv1.weight[0] *= 100
        run.student.conv1.bias[0] *= 100
        run.student.conv2.weight[:, 0] /= 100
    images = int8.calibration_images(data.splits["valid"], run.student.input, 64)
    wanted = run.student(images).logits.detach()

    def far(student):
        proto = graph.whole(int8.quantize(graph.bare_onnx(student), images), None, run.student, 8)
        session = onnxruntime.InferenceSession(proto.SerializeToString())
        return np.square(session.run(["logits"], {"images": images.numpy()})[0] - wanted.numpy()).mean()

    before = far(run.student)
    (tuned,) = fine_tuned(run, data, Options(int8="qat", qat_epochs=40, qat_rounds=1))
    assert far(tuned) < 0.7 * before


@pytest.mark.parametrize("good, passes", [(3, True), (4, False)])
def test_fine_tuning_goes_on_round_by_round_until_the_file_passes_or_the_rounds_are_used(
    copy, capsys, monkeypatch, good, passes
):
    verdict, seen = gate.verdict, []

    def strict(parity, exact):
        seen.append(exact)
        return verdict(parity, exact) if exact else "loses too much" if seen.count(False) < good else None

    monkeypatch.setattr(gate, "verdict", strict)
    out, said = export(capsys, copy, "export.int8=qat", "export.qat_epochs=1")
    assert seen.count(False) == 3 and out.count("it is fine-tuned on") == 2
    assert (said is None) == passes == (copy / "export" / "student.int8.onnx").is_file()
    assert passes or "export.qat_rounds=6" in said
