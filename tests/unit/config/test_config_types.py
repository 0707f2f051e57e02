"""Every key has a type, told by schema and constructors: another one gets a sentence with the key, before anything is made."""

from copy import deepcopy
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
from commandline import ROOT, distill, result_of
from hydra import compose, initialize_config_module

from distill.config.overrides import composed_job
from distill.config.schema import absolute, identity, typed
from distill.pipeline import validation
from distill.pipeline.key_types import check_types
from distill.system.typed import as_typed


@cache
def composed(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return typed(compose("run", overrides=list(overrides)))


def changed(key, value, *overrides):
    """The config of these words with one key set to a value, whatever hydra would say."""
    cfg = deepcopy(composed(*overrides))
    *path, last = key.split(".")
    node = vars(cfg)
    for name in path:
        node = node[name] if isinstance(node[name], dict) else vars(node[name])
    node[last] = value
    return cfg


WRONG = {
    "optimizer.weight_decay": None,
    "optimizer.lr": "0,001",
    "optimizer.decay_biases": "no",
    "optimizer.betas": [0.9],
    "optimizer.typo": 1,
    "schedule.final": "abc",
    "schedule.typo": 1,
    "student.size": 48.5,
    "student.mean": "gray",
    "student.typo": 1,
    "student.weights": 7,
    "student.lr_scale": "fast",
    "teacher.augment.erase": "a b",
    "teacher.augment.typo": 1,
    "teacher.train.epochs": "ten",
    "teacher.train.ema_decay": float("nan"),
    "teacher.optimizer.lr": True,
    "teacher.schedule.warmup": None,
    "teacher.loss.ce.label_smoothing": "little",
    "teacher.loss.ce.typo": 1,
    "teacher.seed": "abc",
    "teacher.size": [64],
    "teacher.pretrained": "maybe",
    "teacher.precision": False,
    "teacher.typo": 1,
    "train.ema_decay": float("inf"),
    "augment.rotate": float("nan"),
    "eval.severities": [1, "two"],
    "logger.project": 5,
    "logger.typo": 1,
    "loss.ce.typo": 1,
    "student.variant": "best",
    "paths.store": 5,
    "student.width": -1.0,
    "data.typo": 1,
}


@pytest.mark.parametrize("key", WRONG)
def test_value_of_another_type_and_key_that_nothing_reads_are_refused_by_name(key):
    with pytest.raises(ValueError, match=rf"^{key}\b|^{key.rpartition('.')[0]}: there is no option 'typo'"):
        validation.validate(changed(key, WRONG[key]))


SOUND = {
    "optimizer.lr": 1,
    "student.mean": [0.5],
    "student.lr_scale": None,
    "teacher.std": [0.2, 0.2, 0.2],
    "teacher.cache": "features",
    "teacher.options": {"anything": [1, "x"]},
    "loss.ce.class_weights": "balanced",
    "eval.severities": [],
}


@pytest.mark.parametrize("key", SOUND)
def test_values_of_the_right_type_pass(key):
    check_types(changed(key, SOUND[key]))


@pytest.mark.parametrize("key, value", [("plugins", 0), ("plugins", [1]), ("seed", "x"), ("generations", 1.5)])
def test_type_that_a_reference_brings_is_refused(key, value):
    with pytest.raises(ValueError, match=rf"^{key}: "):
        check_types(replace(composed(), **{key: value}))


@pytest.mark.parametrize("group", ["data", "student", "teacher", "optimizer", "schedule", "logger", "loss"])
def test_group_without_a_choice_is_refused(group):
    with pytest.raises(ValueError, match=rf"^{group}: expected .* got null"):
        validation.validate(replace(composed(), **{group: None}))


@pytest.mark.parametrize("key, value", [("lr", -1.0), ("weight_decay", -0.1), ("eps", -1e-8), ("betas", [0.9, 1.0])])
def test_numbers_of_an_optimizer_out_of_range_are_refused(key, value):
    for where in ("", "teacher."):
        with pytest.raises(ValueError, match=rf"^{where}optimizer\.{key}: "):
            validation.validate(changed(f"{where}optimizer.{key}", value))


@pytest.mark.parametrize("key", ["warmup", "final"])
def test_numbers_of_a_schedule_below_zero_are_refused(key):
    with pytest.raises(ValueError, match=rf"^schedule\.{key}: expected 0 or more, got -1"):
        validation.validate(changed(f"schedule.{key}", -1.0))


def test_numbers_that_no_step_could_be_made_with_are_refused():
    for words, key in (
        (("optimizer=sgd", "optimizer.momentum=0"), "optimizer.nesterov: needs a momentum above 0"),
        (("optimizer=sgd", "optimizer.momentum=1.5"), "optimizer.momentum: expected a number below 1, got 1.5"),
        (("schedule=plateau", "schedule.factor=1"), "schedule.factor: expected a number below 1, got 1"),
        (("student=timm", "student.channels=-1"), "input.channels: expected 1 .* got -1"),
        (("student=timm", "student.size=0"), "input.size: expected 1 to 4096 pixels, got 0"),
    ):
        with pytest.raises(ValueError, match=f"^{key}"):
            validation.validate(composed(*words))


COMPONENTS = [(path.parent.name, path.stem) for group in ("data", "student", "teacher", "optimizer", "schedule", "logger")
              for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]  # fmt: skip
NEEDED = {"timm": "teacher.name=resnet18", "run": "teacher.run=x", "mobilenetv1_faces": "teacher.weights=x"}


@pytest.mark.parametrize("group, name", COMPONENTS)
def test_defaults_of_every_yaml_have_their_types(group, name):
    more = ["++data.root=x"] * (group == "data" and name not in ("procedural", "smoke"))
    more += [NEEDED[name]] if group == "teacher" and name in NEEDED else []
    check_types(composed(f"{group}={name}", *more))


@pytest.mark.parametrize(
    "word",
    [
        "logger=[1,2]",
        "student={a: 1}",
        "data=[null]",
        "loss=[[ce]]",
        "+teacher@teacher.members.a=[1]",
        "schedule=null",
        "data=5",
        "student=true",
    ],
)
def test_a_choice_that_is_no_name_is_refused_in_words(word):
    with pytest.raises(ValueError, match=r"expected the name of a choice, or a list of names\. Type \S+=NAME\."):
        composed_job([word])


def test_a_value_is_told_as_it_is_typed():
    found = as_typed([None, True, 0, 1.5, "a", {"b": False}])
    assert found == "[null, true, 0, 1.5, 'a', {b: false}]"


def test_config_with_a_refused_key_makes_nothing(tmp_path):
    done = distill("optimizer.weight_decay=null", store=tmp_path / "store", runs=tmp_path / "runs")
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert done.stderr == "error: optimizer.weight_decay: expected a finite number, got null.\n"


def test_paths_are_absolute_and_change_no_identity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    words = (
        "teacher=timm",
        "teacher.name=resnet18",
        "data=ferplus",
        "data.root=faces",
        "student.weights='~/w.safetensors'",
    )
    cfg = composed(
        *words, "teacher.weights=t.safetensors", "teacher.cache=./kept", "paths.run=one", "paths.store=store"
    )
    (tmp_path / "w.safetensors").touch()
    (tmp_path / "t.safetensors").touch()
    found = absolute(cfg)
    expected = {"data.root": "faces", "student.weights": "w.safetensors", "teacher.weights": "t.safetensors"}
    expected |= {"teacher.cache": "kept", "paths.run": "one", "paths.runs": "runs", "paths.store": "store"}
    for key, name in expected.items():
        group, _, last = key.partition(".")
        assert asdict(found)[group][last] == str(tmp_path / name), key
    assert identity(found) == identity(cfg)
    assert absolute(composed()).teacher["cache"] is True and absolute(composed()).paths.run is None
    with pytest.raises(ValueError, match=r"^data\.root: is empty"):
        absolute(changed("data.root", ""))
    with pytest.raises(ValueError, match=r"^paths\.runs: ~nobody-here/x .* Type the path in full"):
        absolute(changed("paths.runs", "~nobody-here/x"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A finished run that was started with relative paths in a folder of its own."""
    home = tmp_path_factory.mktemp("home")
    done = distill("paths.store=store", "paths.runs=runs", "train.epochs=1", "teacher=none", "loss=[ce]",
                   "loss.ce.weight=1", store=home, runs=home, cwd=home)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return home, done.stdout


def test_config_of_a_run_that_was_started_with_relative_paths_holds_absolute_ones(elsewhere):
    home, printed = elsewhere
    folder = Path(result_of(home / "runs")["folder"])
    text = (home / folder / "config.yaml").read_text(encoding="utf-8")
    assert f"store: {home}/store" in text and f"runs: {home}/runs" in text
    assert f"python -m distill.export runs/{folder.name}" in printed or "run folder: runs/" in printed


def test_batch_of_one_with_batch_norm_on_1x1_maps_gets_a_sentence_with_the_key(tmp_path):
    words = ("student=timm", "student.name=mobilenetv3_small_050", "student.size=32", "train.batch_size=1")
    done = distill(
        *words, "teacher=none", "loss=[ce]", "loss.ce.weight=1", "data.train=8", store=tmp_path, runs=tmp_path
    )
    assert (
        done.returncode == 1 and "error: train.batch_size: mobilenetv3_small_050 normalizes maps of 1x1" in done.stderr
    )
