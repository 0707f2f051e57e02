"""Born-again students: each generation from its own start, taught by the one before, and all of them together."""

import json

import numpy as np
import pytest
from inside import folder_of, job, read
from omegaconf import OmegaConf
from safetensors.torch import load_file

from distill.evaluation.inference import read_predictions
from distill.system.files import sha256

WORDS = ("teacher=none", "generations=3", "train.epochs=1", "seed=5")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return job(*WORDS, store=store, runs=runs), folder_of(runs)


def config_of(folder):
    return OmegaConf.load(folder / "config.yaml")


def test_each_generation_is_taught_by_the_one_before_and_starts_by_its_own_seed(whole):
    _, folder = whole
    parts = [folder / f"generation-{k}" for k in (1, 2, 3)]
    configs = [config_of(part) for part in parts]
    assert [cfg.seed for cfg in configs] == [5, 6, 7]
    assert list(configs[0].loss) == ["ce"] and list(configs[2].loss) == ["ce", "dist"]
    assert configs[0].teacher._target_ is None
    for before, cfg in zip(parts, configs[1:], strict=False):
        assert cfg.teacher.sha256 == sha256(before / "checkpoints" / "best.safetensors")
    assert len({sha256(part / "checkpoints" / "best.safetensors") for part in parts}) == 3


def test_a_first_generation_without_a_teacher_says_which_losses_it_leaves_out(whole):
    assert "generation 1 has no teacher: it learns by ce alone, without dist" in whole[0]


def test_the_first_generation_is_the_run_that_it_would_be_alone(whole, store, tmp_path):
    job("teacher=none", "loss=[ce]", "train.epochs=1", "seed=5", store=store, runs=tmp_path)
    ours, theirs = (
        load_file(f / "checkpoints" / "best.safetensors") for f in (folder_of(tmp_path), whole[1] / "generation-1")
    )
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in theirs)


def test_the_whole_lists_every_generation_and_the_mean_of_their_probabilities(whole):
    folder = whole[1]
    result, parts = read(folder), [read(folder / f"generation-{k}") for k in (1, 2, 3)]
    assert [g["test/nll"] for g in result["generations"]] == [p["student"]["metrics"]["test/nll"] for p in parts]
    assert result["student"]["metrics"] == parts[2]["student"]["metrics"] and result["status"] == "complete"
    classes = tuple(result["data"]["classes"])
    for split in ("valid", "test"):
        files = [folder / f"generation-{k}" / "predictions" / f"{split}.csv" for k in (1, 2, 3)]
        answers = [read_predictions(file, classes) for file in files]
        mean, labels = sum(p for p, _, _ in answers) / 3, answers[0][1]
        nll = -np.log(mean[np.arange(len(labels)), labels]).mean()
        metrics = result["ensemble"]["metrics"]
        assert metrics[f"{split}/top1_accuracy"] == pytest.approx((mean.argmax(1) == labels).mean())
        assert metrics[f"{split}/nll"] == pytest.approx(nll, abs=1e-4)


def test_a_generation_that_is_complete_is_not_done_again(whole, store):
    folder = whole[1]
    result = read(folder)
    times = {k: (folder / f"generation-{k}" / "result.json").stat().st_mtime_ns for k in (1, 2)}
    (folder / "result.json").unlink()
    (folder / "generation-3" / "result.json").unlink()
    job(*WORDS, store=store, runs=folder.parent)
    assert read(folder)["ensemble"] == result["ensemble"] and read(folder)["generations"] == result["generations"]
    assert times == {k: (folder / f"generation-{k}" / "result.json").stat().st_mtime_ns for k in (1, 2)}
    assert "is complete; nothing to do" in job(*WORDS, store=store, runs=folder.parent)


def test_generations_that_cannot_be_get_a_sentence(store, tmp_path):
    for words, sentence in (
        (("generations=0",), "generations: expected 1 or more.*, got 0"),
        (
            ("teacher=none", "loss=[kd]", "generations=2"),
            r"loss: teacher=none was chosen, and kd needs a teacher\. Type loss=\[ce\]",
        ),
        (("teacher=peer", "loss=[ce,dml]", "generations=2"), "does not learn as a peer does"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            job(*words, store=store, runs=tmp_path)


def test_one_generation_changes_nothing_in_the_name(store, tmp_path):
    job("teacher=none", "loss=[ce]", "train.epochs=1", store=store, runs=tmp_path / "runs")
    name = folder_of(tmp_path / "runs").name
    config = config_of(tmp_path / "runs" / name)
    del config["generations"], config["eval"]["cka"]
    OmegaConf.save(config, tmp_path / "runs" / name / "config.yaml")  # as a run is that knew nothing of both
    result = read(tmp_path / "runs" / name)
    del result["eval"]["cka"]
    (tmp_path / "runs" / name / "result.json").write_text(json.dumps(result))
    again = job("teacher=none", "loss=[ce]", "train.epochs=1", "generations=1", store=store, runs=tmp_path / "runs")
    assert "is complete; nothing to do" in again
