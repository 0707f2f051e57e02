"""Weights that a run wrote, cut short or gone since: one sentence says what to delete, and that leads on."""

import re
import shutil

import pytest
from inside import folder_of, job, read

from distill.pipeline import completed

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


def flip(folder):
    file = folder / BEST
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)


def remove(folder):
    (folder / BEST).unlink()


@pytest.mark.parametrize(
    ("spoil", "why"), [(cut, r"is damaged \(.*\)"), (flip, r"is damaged \(its content .*\)"), (remove, "is gone")]
)
def test_the_folder_of_a_finished_run_is_to_be_deleted(complete, store, tmp_path, spoil, why):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    spoil(copy)
    message = rf"{copy / BEST}: {why}\. Delete the folder {copy} and start its command again\.$"
    for ask in (completed.weights, completed.header):
        with pytest.raises(ValueError, match=f"^{message}"):
            ask(copy)
    with pytest.raises(SystemExit, match=message):  # not: is complete; nothing to do
        job(*ALONE, store=store, runs=tmp_path)


def test_a_finished_run_that_was_moved_says_where_it_is(complete, store, tmp_path):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    assert f"run folder: {copy}\n" in job(*ALONE, store=store, runs=tmp_path)


def test_a_finished_run_without_its_predictions_is_measured_again(complete, store, tmp_path):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    files = [copy / "predictions" / f"{split}.csv" for split in ("valid", "test")]
    before = [file.read_text() for file in files]
    for spoil in (lambda: shutil.rmtree(copy / "predictions"), lambda: files[1].write_text(before[1][:-9])):
        spoil()
        assert "is complete; nothing to do" not in job(*ALONE, store=store, runs=tmp_path)
        assert [file.read_text() for file in files] == before
    assert "is complete; nothing to do" in job(*ALONE, store=store, runs=tmp_path)


def test_a_finished_run_without_its_config_is_not_taken_for_the_one_that_is_asked_for(complete, store, tmp_path):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    (copy / "config.yaml").unlink()
    with pytest.raises(SystemExit, match=r"holds a finished run without its config\.yaml, .* delete the folder and"):
        job(*ALONE, f"paths.run={copy}", "seed=7", store=store, runs=tmp_path)


@pytest.mark.parametrize(("spoil", "why"), [(cut, "is damaged"), (remove, "is gone")])
def test_an_unfinished_run_says_before_it_goes_on_to_start_it_again(complete, store, tmp_path, monkeypatch, spoil, why):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    (copy / "result.json").unlink()
    spoil(copy)
    with monkeypatch.context() as patch:
        patch.delattr("distill.pipeline.run.detach_hooks")  # what comes next
        with pytest.raises(
            SystemExit, match=rf"{BEST}: {why}.* Delete the folder {copy} and start its command again\.$"
        ):
            job(*ALONE, store=store, runs=tmp_path)
    shutil.rmtree(copy)
    job(*ALONE, store=store, runs=tmp_path)
    assert read(copy)["status"] == "complete"


def test_a_checkpoint_with_a_block_of_zeros_is_not_gone_on_with(complete, store, tmp_path):
    copy = shutil.copytree(complete, tmp_path / complete.name)
    (copy / "result.json").unlink()
    file = copy / "checkpoints" / "last.pt"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    file.write_bytes(content)
    with pytest.raises(
        SystemExit, match=r"last\.pt: not a readable checkpoint \(the CRC-32 of its part .*\)\. Delete it to"
    ):
        job(*ALONE, store=store, runs=tmp_path)
    file.unlink()
    job(*ALONE, store=store, runs=tmp_path)
    assert read(copy)["status"] == "complete"


def test_a_teacher_of_the_store_is_trained_again(tmp_path):
    words = {"store": tmp_path / "store", "runs": tmp_path / "runs"}
    job("train.epochs=1", **words)
    (teacher,) = (path.parent for path in (tmp_path / "store").glob("teachers/*/result.json"))
    whole = (teacher / "result.json").read_text()
    assert '"student": {' in whole
    (teacher / "result.json").write_text(whole.replace('"student": {', '"studenu": {'))
    with pytest.raises(SystemExit, match=r"result\.json: is damaged\. Delete the folder .* trained again\."):
        job("train.epochs=1", "seed=1", **words)
    (teacher / "result.json").write_text(whole)
    flip(teacher)
    with pytest.raises(
        SystemExit, match=rf"{BEST}: is damaged .* Delete the folder {re.escape(str(teacher))}; it is trained"
    ):
        job("train.epochs=1", "seed=1", **words)
