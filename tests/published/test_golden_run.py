"""What a run learns: step by step on a stored start, and enough of the faces when it is let run."""

import json

import pytest
from inside import folder_of, job, read

GOLDEN = (
    *(0.4441716, 0.4690430, 0.4663550, 0.4376926, 0.4264887, 0.3490369, 0.3329526, 0.3121940, 0.3057197, 0.3039768),
    *(0.3013452, 0.2946514, 0.3054163, 0.3189225, 0.3144053, 0.2952046, 0.2830858, 0.2860159, 0.2969099, 0.2671416),
)


def test_run_of_seed_0_has_the_stored_first_20_losses(tmp_path):
    """They change only where data, views, networks, losses or steps are meant to change; they are then stored anew.

    float32 and one thread are asked for, and no kernel's determinism beyond that: other instruction sets of the CPU and
    other kernels move these losses by 3e-7. That is so because MicroExpNet has no BatchNorm and the teacher's learning rate
    is next to none; a network with BatchNorm that AdamW trains is elsewhere by 1e-3 after twenty steps.
    """
    words = ("student=microexpnet", "data.train=320", "data.size=48", "teacher.optimizer.lr=1e-6", "train.epochs=1")
    precision = ("teacher.train.precision=fp32", "teacher.precision=fp32", "train.log_every_n_steps=1")
    job(*words, *precision, store=tmp_path / "store", runs=tmp_path / "runs")
    lines = (folder_of(tmp_path / "runs") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [line["train/loss"] for line in map(json.loads, lines) if "train/loss" in line]
    assert losses == pytest.approx(GOLDEN, rel=1e-5, abs=0)


def test_default_recipe_learns_faces_and_a_second_generation_learns_from_the_first(tmp_path):
    """Default optimizer, schedule, epochs, views and losses on eight plain expressions: 59 and 55% right, 12.5 by chance."""
    plain = ("data.intensity=1", "data.mixture=0", "data.occlusion=0", "data.pose=0", "data.light=0")
    sizes = ("data.train=960", "data.valid=304", "data.test=304", "student=microexpnet", "student.size=48")
    words = (*plain, *sizes, "train.epochs=6", "teacher=none", "generations=2")
    job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    result = read(folder_of(tmp_path / "runs"))
    assert min(result[who]["metrics"]["test/top1_accuracy"] for who in ("teacher", "student")) > 0.4
    assert result["student"]["metrics"]["test/agreement"] > 0.5
