"""Which jobs of a sweep are found done, and which epochs a search compares."""

import json

from distill.sweep import jobs as sweep_records
from distill.sweep.search import _epochs


def test_a_job_whose_run_was_complete_is_counted_as_reused_until_its_run_is_another(tmp_path, capsys):
    place = sweep_records.add(tmp_path / "sweep", 0, "job", ["seed=0"])
    result = {"status": "complete", "student": {"metrics": {"valid/top1_accuracy": 0.5, "test/top1_accuracy": 0.4}}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    record = sweep_records.Record(place)
    record.begin(tmp_path / "run")
    record.update(reused=True)
    sweep_records.Record(place).close(0)
    facts = sweep_records.Record(place).facts
    assert facts["status"] == "complete" and facts["valid/top1_accuracy"] == 0.5 and "test/top1_accuracy" not in facts
    assert "reused" in capsys.readouterr().out
    sweep_records.add(tmp_path / "sweep", 0, "job", ["seed=0"])
    sweep_records.Record(place).begin(tmp_path / "run")
    sweep_records.Record(place).close(0)
    assert "reused" not in capsys.readouterr().out


def test_a_search_counts_epochs_from_one_and_passes_over_half_a_line(tmp_path):
    lines = [{"epoch": 0, "train/loss": 3.0}, {"epoch": 0, "valid/nll": 2.0}, {"epoch": 1, "valid/nll": 1.5}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 2, "val')
    assert list(_epochs(tmp_path / "m.jsonl", "valid/nll")) == [(1, 2.0), (2, 1.5)]
    assert list(_epochs(tmp_path / "none.jsonl", "valid/nll")) == []
