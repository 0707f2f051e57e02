"""A job over every fold of a data set: one command, one folder, mean and spread."""

import json
import statistics

import ckplus_tree
from commandline import distill
from face_trees import save

from distill.pipeline.completed import weights
from distill.report.aggregate import aggregate_runs
from distill.report.select import best
from distill.runs.reading import find
from distill.system.cli import to_export


def over_folds(tmp_path, folds):
    """The words of a job without a teacher over that many folds of a small data set."""
    for path in ckplus_tree.write_faces48(tmp_path / "ck48").rglob("*.png"):
        save(path, size=48)  # each its own face: of copies alone no test is made
    data = ("data=ckplus", f"data.root={tmp_path / 'ck48'}", "data.fold=all", f"data.folds={folds}", "data.valid=0.3")
    return (*data, "teacher=none", "loss=[ce]", "train.epochs=1")


def test_all_folds_are_one_job_that_reports_mean_and_spread_and_a_killed_fold_is_done_alone(tmp_path):
    job = (*over_folds(tmp_path, 3), "train.batch_size=16", "eval.views=crops8")
    first = distill(*job, store=tmp_path / "store", runs=tmp_path / "runs")
    assert first.returncode == 0, first.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    folds = [json.loads((folder / f"fold-{k}" / "result.json").read_text()) for k in range(3)]
    scores = [fold["student"]["metrics"]["test/top1_accuracy"] for fold in folds]
    assert [fold["test/top1_accuracy"] for fold in result["folds"]] == scores
    assert result["student"]["metrics"]["test/top1_accuracy"] == statistics.fmean(scores)
    assert result["student"]["spread"]["test/top1_accuracy"] == statistics.stdev(scores)
    assert sum(fold["data"]["rows"]["test"] for fold in folds) == len(list((tmp_path / "ck48").rglob("*.png")))
    assert "mean of 3 folds" in first.stdout and "±" in first.stdout
    written = (folder / "fold-0" / "result.json").stat().st_mtime_ns
    (folder / "fold-1" / "result.json").unlink()
    (folder / "result.json").unlink()
    again = distill(*job, store=tmp_path / "store", runs=tmp_path / "runs")
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "result.json").read_text())["student"] == result["student"]
    assert (folder / "fold-0" / "result.json").stat().st_mtime_ns == written


def test_generations_over_all_folds_are_one_run_of_the_report_whose_best_can_be_exported(tmp_path):
    words = (*over_folds(tmp_path, 2), "generations=2", "student.width=XXS")
    done = distill(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert done.stdout.replace("\n", "").endswith(f"python -m distill.export best of {folder}")
    assert to_export(folder).startswith(f"Type python -m distill.export best of {folder} and give the run folder")
    (run,) = find([tmp_path / "runs"])
    assert [str(leaf.folder.relative_to(folder)) for leaf in run.leaves] == [f"fold-{k}/generation-2" for k in (0, 1)]
    assert run.curves["valid/top1_accuracy"] and run.config.generations == 2 and run.config.data["fold"] == "all"
    assert weights(best(aggregate_runs([run]), "max valid/top1_accuracy")).is_relative_to(folder)
    for part in ("fold-1/generation-2", "fold-1", ""):
        (folder / part / "result.json").unlink()
    assert find([folder])[0].error == "stopped or still at work: 1 of its sub-runs are complete"
    assert distill(*words, store=tmp_path / "store", runs=tmp_path / "runs").returncode == 0
    assert find([folder])[0].result.student == run.result.student
