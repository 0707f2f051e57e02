"""Weights that a run wrote, cut short or gone since: one sentence says what to delete, and that leads on."""

import re
import shutil

import pytest
from inside import folder_of, job, read

from distill.pipeline import completed as finished

ALONE = ("teacher=none", "loss=[ce]", "train.epochs=1")
BEST = "checkpoints/best.safetensors"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def complete(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    job(*ALONE, store=store, runs=runs)
    return folder_of(runs)


def cut(folder):
    file = folder / BEST
    file.write_bytes(file.read_bytes()[:-1])


def remove(folder):
    (folder / BEST).unlink()


@pytest.mark.parametrize(("spoil", "why"), [(cut, r"is damaged \(.*\)"), (remove, "is gone")])
def test_the_folder_of_a_finished_run_is_to_be_deleted(complete, tmp_path, spoil, why):
    copy = shutil.copytree(complete, tmp_path / "copy")
    spoil(copy)
    for ask in (finished.weights, finished.header):
        with pytest.raises(
            ValueError, match=rf"^{copy / BEST}: {why}\. Delete the folder {copy} and start its command again\.$"
        ):
            ask(copy)


@pytest.mark.parametrize(("spoil", "why"), [(cut, "is damaged"), (remove, "is gone")])
def test_an_unfinished_run_is_started_again(complete, store, tmp_path, spoil, why):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    (copy / "result.json").unlink()
    spoil(copy)
    with pytest.raises(SystemExit, match=rf"{BEST}: {why}.* Delete the folder {copy} and start its command again\.$"):
        job(*ALONE, store=store, runs=tmp_path)
    shutil.rmtree(copy)
    job(*ALONE, store=store, runs=tmp_path)
    assert read(copy)["status"] == "complete"


def test_a_teacher_of_the_store_is_trained_again(tmp_path):
    words = {"store": tmp_path / "store", "runs": tmp_path / "runs"}
    job("train.epochs=1", **words)
    (teacher,) = (path.parent for path in (tmp_path / "store").glob("teachers/*/result.json"))
    cut(teacher)
    with pytest.raises(
        SystemExit, match=rf"{BEST}: is damaged .* Delete the folder {re.escape(str(teacher))}; it is trained"
    ):
        job("train.epochs=1", "seed=1", **words)
