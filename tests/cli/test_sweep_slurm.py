"""launcher=slurm: the command is killed while its jobs run, and typed again."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from commandline import command, environment
from sessions import start, until
from slurm_stand_in import install

ALONE = ("teacher=none", "loss=[ce]", "data.train=64", "data.valid=32", "data.test=32", "student.size=36")
LONG = ("train.epochs=20", "train.batch_size=16", "checkpoint.every_steps=1")


def send(number: int, pids: list[int]) -> None:
    """Send a signal to jobs and to what they started."""
    for pid in pids:
        os.killpg(pid, number)


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("runs/sweeps/*/jobs/*/job.json"))]


@pytest.mark.slow
def test_typed_again_while_its_jobs_run_a_sweep_waits_for_them_and_does_nothing_twice(tmp_path):
    scripts = install(tmp_path / "slurm", sys.executable)
    asked = command(
        *("-m", "launcher=slurm", *ALONE, *LONG, "seed=0,1"), store=tmp_path / "store", runs=tmp_path / "runs"
    )
    env = environment() | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    sweep = start(asked, env)
    until(lambda: len(list(tmp_path.glob("runs/*/checkpoints/last.pt"))) == 2, sweep)
    jobs = [int((scripts / f"4242_{task}.pids").read_text()) for task in (0, 1)]
    send(signal.SIGSTOP, jobs)  # they go on when the others wait for them
    try:
        assert not list(tmp_path.glob("runs/*/result.json"))
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.wait()
        sweep = start(asked, env)
        logs = [log_of(tmp_path, task) for task in (0, 1)]
        waits = "is at work in this run folder; waiting for it"
        until(lambda: all(log.exists() and waits in " ".join(log.read_text().split()) for log in logs), sweep)
        assert [record["status"] for record in records(tmp_path)] == ["running", "running"]
    finally:
        send(signal.SIGCONT, jobs)
    said = sweep.communicate(timeout=200)[0]
    assert sweep.returncode == 0 and "2 jobs: 2 complete" in said, said
    until(lambda: all("zombie" in state(pid) for pid in jobs), seconds=60)
    assert [record["status"] for record in records(tmp_path)] == ["complete", "complete"]
    for task, record in enumerate(records(tmp_path)):
        folder = Path(record["folder"])
        result = json.loads((folder / "result.json").read_text())
        assert result["status"] == "complete" and result["resumed_at_step"] == 0
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines if "valid/top1_accuracy" in line] == list(range(20))
        assert log_of(tmp_path, task).read_text().count("epoch  20/20") == 1


def log_of(folder: Path, task: int) -> Path:
    (log,) = folder.glob(f"runs/sweeps/*/jobs/{task}/log.txt")
    return log


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "zombie"  # and reaped
