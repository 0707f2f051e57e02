"""benchmarks/sweep_cost.py: what it counts is there; how long anything takes is nobody's promise here."""

import json
import subprocess
import sys
from argparse import Namespace

import numpy as np
import pytest
from commandline import ROOT, benchmark, environment

FILE = ROOT / "benchmarks" / "sweep_cost.py"
TINY = ("--faces=64", "--epochs=2", "--batch-size=16", "--turns=1", "--students=1", "--live-epochs=1", "--threads=1")
FEW = ("--teacher=test_resnet", "--size=32", "--pooling=both", "--width=XXS")
SMALL = ("data.valid=32", "data.test=32", "student.size=36")


@pytest.mark.slow
def test_stored_logits_spare_every_teacher_forward_and_the_same_run_times_all_three_sides(tmp_path):
    done = subprocess.run(
        [sys.executable, str(FILE), *TINY, *FEW, *SMALL, f"--write={tmp_path / 'cost.json'}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "cost.json").read_text())
    jobs = {job["side"]: (job["student"], job["teacher_forward_images"]) for job in found["jobs"]}
    assert jobs == {"alone": ("both XXS", 0), "stored": ("both XXS", 0), "live": ("both XXS", 64 + 32 + 32)}
    assert found["first_pass_images"] == 2 * 64 + 32 + 32
    for job in found["jobs"]:
        whole, (wall, cpu) = found["seconds"][job["side"]], job["seconds"]
        assert 0 < job["train_seconds"] < wall < whole[0] and 0 < cpu < whole[1]
    assert "| labels alone |" in done.stdout and "timed 1 students, times 1/1, and 1 epochs, times 2/1" in done.stdout


def test_a_live_sample_is_scaled_by_students_and_epochs_and_medians_are_those_of_each_student(monkeypatch):
    cost = benchmark("sweep_cost")

    def job(side, student, wall, train=0.0, teacher=0.0):
        parts = {"train_seconds": train, "teacher_seconds": teacher, "teacher_forward_images": 0}
        return {"side": side, "student": student, "seconds": np.array([wall, 2 * wall]), **parts}

    def turn(wall):
        return [job(side, s, wall[side] + (s == "b"), teacher=1.0) for s in "ab" for side in wall]

    turns = [turn({"alone": alone, "stored": stored}) for alone, stored in ((10, 11), (90, 95), (12, 12))]
    starts = [{"start": np.array([3.0, 3.0]), "jobs": jobs} for jobs in turns]
    first = {"jobs": [job("stored", "a", 100, teacher=51.0)]}
    live = {"start": np.array([3.0, 3.0]), "jobs": [job("live", "b", 30, train=20)]}
    monkeypatch.setattr(cost, "sweeps", lambda home, asked: (first, starts, live))
    found = cost.measure(None, Namespace(epochs=6, live_epochs=2))
    assert found["seconds"]["alone"].tolist() == [3 + 12 + 13, 3 + 24 + 26]
    assert found["seconds"]["stored"].tolist() == [3 + 12 + 13, 3 + 24 + 26]
    assert found["seconds"]["live"].tolist() == [
        pytest.approx(3 + 2 * (10 + 3 * 20)),
        pytest.approx(3 + 2 * (20 + 3 * 40)),
    ]
    assert found["teacher_training_seconds"] == 50 and found["first_pass_seconds"] == 100 - 50 - 12
