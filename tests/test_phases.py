"""Courses and phases through the real command line: seen in the log, one run folder, and killed runs that go on bit for bit."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from commandline import ROOT, command, distill, environment, result_of
from safetensors.torch import load_file

JOB = (
    "train.epochs=4",
    "checkpoint.every_steps=2",
    "train.log_every=3",
    "schedule.warmup=0",
    "seed=5",
    "train.precision=fp32",
)
PHASES = "phases=[{epochs:2,loss:[hint]},{epochs:2,loss:[ce,kd],lr:0.5}]"
HINT = (*JOB, "loss=[ce,kd,hint]", "teacher.cache=features", PHASES)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    done = distill(*HINT, store=store, runs=runs)
    assert done.returncode == 0, done.stderr
    return next(runs.iterdir())


@pytest.mark.slow
def test_courses_are_seen_in_the_log(store, tmp_path):
    courses = ("loss.kd.weight={from:0,to:0.9,end:2}", "loss.kd.temperature={from:8,to:2,end:3}", "train.log_every=6")
    done = distill(*JOB, *courses, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [row for row in lines_of(next(tmp_path.iterdir())) if "train/loss" in row]
    assert len(rows) == 4, "six steps are an epoch, and a line"
    for epoch, row in enumerate(rows):
        now = epoch + 5 / 6  # at the line's last step
        assert row["train/weight_kd"] == pytest.approx(min(0.45 * now, 0.9))
        assert row["train/temperature_kd"] == pytest.approx(max(8 - 2 * now, 2))
        assert "train/weight_ce" not in row
    assert rows[3]["train/loss"] == pytest.approx(0.1 * rows[3]["train/ce"] + 0.9 * rows[3]["train/kd"], rel=1e-4)


@pytest.mark.slow
def test_hints_first_then_distillation_in_one_run_folder(whole):
    rows = [row for row in lines_of(whole) if "train/loss" in row]
    for row in rows:
        terms = {"train/hint"} if row["epoch"] < 2 else {"train/ce", "train/kd"}
        assert terms == {key for key in row if key.startswith("train/")} - {"train/loss", "train/lr_factor"}
    factors = [row["train/lr_factor"] for row in rows]
    first, second = factors[: len(factors) // 2], factors[len(factors) // 2 :]
    assert first == sorted(first, reverse=True) and first[-1] < 0.2 < 0.8 < first[0]
    assert second == pytest.approx([0.5 * factor for factor in first]), "the same course again, at half the rate"
    hints = [row["train/hint"] for row in rows if "train/hint" in row]
    assert hints[-1] < hints[0]


@pytest.mark.slow
def test_the_best_epoch_is_one_of_the_last_phase(whole):
    result = result_of(whole.parent)
    scores = [row["valid/top1_accuracy"] for row in lines_of(whole) if "valid/top1_accuracy" in row]
    assert result["best_epoch"] in (2, 3) and scores[result["best_epoch"]] == max(scores[2:])
    names = load_file(whole / "checkpoints" / "best.safetensors").keys()
    assert not any("regressor" in name for name in names), "the file holds the student alone"


def kill_when(ready, store, runs):
    job = subprocess.Popen(
        command(*HINT, store=store, runs=runs), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not ready():
        assert job.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()


@pytest.mark.slow
@pytest.mark.parametrize("writes", [6, 7, 8], ids=["at the border", "early in phase 2", "in phase 2"])
def test_a_run_killed_around_the_border_of_its_phases_equals_one_that_was_not_bit_for_bit(
    whole, store, tmp_path, writes
):
    """Three checkpoints are written in an epoch of six steps: the sixth is the end of the first phase."""
    seen = set()

    def ready():
        seen.update(path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoints/last.pt"))
        return len(seen) >= writes

    kill_when(ready, store, tmp_path)
    (folder,) = tmp_path.iterdir()
    at = torch.load(folder / "checkpoints" / "last.pt")["at"]
    assert (2, 0) <= (at["epoch"], at["step"]) < (4, 0)
    done = distill(*HINT, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = (load_file(path / "checkpoints" / "best.safetensors") for path in (folder, whole))
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in theirs)
    assert (folder / "predictions" / "test.csv").read_bytes() == (whole / "predictions" / "test.csv").read_bytes()
