"""data.labels=none: a teacher alone teaches, nothing that needs labels is claimed, and result, report and export work."""

import csv
import json

import numpy as np
import pytest
import torch
from commandline import ROOT
from face_trees import save, write_class_folders
from inside import folder_of, job, read

from distill.evaluation.metrics import agreement, evaluate_likeness
from distill.export.__main__ import main as export
from distill.measure import main as measure
from distill.publish import main as publish
from distill.report.__main__ import main as report
from distill.runs.reading import read as read_run

NONE = ("data=folder", "data.labels=none", "data.size=32", "data.valid=0.3", "data.test=0.3")
TAUGHT = (
    "student=microexpnet",
    "train.epochs=2",
    "train.batch_size=8",
    "train.threads=1",
    "train.precision=fp32",
    "student.size=36",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def teacher(store, tmp_path_factory):
    """A finished run on synthetic faces: it knows eight classes."""
    runs = tmp_path_factory.mktemp("teacher")
    job("teacher=none", "loss=[ce]", "train.epochs=1", "student.pooling=none", store=store, runs=runs)
    return folder_of(runs)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for k in range(60):
        save(root / f"{k % 3}" / f"face{k}.png")
    return root


@pytest.fixture(autouse=True)
def whole_words(monkeypatch):
    """The words of a tiny job without the sizes of synthetic faces."""
    monkeypatch.setattr("inside.SMALL", ())


@pytest.fixture(scope="module")
def taught(teacher, pictures, store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    words = ("teacher=run", f"teacher.run={teacher}", "teacher.precision=fp32", f"data.root={pictures}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inside.SMALL", ())
        return job(*NONE, *words, *TAUGHT, store=store, runs=runs), folder_of(runs)


def test_losses_that_need_labels_are_left_out_and_the_epoch_is_chosen_by_agreement(taught):
    printed, folder = taught
    said = " ".join(printed.split())
    assert "data.labels=none: the teacher alone teaches, by dist (ce would need labels and is left out)" in said
    assert (
        "best epoch by valid/agreement" in said and "agrees with the teacher on valid" in said and "top-1" not in said
    )
    result = read(folder)
    assert result["monitor"] == "valid/agreement" and result["data"]["classes"][0] == "neutral"
    assert len(result["data"]["classes"]) == 8 and "without labels" in result["data"]["protocol"]
    assert result["student"]["metrics"].keys() == {
        f"{split}/{name}" for split in ("valid", "test") for name in ("agreement", "agreement_ci", "kl")
    }
    assert result["teacher"]["metrics"] == {} and result["calibration"] == {} and result["extra_test_splits"] == {}
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    curve = [line["valid/agreement"] for line in lines if "valid/agreement" in line]
    assert len(curve) == 2 and result["best_epoch"] == int(np.argmax(curve))
    assert result["student"]["metrics"]["valid/agreement"] == pytest.approx(max(curve))


def test_every_width_learns_without_labels_and_the_front_is_told_by_agreement(teacher, pictures, store, tmp_path):
    words = ("student=ferlite", "student.width=[1,0.25]", "student.size=16", "train.epochs=1", "train.batch_size=8")
    words += ("train.threads=1", "train.precision=fp32", "teacher=run", f"teacher.run={teacher}")
    said = job(*NONE, *words, f"data.root={pictures}", store=store, runs=tmp_path)
    assert "inplace (the widest width, weight 1)" in " ".join(said.split())
    assert "valid agreement" in said and "top-1" not in said
    (first, narrow), folder = read(folder_of(tmp_path))["widths"], folder_of(tmp_path)
    assert f"{narrow['num_parameters']:,}" in said and f"{first['valid/agreement']:.2%}" in said
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert all(line["train/inplace"] > 0 for line in lines if "train/dist" in line)


def test_predictions_have_no_label_and_say_the_agreement(taught):
    folder = taught[1]
    with open(folder / "predictions" / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {""}
    same = np.mean([row["prediction"] == row["teacher_prediction"] for row in rows])
    assert read(folder)["student"]["metrics"]["test/agreement"] == pytest.approx(same)


def test_likeness_is_agreement_and_the_divergence_from_the_teacher():
    rng = torch.Generator().manual_seed(0)
    own, theirs = torch.randn(50, 4, generator=rng), torch.randn(50, 4, generator=rng)
    found = evaluate_likeness(own, theirs)
    expected = torch.nn.functional.kl_div(own.log_softmax(1), theirs.softmax(1), reduction="batchmean")
    assert found["kl"] == pytest.approx(float(expected), rel=1e-5) and found["agreement"] == agreement(own, theirs)
    assert found["agreement_ci"][0] <= found["agreement"] <= found["agreement_ci"][1]
    assert evaluate_likeness(theirs, theirs) == {"agreement": 1.0, "agreement_ci": [1.0, 1.0], "kl": pytest.approx(0)}


def test_the_report_ranks_such_runs_by_agreement_and_claims_no_accuracy(taught, tmp_path):
    assert read_run(taught[1]).status == "complete"
    report([str(taught[1]), "--out", str(tmp_path)])
    page, table = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "agreement with the teacher on validation: these faces have no labels" in page
    assert "Agreement with the teacher by epoch" in page and "nobody has said what these faces show" in page
    assert "valid agreement (%)" in table and "top-1" not in table


def test_an_export_keeps_the_runs_own_answers_and_its_card_says_what_was_measured(taught, tmp_path, capsys):
    folder = taught[1]
    export([str(folder), "export.int8=false"])  # of 13 faces, and two epochs, one other answer would be 7.7 points
    assert "no labels, so no accuracy" in " ".join(capsys.readouterr().out.split())
    found = json.loads((folder / "export" / "parity.json").read_text())
    assert not found["refused"] and found["facts"]["temperature"] == "1.0"
    assert not any("top1_accuracy" in name for name in found["facts"])
    assert (
        float(found["facts"]["valid_agreement_with_the_teacher"])
        == read(folder)["student"]["metrics"]["valid/agreement"]
    )
    assert found["files"]["student.onnx"]["accuracy"] == 1.0
    publish([str(folder), str(tmp_path / "hub")])
    card = (tmp_path / "hub" / "README.md").read_text()
    own = read(folder)["student"]["metrics"]
    assert f"| test | 18 | {100 * own['test/agreement']:.2f}% (" in card and "no accuracy is known of them" in card
    assert (
        "top-1" not in card
        and "Each class" not in card
        and "how often either is right on such faces is not known" in card
    )


def test_labels_that_are_found_later_measure_such_a_run(taught, store, tmp_path):
    root = write_class_folders(tmp_path / "known", ("happy", "sad", "neutral"), 6)
    measure([str(taught[1]), "data=folder", f"data.root={root}", "data.size=32", "data.test=1", f"paths.store={store}"])
    (path,) = (taught[1] / "measured").glob("folder-*.json")
    found = json.loads(path.read_text())
    assert (
        found["classes"]["compared"] == ["neutral", "happiness", "sadness"] and 0 <= found["test"]["top1_accuracy"] <= 1
    )
    with pytest.raises(SystemExit, match=r"data\.labels: none says nothing that answers could be compared with"):
        measure([str(taught[1]), f"paths.store={store}"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("teacher=none",), r"data\.labels: got none, and teacher none has not learned yet"),
        (
            ("teacher=timm", "teacher.name=test_resnet"),
            r"teacher test_resnet has not learned yet, which takes labels\. Type teacher=ferplus",
        ),
        (("loss=[ce,dkd]",), r"loss: ce, dkd need labels, and data\.labels=none has none\. Type loss=\[kd\]"),
        (("train.class_balance_power=0.5",), r"train\.class_balance_power: got 0\.5, which needs labels"),
        (("eval.robustness=[mask]",), r"eval\.robustness: got \['mask'\], which needs labels"),
        (("generations=2",), r"generations: got 2, which needs labels"),
        (("data.labels=some",), r"data\.labels: expected folders, .* or none, got 'some'"),
        (
            ("data.labels=folders", "data.classes=[happiness,neutral]"),
            r"data\.classes: expected null, .* got \['happiness', 'neutral'\]",
        ),
        (
            ("data.labels=folders", "train.monitor=valid/agreement"),
            r"train\.monitor: got valid/agreement; where there are labels",
        ),
    ],
)
def test_unlabeled_run_with_what_needs_labels_is_refused(words, sentence, teacher, pictures, store, tmp_path):
    mine = ("teacher=run", f"teacher.run={teacher}") if not words[0].startswith("teacher=") else ()
    with pytest.raises(SystemExit, match=sentence):
        job(*NONE, f"data.root={pictures}", *TAUGHT, *mine, *words, store=store, runs=tmp_path)


def test_a_finished_run_is_asked_about_some_of_the_classes_that_it_knows_and_about_no_other(
    teacher, pictures, store, tmp_path
):
    words = (*NONE, "teacher=run", f"teacher.run={teacher}", f"data.root={pictures}", *TAUGHT)
    printed = job(*words, "data.classes=[happiness,neutral]", store=store, runs=tmp_path)
    assert "2 classes: happiness, neutral" in printed
    with open(folder_of(tmp_path) / "predictions" / "test.csv", newline="") as file:
        assert {row["prediction"] for row in csv.DictReader(file)} <= {"happiness", "neutral"}
    with pytest.raises(SystemExit, match=r"teacher\.run: .* the classes of \S+ are happiness, glad"):
        job(*words, "data.classes=[happiness,glad]", store=store, runs=tmp_path)


def test_the_trial_in_the_docs_says_the_numbers_of_its_result():
    page = (ROOT / "docs" / "data.md").read_text()
    found = json.loads((ROOT / "docs" / "results" / "muxspace48-microexpnet-unlabelled.json").read_text())
    run, unseen = found["of_the_run"], found["unseen"]
    assert f"{100 * run['metrics']['test/agreement']:.2f}% of its own {run['rows']['test']:,} test faces" in page
    assert f"labels {100 * unseen['top1_accuracy']:.2f}% of the {unseen['rows']:,} faces" in page
    assert f"(mean-class {100 * unseen['mean_class_accuracy']:.2f})" in page and run["epochs"] == 3
