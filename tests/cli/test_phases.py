"""Ramps and phases through the real command line: seen in the log, one run folder, and killed runs that go on bit for bit."""

import json

import pytest
import torch
from commandline import assert_equal_runs, checkpoint_writes, command, distill, kill_when, result_of
from hydra import compose, initialize_config_module
from inside import SMALL, folder_of, job, read, resolved
from safetensors.torch import load_file

from distill.config.schema import check, typed

JOB = (
    "train.epochs=4",
    "checkpoint.every_steps=2",
    "train.log_every_n_steps=3",
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
def test_ramps_are_seen_in_the_log(store, tmp_path):
    ramps = (
        "loss=[ce,kd]",
        "loss.kd.weight={from:0,to:0.9,end:2}",
        "loss.kd.temperature={from:8,to:2,end:3}",
        "train.log_every_n_steps=6",
    )
    done = distill(*JOB, *ramps, store=store, runs=tmp_path)
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
    assert second == pytest.approx([0.5 * factor for factor in first]), "the same schedule again, at half the rate"
    hints = [row["train/hint"] for row in rows if "train/hint" in row]
    assert hints[-1] < hints[0]


@pytest.mark.slow
def test_the_best_epoch_is_one_of_the_last_phase(whole):
    result = result_of(whole.parent)
    scores = [row["valid/top1_accuracy"] for row in lines_of(whole) if "valid/top1_accuracy" in row]
    assert result["best_epoch"] in (2, 3) and scores[result["best_epoch"]] == max(scores[2:])
    names = load_file(whole / "checkpoints" / "best.safetensors").keys()
    assert not any("regressor" in name for name in names), "the file holds the student alone"


@pytest.mark.slow
@pytest.mark.parametrize("writes", [6, 7], ids=["at the border", "in phase 2"])
def test_a_run_killed_around_the_border_of_its_phases_equals_one_that_was_not_bit_for_bit(
    whole, store, tmp_path, writes
):
    """Three checkpoints are written in an epoch of six steps: the sixth is the end of the first phase."""
    kill_when(checkpoint_writes(tmp_path, writes), *HINT, store=store, runs=tmp_path)
    (folder,) = tmp_path.iterdir()
    at = torch.load(folder / "checkpoints" / "last.pt")["progress"]
    assert (2, 0) <= (at["epoch"], at["step"]) < (4, 0)
    done = distill(*HINT, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(folder, whole)


# What no loss of a phase asks for


def test_maps_are_stored_and_counted_for_the_phase_alone_whose_losses_read_them(tmp_path):
    words = ("loss=[ce,kd,hint]", "teacher.cache=features", "train.epochs=3", "augment.num_views=0", "seed=6")
    phases = "phases=[{epochs:1,loss:[hint]},{epochs:2,loss:[ce,kd]}]"
    told = job(*words, phases, store=tmp_path, runs=tmp_path / "runs")
    assert "GB for the 1 of this run" in " ".join(told.split())
    kept = {path.name for path in tmp_path.rglob("train-view*.npy")}
    assert kept == {*(f"train-view{n}.npy" for n in (1, 2, 3)), "train-view1-net.layer2.npy"}


def test_a_teacher_is_not_asked_in_phases_whose_losses_do_not_read_it(tmp_path, store):
    asked = []
    for phases in ("[{epochs:3,loss:[ce]},{epochs:1,loss:[kd]}]", "[{epochs:4,loss:[ce,kd]}]"):
        words = ("loss=[ce,kd]", "teacher.cache=false", "train.epochs=4", f"phases={phases}")
        job(*words, store=store, runs=tmp_path / str(len(asked)))
        asked.append(read(folder_of(tmp_path / str(len(asked))))["teacher_forward_images"])
    assert asked[1] - asked[0] == 3 * 64 and asked[0] > 64


# Refused before anything is trained

BRIEF = ("teacher=none", "loss=[ce]", "loss.ce.weight=1", "train.epochs=2")
TWO = "phases=[{epochs:1},{epochs:1,lr:0.5}]"


def begun(folder, *words):
    """A run folder as a run with these words leaves it when it is killed at once."""
    with initialize_config_module("conf", version_base="1.3"):
        overrides = command(*SMALL, *words, store=folder / "store", runs=folder.parent)[3:]
        cfg = resolved(typed(compose("run", overrides=overrides)))
    folder.mkdir(exist_ok=True)
    cfg.write(folder / "config.yaml")
    return (folder / "config.yaml").read_bytes()


@pytest.mark.parametrize(
    ("theirs", "ours", "key"),
    [
        ((TWO,), (), "phases"),
        ((), (TWO,), "phases"),
        (("generations=2",), (), "generations"),
        ((), ("generations=2",), "generations"),
        (("generations=2",), ("generations=3",), "generations"),
    ],
)
def test_a_folder_with_a_run_of_other_phases_or_generations_is_refused_and_left_alone(tmp_path, theirs, ours, key):
    before = begun(tmp_path / "run", *BRIEF, *theirs)
    with pytest.raises(SystemExit, match=rf"run: holds another run; its {key} is .* Choose another folder"):
        job(*BRIEF, *ours, f"paths.run={tmp_path / 'run'}", store=tmp_path / "run" / "store", runs=tmp_path)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml"}


def test_a_loss_that_is_in_no_phase_is_refused(tmp_path):
    words = (*HINT[:-1], "phases=[{epochs:2,loss:[hint]},{epochs:2,loss:[ce]}]")
    sentence = r"^error: loss\.kd: is in none of the phases.* or type loss=\[ce,hint\]\.$"
    with pytest.raises(SystemExit, match=sentence):
        job(*words, store=tmp_path / "store", runs=tmp_path / "runs")
    for sound in ("phases=[{epochs:2,loss:[hint]},{epochs:2}]", PHASES):
        with initialize_config_module("conf", version_base="1.3"):
            check(typed(compose("run", overrides=["data=procedural", *HINT[:-1], sound])))
