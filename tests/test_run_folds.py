"""A job over every fold of a data set: one command, one folder, mean and spread."""

import json
import statistics

import ckplus_tree
from commandline import distill


def test_all_folds_are_one_job_that_reports_mean_and_spread_and_a_killed_fold_is_done_alone(tmp_path):
    ckplus_tree.write_faces48(tmp_path / "ck48")
    job = ("data=ckplus", f"data.root={tmp_path / 'ck48'}", "data.fold=all", "data.folds=3", "data.valid=0.3")
    job += ("teacher=none", "loss=[ce]", "train.batch_size=16", "train.epochs=1", "eval.views=crops8")
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
