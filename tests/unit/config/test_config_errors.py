"""What cannot be meant gets a sentence: misspelt keys, numbers out of range, targets that may not be called."""

import re
import sys

import pytest
import torch
import warm
from commandline import ROOT, environment
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf

from distill import build
from distill.config.hints import suggest_override
from distill.config.overrides import composed_job
from distill.config.schema import check, typed
from distill.pipeline import validation
from distill.run import cli
from distill.system.errors import ConfigError
from distill.system.hardware import pick_device

FERPLUS = ("data=ferplus", "data.root=faces")


def composed(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return compose("run", overrides=list(overrides))


def refused(*overrides):
    """What a user is told; as on the command line, hydra has shut down by then."""
    with pytest.raises(HydraException) as error:
        composed(*overrides)
    return suggest_override(error.value, list(overrides))


# Keys

MISSPELT = [
    ("student.widht=2", "student.width"),
    ("train.epoch=2", "train.epochs"),
    ("teacher.train.epoch=2", "teacher.train.epochs"),
    ("loss.dist.weigth=4", "loss.dist.weight"),
    ("sede=1", "seed"),
    ("trian.epochs=2", "train"),
    ("optimizr.lr=1", "optimizer"),
]


@pytest.mark.parametrize("asked, meant", MISSPELT)
def test_a_misspelt_key_is_told_which_was_meant(asked, meant):
    words = rf"{asked[: len(meant) // 3]}[\w.]*: no such key\. Did you mean ([\w.]+ or )*{re.escape(meant)}\b"
    assert re.match(words, refused(asked))


def test_a_key_of_a_teacher_that_there_is_none_of_is_told_so():
    sentence = refused("teacher=none", "teacher.train.epochs=1")
    assert "this run has no teacher" in sentence and "no such key" not in sentence


def test_a_key_unlike_any_other_is_told_which_there_are():
    assert re.search(r"augment\.xyzzy: no such key\. There are: .*rotate.*flip", refused("augment.xyzzy=1"))


@pytest.mark.parametrize("other", ["debug=smoke", "teacher=resnet50"])
def test_suggest_override_ensemble_of_an_experiment_replaced_says_what_to_type(other):
    sentence = refused("experiment=ferplus_distilled", other)
    assert sentence.startswith("teacher@teacher.members.first: ") and "Type teacher=ensemble" in sentence
    composed("experiment=ferplus_distilled", other.partition("teacher=")[0] or "seed=0", "teacher=ensemble")


def test_a_value_of_the_wrong_type_is_not_called_a_key_that_does_not_exist():
    sentence = refused("train.epochs=two")
    assert sentence.startswith("train.epochs: ") and "'two'" in sentence and "no such key" not in sentence


WRONG_KINDS = [
    ("train.epochs=two", "train.epochs: expected a whole number, got 'two'."),
    ("train.epochs.x=3", "train.epochs: expected a whole number, got 'train.epochs.x=3'."),
    ("eval.robustness=mask", "eval.robustness: expected a list of names, got 'mask'."),
    ("~train.epochs", "~train.epochs: train.epochs is needed. Leave that word out, and type train.epochs=VALUE."),
]


@pytest.mark.parametrize("word, sentence", WRONG_KINDS)
def test_suggest_override_value_of_another_kind_says_which_is_expected(word, sentence):
    assert refused(word) == sentence


@pytest.mark.parametrize("key", ["seed", "student.size"])
@pytest.mark.parametrize("reference", ["${nope}", "${oc.env:NO_SUCH}", "${foo:3}"])
def test_a_reference_that_leads_nowhere_is_told_by_its_key(key, reference):
    with pytest.raises(ConfigError, match=r"its \$\{\.\.\.\} cannot be filled in \(.*\)\. Type a value") as told:
        typed(composed_job([f"{key}={reference}"])[0])
    assert told.value.key == key and "full_key" not in str(told.value)


@pytest.mark.parametrize("word", ["train.compile=-1", "augment.autoaugment=7", "eval.cka=0.5"])
def test_of_numbers_0_and_1_alone_are_false_and_true(word):
    with pytest.raises(ValueError, match=rf"^{word.partition('=')[0]}: expected true or false, got "):
        composed_job([word])
    yes = f"{word.partition('=')[0]}=1"
    assert OmegaConf.select(composed_job([yes])[0], yes[:-2]) is True


def test_a_weight_of_a_loss_where_none_is_chosen_is_told_what_to_type():
    assert refused("loss=[]", "loss.ce.weight=1") == (
        "loss.ce.weight: ce is none of this run's losses. Type loss=[ce] with it."
    )


def test_an_unknown_choice_is_told_which_there_are():
    assert re.search(r"student/cren.*cern.*microexpnet", refused("student=cren"), re.DOTALL)


@pytest.mark.parametrize(
    "words",
    [
        ("data=folder", "data.root=nowhere"),
        ("data=jaffe", "data.root=nowhere", "data.fold=all"),
        ("data=folder", "data.root=nowhere", "generations=2"),
        ("data=folder", "data.root=tests/helpers", "data.subject=("),
        ("student=timm", "student.name=nowhere"),
        ("student.weights=pyproject.toml",),
    ],
)
def test_what_cannot_be_used_is_refused_before_there_is_a_run_folder_or_a_run_of_wandb(tmp_path, words, monkeypatch):
    small = ("data.train=64", "data.valid=32", "data.test=32") if not words[0].startswith("data=") else ()
    where = (f"paths.store={tmp_path / 'store'}", f"paths.runs={tmp_path / 'runs'}")
    alone = ("teacher=none", "loss=[ce]", "loss.ce.weight=1", "logger=wandb")
    monkeypatch.setattr(sys, "argv", ["distill.run", *alone, *where, *small, *words])
    with pytest.raises(SystemExit, match=r"^error: (?!.*no such key)"):
        cli()
    assert not (tmp_path / "runs").exists()


def test_the_command_line_says_which_key_was_meant(tmp_path):
    overrides = [*FERPLUS, "logger=none", f"paths.runs={tmp_path}", "student.widht=2"]
    command = [sys.executable, "-m", "distill.run", *overrides]
    done = warm.run(command, ROOT, environment())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: student.widht: no such key. Did you mean student.width" in done.stderr


@pytest.mark.parametrize("override, key", [("data=ferplus", "data.root"), ("teacher=timm", "teacher.name")])
def test_a_key_that_must_be_given_gets_a_sentence(override, key):
    with pytest.raises(ValueError, match=re.escape(f"{key}: must be given. Type {key}=")):
        typed(composed(override))


def test_an_argument_that_was_taken_out_is_told_by_its_key():
    cfg = typed(composed("student=microexpnet", "~student.width", "data=smoke", "teacher=none"))
    with pytest.raises(ConfigError, match=r"must be given\. Type student\.width=") as told:
        validation.validate(cfg)
    assert told.value.key == "student.width"


# Numbers

RULES = {
    "train.monitor=test/top1_accuracy": r"train\.monitor: .* got 'test/top1_accuracy'.* validation alone",
    "train.monitor=-test/nll": r"train\.monitor",
    "teacher.train.monitor=test/nll": r"teacher\.train\.monitor",
    "seed=99999999999999999999": r"^seed: expected 0 to 9007199254740992, got 9{20}",
    "augment.seed=-1": r"augment\.seed: expected 0 to 9007199254740992, got -1",
    "augment.num_views=-1": r"augment\.num_views: expected 0 or more, got -1",
    "plugins=[no_such]": r"plugins: there is no package no_such to import",
    "plugins=[no_such.part]": r"plugins: there is no package no_such\.part to import",
    "plugins=[1]": r"plugins: expected a list of names, such as plugins=\[mypackage\], got",
    "train.epochs=0": r"train\.epochs: expected 1 or more, got 0",
    "teacher.train.epochs=-1": r"teacher\.train\.epochs: expected 0 or more, got -1",
    "train.batch_size=0": r"train\.batch_size",
    "train.log_every_n_steps=0": r"train\.log_every_n_steps",
    "train.ema_decay=1": r"train\.ema_decay",
    "train.ema_decay=-0.1": r"train\.ema_decay",
    "train.max_grad_norm=-1": r"train\.max_grad_norm",
    "train.precision=fp16": r"train\.precision: expected auto, fp32 or bf16, got 'fp16'",
    "teacher.precision=fp16": r"teacher\.precision: expected auto, fp32 or bf16, got 'fp16'",
    "checkpoint.every_steps=-1": r"checkpoint\.every_steps",
    "train.threads=0": r"train\.threads: expected 1 to 1024, .* got 0",
    "augment.scale_min=2": r"augment: scale_min=2.* scale_max=1\.08",
    "augment.scale_min=0": r"augment: scale_min=0",
    "augment.erase_min=0.6": r"augment: erase_min",
    "augment.flip=1.5": r"augment\.flip: expected .* between 0 and 1, got 1\.5",
    "augment.brightness=-1": r"augment\.brightness: expected .* between 0 and 1, got -1",
    "augment.rotate=200": r"augment\.rotate: expected .* between 0 and 180",
    "teacher.augment.erase=-1": r"teacher\.augment\.erase",
    "train.class_balance_power=-1": r"train\.class_balance_power: expected 0 or more, got -1",
    "train.mixup=-0.1": r"train\.mixup: expected 0 or more, got -0\.1",
    "train.mixup=0.2": r"train\.mixup: got 0\.2, .*train\.mixup needs teacher\.cache=false or teacher=none",
}
SOUND = ["teacher.train.epochs=0", "train.monitor=-valid/nll", "checkpoint.every_steps=0", "train.max_grad_norm=1"]
SOUND += ["train.threads=2"]


@pytest.mark.parametrize("override", RULES)
def test_numbers_that_cannot_be_meant_are_refused(override):
    with pytest.raises(ValueError, match=RULES[override]):
        check(typed(composed(*FERPLUS, override)))


def test_mixup_is_for_live_teachers_or_none_and_for_soft_targets():
    live = ["train.mixup=0.2", "teacher.cache=false"]
    for sound in (live, ["train.mixup=0.2", "teacher=none", "loss=[ce]"], ["teacher.train.mixup=0.2"]):
        check(typed(composed(*FERPLUS, *sound)))
    with pytest.raises(ValueError, match=r"^loss\.ce\.target: hard undoes train\.mixup; give loss\.ce\.target=soft"):
        check(typed(composed(*FERPLUS, *live, "loss.ce.target=hard")))
    with pytest.raises(ValueError, match=r"^teacher\.loss\.ce\.target: hard undoes teacher\.train\.mixup"):
        check(typed(composed(*FERPLUS, "teacher.train.mixup=0.2", "teacher.loss.ce.target=hard")))
    with pytest.raises(ValueError, match=r"train\.mixup needs teacher\.cache=false"):
        check(typed(composed("teacher=ensemble", "train.mixup=0.2")))


IDLE = {
    "loss.ce.beta=0.99": r"^loss\.ce\.beta: got 0\.99, .*only balanced .* Add loss\.ce\.class_weights=balanced",
    "teacher.loss.ce.beta=0.9": r"^teacher\.loss\.ce\.beta: got 0\.9, .* Add teacher\.loss\.ce\.class_weights=balanced",
    "train.max_grad_norm=0": r"^train\.max_grad_norm: expected a norm above 0, or null for none, got 0",
    "teacher.train.max_grad_norm=0": r"^teacher\.train\.max_grad_norm: expected .* got 0",
}


@pytest.mark.parametrize("override", IDLE)
def test_options_that_would_do_nothing_are_refused(override):
    with pytest.raises(ValueError, match=IDLE[override]):
        validation.validate(typed(composed(*FERPLUS, override)))


def test_beta_is_for_balanced_weights_and_as_it_comes_is_no_choice():
    validation.validate(
        typed(composed(*FERPLUS, "loss=[ce,focal]", "loss.ce.class_weights=balanced", "loss.ce.beta=0.99"))
    )
    cfg = typed(composed(*FERPLUS, "loss=[ce,focal]"))
    validation.validate(cfg)
    assert all(loss["beta"] == validation.BETA and loss["class_weights"] is None for loss in cfg.loss.values())


def test_config_that_is_unusual_but_sound_is_allowed():
    check(typed(composed(*SOUND, "augment.erase=0", "augment.erase_min=0", "augment.erase_max=0")))


def test_the_members_of_an_ensemble_are_checked_too():
    with pytest.raises(ValueError, match=r"train\.batch_size: expected 1 or more, got 0"):
        check(typed(composed("teacher=ensemble", "teacher.members.second.train.batch_size=0")))


def test_a_device_that_does_not_exist_is_refused_by_its_key():
    with pytest.raises(ValueError, match=r"^train\.device: banana"):
        pick_device("banana")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_by_its_key():
    with pytest.raises(ValueError, match=r"^train\.device: got cuda, .* train\.device=cpu"):
        pick_device("cuda")


# What may be called

OUTSIDE = ["os.mkdir", "distillery.Loss", "subprocess.Popen", "builtins.eval", "distill", "", None]
BORROWED = ["distill.system.files.os.mkdir", "teachers.frozen.torch.save"]  # named through a module that imports them


@pytest.mark.parametrize("target", [*OUTSIDE, *BORROWED])
def test_a_target_outside_the_project_is_refused_and_not_called(tmp_path, target):
    with pytest.raises(ValueError, match=r"^_target_: .* plugins=\[NAME\]"):
        build.make({"_target_": target, "path": str(tmp_path / "made")}, [])
    assert not (tmp_path / "made").exists()


def test_a_target_within_a_components_arguments_is_not_called(tmp_path):
    inner = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    assert build.make({"_target_": "distill.training.optim.Constant", "warmup": inner}, []).warmup == inner
    assert not (tmp_path / "made").exists()


def test_a_class_that_cannot_be_found_is_told_in_one_sentence(caplog):
    with pytest.raises(ValueError, match=r"students\.nowhere\.Net cannot be found"):
        build.target({"_target_": "students.nowhere.Net"}, [])
    assert not caplog.records


def test_a_package_listed_under_plugins_may_be_named():
    assert build.make({"_target_": "fractions.Fraction", "numerator": 3}, ["fractions"], denominator=4) == 0.75
    with pytest.raises(ValueError, match="fractions_of_mine"):
        build.make({"_target_": "fractions_of_mine.Fraction"}, ["fractions"])
