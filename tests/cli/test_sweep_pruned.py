"""A real search whose trial is behind: it is stopped, and its own command finishes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from commandline import ROOT, environment
from small_sweep import small

from distill.runs.reading import find

TINY = ("teacher=none", "loss=[ce]", "student.size=36", "data.train=64", "data.valid=32", "data.test=32")
TINY += ("train.batch_size=16", "train.epochs=60", "checkpoint.every_steps=1", "logger=none")


def run(*words: str) -> subprocess.CompletedProcess:
    return warm.run([sys.executable, "-m", *words], ROOT, environment())


@pytest.mark.slow
def test_a_trial_that_is_behind_is_stopped_and_its_own_command_finishes_it(tmp_path):
    small(
        tmp_path,
        method="grid",
        metric={"name": "valid/nll", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 8, "eta": 2},
        parameters={
            "optimizer.lr": {"values": [1e-9, 0.003]}
        },  # so few faces are learned by heart: more and more unlikely
    )
    where = (f"paths.store={tmp_path / 'store'}", f"paths.runs={tmp_path / 'runs'}")
    done = run("distill.sweep", f"sweep={tmp_path / 'small.yaml'}", *TINY, *where)
    assert done.returncode == 0 and "2 jobs: 1 complete, 1 pruned" in done.stdout, done.stdout + done.stderr
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert sorted(one.status for one in find([sweep])) == ["complete", "pruned"]
    record = json.loads((sweep / "jobs" / "1" / "job.json").read_text())
    folder = Path(record["folder"])
    said = json.loads((folder / "result.json").read_text())
    assert said["status"] == record["status"] == "pruned" and said["error"].startswith("was behind after ")
    epochs = len((folder / "metrics.jsonl").read_text().splitlines())
    done = run("distill.run", *record["overrides"])
    result = json.loads((folder / "result.json").read_text())
    assert done.returncode == 0 and result["status"] == "complete", done.stderr
    assert 0 < result["resumed_at_step"] < 60 * 4
    assert len((folder / "metrics.jsonl").read_text().splitlines()) > epochs
    assert [one.status for one in find([sweep])] == ["complete", "complete"]
