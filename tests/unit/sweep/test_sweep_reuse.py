"""Which jobs of a sweep are found done, and which epochs a search compares."""

import json

import pytest

from distill.runs.folder import RunFolder
from distill.sweep import jobs as sweep_records
from distill.sweep import multirun as sweeps
from distill.sweep.search import _epochs


@pytest.mark.parametrize(
    ("seen", "reused"),
    [("now", True), ("before", False)],
)
def test_a_complete_run_is_taken_as_it_is_only_where_its_data_are_as_it_saw_them_and_it_is_one_run(
    tmp_path, monkeypatch, seen, reused
):
    place = sweep_records.add(tmp_path / "sweep", 0, "job", [])
    result = {"data": {"fingerprint": seen}, "student": {"metrics": {"valid/top1_accuracy": 0.5}}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    monkeypatch.setattr(sweeps.build, "fingerprint", lambda data: "now")
    with sweep_records.recorded(place) as record:
        record.begin(tmp_path / "run")
        assert sweeps.is_reused(record, RunFolder(tmp_path / "run"), None) == reused
    assert sweep_records.read(place)["reused"] == reused


def test_a_search_counts_epochs_from_one_and_passes_over_half_a_line(tmp_path):
    lines = [{"epoch": 0, "train/loss": 3.0}, {"epoch": 0, "valid/nll": 2.0}, {"epoch": 1, "valid/nll": 1.5}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 2, "val')
    assert list(_epochs(tmp_path / "m.jsonl", "valid/nll")) == [(1, 2.0), (2, 1.5)]
    assert list(_epochs(tmp_path / "none.jsonl", "valid/nll")) == []
