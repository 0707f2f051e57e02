"""A run of several widths: one training, a student of each, which is exported and measured as any other."""

import json
import shutil

import ckplus_tree
import numpy as np
import pytest
import yaml
from exported import export
from face_trees import save
from inside import folder_of, job, read

from distill.config.overrides import composed_job
from distill.evaluation.inference import read_predictions
from distill.export import __main__ as command_line
from distill.export import export as write_files
from distill.export import load
from distill.measure import measure
from distill.predict.student import load as load_student
from distill.report.aggregate import aggregate_runs
from distill.run import prepare_config, run_overrides
from distill.runs.reading import find
from distill.system.console import TrainingProgress
from students.ferlite import FerLite

OF_RUN = [0.5, 1, 0.75]
WORDS = (
    "student=ferlite",
    "student.width=[0.5,1,0.75]",
    "teacher=none",
    "loss=[ce]",
    "train.epochs=2",
    "student.size=40",
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("elastic")
    printed = job(*WORDS, store=home / "store", runs=home / "runs")
    return folder_of(home / "runs"), printed


# The run


def test_a_run_s_result_shows_the_front(run_folder):
    folder, printed = run_folder
    result = read(folder)
    rows = result["widths"]
    assert [row["width"] for row in rows] == OF_RUN
    assert rows[0]["valid/top1_accuracy"] == result["student"]["metrics"]["valid/top1_accuracy"]
    assert sorted(row["num_parameters"] for row in rows) == [
        row["num_parameters"] for row in sorted(rows, key=lambda r: r["width"])
    ]
    assert result["student"]["num_parameters"] == rows[0]["num_parameters"] < rows[1]["num_parameters"]
    for row in rows[1:]:
        own = read(folder / f"width-{row['width']:g}")
        assert own["student"]["metrics"]["test/nll"] == row["test/nll"] and own["best_epoch"] == result["best_epoch"]
        assert f"{row['num_parameters']:,}" in printed
    assert "the epoch was chosen by width 0.5" in printed
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = max(line["valid/top1_accuracy"] for line in lines if "valid/top1_accuracy" in line)
    assert rows[0]["valid/top1_accuracy"] == pytest.approx(best)
    assert all(line["train/inplace"] > 0 for line in lines if "train/ce" in line)


def test_the_report_has_a_row_for_each_width(run_folder):
    found = aggregate_runs(find([run_folder[0].parent]))
    assert len(found.configurations) == 3 and not found.left_out
    assert len({c.label for c in found.configurations}) == 3


def test_the_same_command_again_does_nothing(run_folder, tmp_path):
    folder = run_folder[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    printed = job(*WORDS, store=folder.parents[1] / "store", runs=folder.parent)
    assert "is complete; nothing to do" in printed and "chosen by width 0.5" in printed
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_a_run_that_was_stopped_goes_on_with_the_widths_it_would_have_had(run_folder, tmp_path):
    folder, step = run_folder[0], TrainingProgress.step

    def stop(self, epoch, done, steps):
        step(self, epoch, done, steps)
        if (epoch, done) == (1, 3):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(TrainingProgress, "step", stop)
        job(*WORDS, "checkpoint.every_steps=2", store=folder.parents[1] / "store", runs=tmp_path)
    job(*WORDS, "checkpoint.every_steps=2", store=folder.parents[1] / "store", runs=tmp_path)
    again = folder_of(tmp_path)
    assert read(again)["resumed_at_step"] == 6
    for file in sorted(path.relative_to(folder) for path in folder.rglob("best.safetensors")):
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file
    assert (again / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def exports(run_folder):
    """Export two widths."""
    folder = run_folder[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "loud_warnings", lambda: None)
        command_line.main([str(folder), "--width", "0.75", "export.int8=off"])
        command_line.main([str(folder), "export.int8=off"])
    return folder / "width-0.75", folder


def test_an_exported_width_passes_the_gate_and_answers_as_the_run_measured(exports):
    for folder, width in zip(exports, (0.75, 0.5), strict=True):
        parity = json.loads((folder / "export" / "parity.json").read_text())
        assert not parity["refused"] and parity["files"]["student.onnx"]["agreement"] == 1
        student = load(folder / "export")
        assert type(student) is FerLite and not hasattr(student, "widths")
        config = json.loads((folder / "export" / "config.json").read_text())
        assert config["fer_distill"]["network"]["width"] == width
        probabilities, _, _ = read_predictions(folder / "predictions" / "valid.csv", student.classes)
        accuracy = json.loads(parity["facts"]["valid_top1_accuracy"])
        assert accuracy == pytest.approx(read(folder)["student"]["metrics"]["valid/top1_accuracy"], abs=0.04)
        assert probabilities.shape == (32, 8)


def test_the_card_says_what_it_was_cut_from(exports):
    cut_card, first_card = ((folder / "export" / "model-card.md").read_text() for folder in exports)
    assert (
        "Width: 0.75, cut from a network of the widths" in cut_card and "estimated anew on training faces" in cut_card
    )
    assert "Width: 0.5, cut from a network" in first_card and "are those of training" in first_card


def test_predict_and_measure_take_a_cut_student_as_any_other(exports):
    student = load_student(exports[0], threads=1)
    assert student.predict(np.zeros((48, 48), np.uint8)).shape == (8,)
    for folder in exports:
        result, _ = measure(folder, ["train.precision=fp32"])
        assert result["test"]["top1_accuracy"] == read(folder)["student"]["metrics"]["test/top1_accuracy"]


def test_a_width_that_was_not_trained_is_refused_with_those_that_were(run_folder, capsys):
    with pytest.raises(ValueError, match=r"has no student of width '0\.5'\. There are"):
        write_files(run_folder[0], width="0.5")
    _, said = export(capsys, run_folder[0], "--width", "0.6")
    assert "has no student of width 0.6. There are 0.5, 1, 0.75." in said
    _, said = export(capsys, run_folder[0] / "width-1", "--width", "0.5")
    assert "It is a run of one width." in said


def test_an_option_of_in_place_distillation_is_added_by_a_plus():
    with pytest.raises(
        ValueError, match=r"loss\.inplace: is added by .*, and its options by a \+\. Type \+loss\.inplace"
    ):
        composed_job(["student=ferlite", "student.width=[1,0.5]", "loss.inplace.labels=0"])


def test_a_run_that_was_stopped_while_widths_were_cut_is_not_finished_and_not_several(run_folder, tmp_path, capsys):
    stopped = shutil.copytree(run_folder[0], tmp_path / "stopped", ignore=shutil.ignore_patterns("export"))
    with pytest.raises(ValueError, match=r"stopped has no .*Type python -m distill\.export \S+stopped$"):
        load_student(stopped, threads=1)
    (stopped / "result.json").unlink()
    for words in ((), ("--width", "0.75")):
        _, said = export(capsys, stopped, *words)
        assert "stopped: this run is not finished" in said and "Its own command, typed again, goes on with it." in said


# What it goes with


def test_over_folds_each_width_has_the_mean_of_its_numbers(tmp_path, capsys):
    for path in ckplus_tree.write_faces48(tmp_path / "ck48").rglob("*.png"):
        save(path, size=48)
    data = ("data=ckplus", f"data.root={tmp_path / 'ck48'}", "data.fold=all", "data.folds=2", "data.valid=0.3")
    small = ("student.size=16", "student.width=[0.5,0.25]", "teacher=none", "loss=[ce]", "train.epochs=1")
    where = (f"paths.store={tmp_path / 'store'}", f"paths.runs={tmp_path / 'runs'}", "train.batch_size=16")
    folder = run_overrides([*data, "student=ferlite", *small, *where]).folder
    folds = [read(folder / f"fold-{k}")["widths"] for k in (0, 1)]
    for row, *of_folds in zip(read(folder)["widths"], *folds, strict=True):
        assert row["width"] == of_folds[0]["width"] == of_folds[1]["width"]
        assert row["test/nll"] == pytest.approx(sum(one["test/nll"] for one in of_folds) / 2)
    assert f"{folder}/fold-K/width-W" in capsys.readouterr().out.replace("\n", "")


def test_generations_name_the_folder_that_the_widths_of_the_last_one_are_in(tmp_path):
    words = ("student=ferlite", "student.width=[0.5,1]", "student.size=16", "generations=2", "loss=[ce,kd]")
    printed = job(*words, "teacher=none", "train.epochs=1", store=tmp_path / "store", runs=tmp_path / "runs")
    last = folder_of(tmp_path / "runs") / "generation-2"
    assert (last / "width-1" / "result.json").is_file() and f"{last}/width-W" in printed.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("loss=[ce,at]", "teacher=resnet50"), r"loss\.at: reads feature maps, and a student of several widths"),
        (("loss=[ce,simkd]", "teacher=resnet50"), r"loss\.simkd: .* a student of several widths"),
        (("teacher=peer", "loss=[ce,dml]"), "teacher: a peer learns beside one network"),
        (("student=cern",), r"student\.width"),
        (("+loss.inplace.random=x",), r"loss\.inplace\.random: expected a whole number, .* got 'x'"),
        (("+loss.inplace.widths=[1,0.25]",), r"loss\.inplace\.widths: are those of student\.width\. Leave it out\."),
        (("+loss.inplace=0.5",), r"loss\.inplace: 0\.5 is there, but a loss has a name first"),
        (
            ("+loss.inplace.labels=0", "student.width=0.5"),
            r"loss\.inplace: comes with student\.width=elastic or a list",
        ),
        (("+loss.inplace.labels=0", "student=microexpnet", "student.width=S"), r"loss\.inplace: comes with"),
        (
            ("train.compile=true",),
            r"train\.compile: got true, but with several widths each step would be compiled anew",
        ),
        (("student.width=[S,M]",), r"student\.width: expected two or more factors .*, got \['S', 'M'\]\. S, M and L"),
        (("student.width=[1,true]",), r"student\.width: expected S, M, L, elastic, .*, got True"),
        (("student.width=[[1,0.5],0.25]",), r"student\.width: expected S, M, L, elastic, .*, got \[1, 0\.5\]"),
        (("student.width=[1]",), r"student\.width: expected two or more factors .*, got \[1\]"),
    ],
)
def test_elastic_run_with_what_does_not_go_with_several_widths_is_refused(words, sentence, tmp_path):
    first = ("student=ferlite", "student.width=[1,0.5]", "loss=[ce]", "logger=none", f"paths.runs={tmp_path}")
    with pytest.raises(ValueError, match=sentence):
        prepare_config(*composed_job([*first, *words]))
    assert not list(tmp_path.iterdir())


def test_losses_on_logits_go_with_several_widths_and_phases_keep_teaching_them(tmp_path):
    words = (
        "student=ferlite",
        "student.width=elastic",
        "teacher=resnet50",
        "loss=[ce,kd,dist]",
        "+loss.inplace.random=2",
    )
    phases = "phases=[{epochs:4,loss:[ce]},{epochs:4,loss:[kd,dist]}]"
    cfg, _ = prepare_config(*composed_job([*words, phases, "train.epochs=8", f"paths.runs={tmp_path}"]))
    assert cfg.loss["inplace"]["widths"] == list(FerLite.ELASTIC) == cfg.student["width"]
    assert cfg.loss["inplace"]["random"] == 2
    assert [phase["loss"] for phase in cfg.phases] == [["ce", "inplace"], ["kd", "dist", "inplace"]]


def test_a_loss_that_is_left_alone_has_weight_one_beside_in_place(run_folder):
    loss = yaml.safe_load((run_folder[0] / "config.yaml").read_text())["loss"]
    assert {name: node["weight"] for name, node in loss.items()} == {"ce": 1.0, "inplace": 1.0}
