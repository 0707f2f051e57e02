"""A job of `wandb agent`: what it says to the server is all that the server's search knows of it."""

import json

import pytest
import warm
from commandline import ROOT, command, environment
from offline_run import items, of_kind, records, summary

ALONE = ("teacher=none", "loss=[ce]", "data.train=64", "data.valid=32", "data.test=32", "student.size=36")


@pytest.mark.slow
def test_a_job_of_an_agent_whose_run_is_complete_tells_its_result(tmp_path):
    asked = command(*ALONE, "train.epochs=1", "logger=wandb", store=tmp_path / "store", runs=tmp_path / "runs")
    silent = environment() | {"WANDB_MODE": "disabled"}
    agent = environment() | {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "s", "WANDB_DATA_DIR": str(tmp_path / "data")}
    for env in (silent, agent):
        assert not list(tmp_path.glob("runs/*/wandb/*/*.wandb"))
        done = warm.run(asked, ROOT, env)
        assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/result.json"))
    result, found = json.loads((folder / "result.json").read_text()), records(folder)
    assert summary(found)["valid/top1_accuracy"] == result["student"]["metrics"]["valid/top1_accuracy"]
    assert summary(found)["student/macs"] == result["student"]["macs"]
    (header,) = {record.run_id: record for record in of_kind(found, "run")}.values()
    assert header.sweep_id == "s" and items(header.config.update)["seed"] == 0
    assert [record.exit_code for record in of_kind(found, "exit")] == [0]
