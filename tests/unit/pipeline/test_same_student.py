"""What is exported, measured and taught by is what was trained: a student whose code was changed since is refused."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch
from exported import export
from inside import folder_of, job

from distill import measure, publish
from distill.evaluation.inference import PROBE, probe, read_predictions, refuse_changed_network
from distill.export import load
from distill.export import parity as gate
from distill.export import weights_and_config as package
from distill.run import begin
from distill.runs.folder import RunFolder
from distill.sweep import jobs
from distill.system.weights import load_weights, read_weights, save_weights
from students.microexpnet import MicroExpNet

STUDENT = """\
from torch import nn
from students.microexpnet import MicroExpNet
from mine import parts


class Net(MicroExpNet):
    def forward(self, images):
        answer = super().forward(images)
        return answer._replace(logits=parts.act(answer.logits))
"""
ACT, CHANGED = "def act(x):\n    return x.relu()\n", "def act(x):\n    return x * (x + 3).clamp(0, 6) / 6\n"
WORDS = (
    "teacher=none",
    "loss=[ce]",
    "train.epochs=1",
    "data.size=40",
    "student._target_=mine.net.Net",
    "plugins=[mine]",
)


def write_code(home, act):
    """Write the package of a student of one's own, and forget the one that was imported."""
    (home / "mine").mkdir(exist_ok=True)
    (home / "mine" / "__init__.py").touch()
    (home / "mine" / "net.py").write_text(STUDENT)
    (home / "mine" / "parts.py").write_text(act)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A finished run of a student of one's own: the folder of its package, its run folder and its store."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        patch.setattr(
            sys, "dont_write_bytecode", True
        )  # both versions are written within a second, and are of one size
        write_code(home, ACT)
        job(*WORDS, store=home / "store", runs=home / "runs")
        yield home, folder_of(home / "runs")
    write_code(home, ACT)


@pytest.fixture()
def changed(own, monkeypatch):
    """The same after one line of it was changed."""
    home, folder = own
    write_code(home, CHANGED)
    yield home, folder
    write_code(home, ACT)


def test_a_student_whose_code_was_changed_is_neither_exported_nor_measured_nor_a_teacher(changed, capsys):
    home, folder = changed
    said = export(capsys, folder)[1]
    assert re.search(
        r"best\.safetensors: its network answers otherwise today .* its code, or .*, was changed since\. Bring", said
    )
    assert not (folder / "export").exists()
    with pytest.raises(ValueError, match="answers otherwise today"):
        measure.measure(folder, ["train.device=cpu"])
    with pytest.raises(SystemExit, match="answers otherwise today"):
        words = ("teacher=run", f"teacher.run={folder}", "plugins=[mine]", "train.epochs=1")
        job(*words, store=home / "store", runs=home / "taught")


def test_a_student_that_does_not_answer_as_its_predictions_say_is_not_exported(own, capsys, monkeypatch):
    _, folder = own
    monkeypatch.setattr("distill.evaluation.inference.refuse_changed_network", lambda *given: None)
    monkeypatch.setattr("mine.parts.act", lambda x: 7 * x.flip(1))
    said = export(capsys, folder)[1]
    assert re.search(
        r"answers otherwise than predictions/valid\.csv says: mean \|dp\| 0\.\d+, the same answer for .*%", said
    )
    assert "Code or weights were changed since" in said and not (folder / "export").exists()


def test_predictions_that_are_gone_or_of_other_faces_are_told_with_what_to_delete(own, tmp_path, capsys):
    folder = shutil.copytree(own[1], tmp_path / "copy")
    file = folder / "predictions" / "valid.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], *lines[:0:-1]]))
    assert "valid.csv: is of other faces" in export(capsys, folder)[1]
    file.unlink()
    said = export(capsys, folder)[1]
    assert "valid.csv is missing. Type the run's command again: it is measured anew." in said


def test_an_unchanged_student_passes_and_its_files_are_compared_with_the_runs_predictions(own, tmp_path, capsys):
    _, folder = own
    out, _ = export(capsys, folder, "export.int8=false")
    assert "student.onnx" in out and {"student.onnx", "student.pt2"} <= {p.name for p in (folder / "export").iterdir()}
    load(folder / "export", plugins=["mine"])
    write_code(own[0], CHANGED)
    with pytest.raises(
        ValueError, match=rf"^{folder}/export/student\.safetensors: its network answers otherwise today"
    ):
        publish.publish(folder, tmp_path / "hub", False)
    write_code(own[0], ACT)
    shutil.rmtree(folder / "export")


def test_a_sweep_ends_with_the_code_that_was_changed_since_its_jobs_were_made(changed, tmp_path, capsys):
    record = jobs.Record(jobs.add(tmp_path, 0, "seed=0", ["seed=0"]))
    record.begin(changed[1])
    begin(RunFolder(changed[1]), True, False, [], record)
    record.close(0)
    capsys.readouterr()
    jobs.finalize_sweep(tmp_path)
    assert "*** CODE CHANGED since 1 of 1 jobs were made: mine.parts. They are" in capsys.readouterr().out


def test_a_file_that_answers_otherwise_than_the_run_is_refused():
    numbers = {"agreement": 1.0, "accuracy": 0.5, "accuracy_ci": (0.4, 0.6), "difference": 0.0, "other_batch": 0.0}
    numbers |= {"other_size": 0.0, "other_size_agreement": 1.0, "other_sizes": 0}
    assert gate.parity_failure(gate.Parity(**numbers, recorded=0.004), exact=True) is None
    assert "predictions/valid.csv" in gate.parity_failure(gate.Parity(**numbers, recorded=0.006), exact=True)


@pytest.fixture()
def student():
    torch.manual_seed(0)
    return MicroExpNet(8, 36, "XXS", "both", 0.0, "xavier", 0.5, 0.25)


def test_a_probe_is_of_the_network_in_eval_mode_and_leaves_its_mode(student):
    student.train()
    first = probe(student)
    assert student.training and first == probe(student.eval()) and np.array(first).shape == (4, 8)
    with torch.no_grad():
        student.out.bias += 0.01
    assert probe(student) != first


def test_an_exported_folder_whose_code_answers_otherwise_is_not_loaded(student, tmp_path, monkeypatch):
    node = {"_target_": "students.microexpnet.MicroExpNet", "size": 36, "width": "XXS", "pooling": "both"}
    node |= {"dropout": 0.0, "init": "xavier", "mean": 0.5, "std": 0.25, "weights": None}
    package.save(tmp_path, student, node, tuple("abcdefgh"), [], {})
    assert load(tmp_path).classes == tuple("abcdefgh")
    monkeypatch.setattr(torch, "relu", torch.sigmoid)
    monkeypatch.setattr("torch.nn.functional.relu", torch.sigmoid)
    with pytest.raises(ValueError, match=r"student\.safetensors: its network answers otherwise today"):
        load(tmp_path)


def test_weights_of_another_origin_have_no_probe_and_are_taken(student, tmp_path):
    save_weights(tmp_path / "w.safetensors", student, {"classes": ["a"]})
    metadata = load_weights(student, tmp_path / "w.safetensors", "student.weights")
    refuse_changed_network(student, metadata, tmp_path)
    with pytest.raises(ValueError, match="answers otherwise"):
        refuse_changed_network(student, metadata | {PROBE: [[0.0] * 8] * 4}, tmp_path)


def test_a_run_keeps_the_probe_of_its_best_weights(own):
    metadata = read_weights(own[1] / "checkpoints" / "best.safetensors")[1]
    assert np.array(metadata[PROBE]).shape == (4, len(metadata["classes"]))
    assert len(read_predictions(own[1] / "predictions" / "valid.csv", metadata["classes"])[0]) == 32
