"""A run that is killed with SIGKILL and started again equals one that was not."""

import signal

import pytest
from commandline import assert_equal_runs, checkpoint_writes, distill, kill_when
from safetensors.torch import load_file

JOB = ("train.epochs=3", "checkpoint.every_steps=2", "augment.num_views=2", "train.log_every_n_steps=3", "seed=11")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    done = distill(*JOB, store=store, runs=runs)
    assert done.returncode == 0, done.stderr
    return next(runs.iterdir())


@pytest.mark.parametrize("writes", [1, 6])
def test_a_killed_run_goes_on_and_equals_an_uninterrupted_one_bit_for_bit(whole, store, tmp_path, writes):
    kill_when(checkpoint_writes(tmp_path, writes), *JOB, store=store, runs=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "result.json").exists()
    done = distill(*JOB, store=store, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(folder, whole)


def test_ctrl_c_ends_a_run_in_one_sentence_and_it_goes_on(whole, store, tmp_path):
    ended = kill_when(checkpoint_writes(tmp_path, 2), *JOB, store=store, runs=tmp_path, number=signal.SIGINT)
    assert ended == (130, "stopped; the same command goes on from the last checkpoint, if there is one\n")
    (folder,) = tmp_path.iterdir()
    assert not (folder / "result.json").exists()
    assert distill(*JOB, store=store, runs=tmp_path).returncode == 0
    assert_equal_runs(folder, whole)


def test_a_run_killed_twice_while_its_teacher_is_fine_tuned_leaves_the_same_teacher(store, whole, tmp_path):
    other = tmp_path / "store"
    for kills in (1, 2):
        kill_when(checkpoint_writes(other / "teachers", kills), *JOB, store=other, runs=tmp_path / "runs")
    done = distill(*JOB, store=other, runs=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    ours, theirs = (load_file(next(path.glob("teachers/*/checkpoints/best.safetensors"))) for path in (other, store))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    assert not list(other.rglob("*.tmp"))


def test_a_run_with_dropout_momentum_and_a_plateau_killed_before_its_second_view_is_cached_equals_one_that_was_not(
    tmp_path,
):
    dropout = (
        "student.dropout=0.5",
        "checkpoint.every_steps=0",
        "optimizer=sgd",
        "schedule=plateau",
        "schedule.patience=0",
    )
    stores = [tmp_path / "store1", tmp_path / "store2"]
    assert distill(*JOB, *dropout, store=stores[0], runs=tmp_path / "whole").returncode == 0
    kill_when(checkpoint_writes(tmp_path / "killed", 1), *JOB, *dropout, store=stores[1], runs=tmp_path / "killed")
    assert not list(stores[1].glob("logits/*/train-view2.npy"))
    assert distill(*JOB, *dropout, store=stores[1], runs=tmp_path / "killed").returncode == 0
    ours, theirs = (
        load_file(next(path.glob("*/checkpoints/best.safetensors")))
        for path in (tmp_path / "killed", tmp_path / "whole")
    )
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_config_that_was_cut_off_by_a_kill_does_not_stop_the_run(whole, store, tmp_path):
    folder = tmp_path / whole.name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".config.yaml.tmp").write_text("seed: 1")
    assert distill(*JOB, store=store, runs=tmp_path).returncode == 0
    assert (folder / "config.yaml").read_bytes().replace(str(tmp_path).encode(), str(whole.parent).encode()) == (
        whole / "config.yaml"
    ).read_bytes()
