"""python -m distill.sweep, as a person types it: killed, started again, misspelt."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import ROOT, environment

SMALL = """
program: distill/run.py
command: ["${env}", "${interpreter}", -m, distill.run, student=microexpnet, "${args_no_hyphens}"]
method: random
metric: {name: valid/top1_accuracy, goal: maximize}
run_cap: 4
parameters:
  student.width: {values: [XS, XXS]}
  optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 0.01}
"""


def typed(folder: Path, *more: str) -> list[str]:
    (folder / "small.yaml").write_text(SMALL)
    tiny = ("teacher=none", "loss=[ce]", "student.size=36", "data.train=64", "data.valid=32", "data.test=32")
    tiny += ("train.batch_size=16", "train.epochs=60", "checkpoint.every_steps=1", "logger=none")
    where = (f"paths.store={folder / 'store'}", f"paths.runs={folder / 'runs'}")
    return [sys.executable, "-m", "distill.sweep", f"sweep={folder / 'small.yaml'}", *more, *tiny, *where]


@pytest.mark.slow
def test_a_search_killed_with_its_job_goes_on_in_the_same_run_folder_and_its_front_has_measured_costs(tmp_path):
    asked = typed(tmp_path, "sweep.run_cap=1", "sweep.minimize=[macs,bytes,latency_ms]")
    search = subprocess.Popen(asked, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/checkpoints/last.pt")):
        assert search.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    done = subprocess.run(asked, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("runs/*/result.json")  # no second run folder
    said = json.loads(path.read_text())
    assert said["status"] == "complete" and said["resumed_at_step"] > 0
    student = said["student"]
    accuracy = student["metrics"]["valid/top1_accuracy"]
    assert f"best: job 1  valid/top1_accuracy {accuracy:.6g}  macs {student['macs']}" in done.stdout
    assert f"latency_ms {student['latency_ms']:.6g}" in done.stdout


def test_help_says_every_option_and_a_key_that_does_not_exist_is_refused_before_any_job(tmp_path):
    asked = [*typed(tmp_path), "student.poolling=both"]
    done = subprocess.run(asked, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Did you mean student.pooling" in done.stderr, done.stderr
    assert not list(tmp_path.glob("runs/*"))
