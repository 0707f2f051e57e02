"""launcher=joblib: what happens to the others when a job or the sweep itself is killed or stopped."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from commandline import command, environment
from sessions import living, start, until

ALONE = ("teacher=none", "loss=[ce]", "data.train=64", "data.valid=32", "data.test=32", "student.size=36")
LONG = ("train.epochs=60", "train.batch_size=16")


def asked(folder: Path, *more: str) -> list[str]:
    words = ("-m", "launcher=joblib", "hydra.launcher.n_jobs=2", *ALONE, *LONG, "seed=1,2", *more)
    return command(*words, store=folder / "store", runs=folder / "runs")


def jobs(sweep) -> list[int]:
    return [one.pid for one in living(sweep.pid) if one.parent == sweep.pid]


def checkpoints(folder: Path) -> int:
    return len(list(folder.glob("runs/*/checkpoints/last.pt")))


@pytest.mark.slow
def test_a_killed_job_takes_no_other_along_and_a_killed_sweep_leaves_no_process_and_goes_on(tmp_path):
    sweep = start(asked(tmp_path), environment())
    until(lambda: checkpoints(tmp_path) == 2 and len(jobs(sweep)) == 2, sweep)
    os.kill(jobs(sweep)[0], signal.SIGKILL)
    said = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 1 and re.search("2 jobs: (1 complete, 1 failed|1 failed, 1 complete);", said), said
    assert "was killed by SIGKILL; the same command again goes on from its last checkpoint" in said
    sweep = start(asked(tmp_path), environment())
    until(lambda: jobs(sweep), sweep)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    until(lambda: not living(sweep.pid), seconds=20)
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 1
    sweep = start(asked(tmp_path), environment())
    said = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 0 and "2 jobs: 2 complete (1 of them before)" in said, said
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/result.json")]
    assert sorted(result["resumed_at_step"] > 0 for result in results) == [False, True]
    until(lambda: not living(sweep.pid), seconds=20)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_from_the_keyboard_leaves_no_process_and_says_how_its_jobs_stand(tmp_path):
    sweep = start(asked(tmp_path, "train.epochs=2000"), environment())
    until(lambda: checkpoints(tmp_path) == 2, sweep)
    os.killpg(sweep.pid, signal.SIGINT)
    said = sweep.communicate(timeout=60)[0]
    assert sweep.returncode == 130 and "stopped; the same command goes on" in said and "Traceback" not in said, said
    assert "2 jobs: 2 stopped" in said and "next: the same command again" in said
    until(lambda: not living(sweep.pid), seconds=20)


@pytest.mark.slow
def test_joblib_one_job_at_a_time_is_a_process_of_its_own(tmp_path):
    short = ("hydra.launcher.n_jobs=1", "train.epochs=1", "seed=1")
    sweep = start(asked(tmp_path, *short), environment())
    said = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 0 and "1 jobs: 1 complete" in said, said
    assert (
        "epoch   1/1" not in said and "epoch   1/1" in next(tmp_path.glob("runs/sweeps/*/jobs/0/log.txt")).read_text()
    )
