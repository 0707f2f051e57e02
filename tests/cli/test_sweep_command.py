"""python -m distill.sweep, as a person types it: killed, started again, misspelt."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import warm
from commandline import ROOT, environment
from small_sweep import SMALL


def typed(folder: Path, *more: str) -> list[str]:
    (folder / "small.yaml").write_text(SMALL)
    tiny = ("teacher=none", "loss=[ce]", "student.size=36", "data.train=64", "data.valid=32", "data.test=32")
    tiny += ("train.batch_size=16", "train.epochs=60", "checkpoint.every_steps=1", "logger=none")
    where = (f"paths.store={folder / 'store'}", f"paths.runs={folder / 'runs'}")
    return [sys.executable, "-m", "distill.sweep", f"sweep={folder / 'small.yaml'}", *more, *tiny, *where]


@pytest.mark.slow
def test_a_killed_search_takes_its_job_along_goes_on_in_the_same_folder_and_its_front_has_measured_costs(tmp_path):
    asked = typed(tmp_path, "sweep.run_cap=1", "sweep.minimize=[macs,bytes,latency_ms]")
    for number in (signal.SIGTERM, signal.SIGKILL):
        search = warm.Command(asked, ROOT, environment())
        children = Path(f"/proc/{search.pid}/task/{search.pid}/children")
        until(lambda file=children: list(tmp_path.glob("runs/*/checkpoints/last.pt")) and file.read_text(), search)
        jobs = children.read_text().split()
        os.kill(search.pid, number)
        said = search.communicate(timeout=60)[1]
        assert number == signal.SIGKILL or "stopped; the same command goes on" in said
        until(lambda pids=jobs: not any(map(is_alive, pids)))
    assert not list(tmp_path.glob("runs/*/result.json"))
    done = warm.run(asked, ROOT, environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("runs/*/result.json")  # no second run folder
    said = json.loads(path.read_text())
    assert said["status"] == "complete" and said["resumed_at_step"] > 0
    student = said["student"]
    accuracy = student["metrics"]["valid/top1_accuracy"]
    assert f"best: job 2  valid/top1_accuracy {accuracy:.6g}  macs {student['macs']}" in done.stdout
    assert f"latency_ms {student['latency_ms']:.6g}" in done.stdout


def is_alive(pid: str) -> bool:
    with suppress(OSError):
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    return False


def until(ready, process: warm.Command | None = None) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.02)


def test_help_says_every_option_and_a_key_that_does_not_exist_is_refused_before_any_job(tmp_path):
    asked = [*typed(tmp_path), "student.poolling=both"]
    done = warm.run(asked, ROOT, environment())
    assert done.returncode == 1 and "Did you mean student.pooling" in done.stderr, done.stderr
    assert not list(tmp_path.glob("runs/*"))
