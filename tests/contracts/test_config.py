"""Every yaml composes and fits what it names, and a run is named by what it is."""

import inspect
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn

from distill import build
from distill.augment.views import ViewRecipe
from distill.config.schema import MACHINE, RECIPE, USE, check, identity, run_name, teacher_run, typed
from distill.data.common.options import BESIDE_OPENER
from distill.data.common.options import DEFAULTS as OPTIONS
from distill.losses.base.ramps import is_ramp, ramp
from distill.training.optim import optimizer
from distill.types import Dataset, Split
from teachers.peer import is_peer

CONF = Path(__file__).resolve().parents[2] / "conf"
ELSEWHERE = ("sweep", "launcher/ray")  # read by python -m distill.sweep: test_sweep_file.py, test_launchers.py
CHOICES = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*.yaml"))
    if not {path.parent.name, f"{path.parent.name}/{path.stem}"} & set(ELSEWHERE)
]
DEFAULTS = OmegaConf.load(CONF / "run.yaml").defaults
GROUPS = {str(group) for entry in DEFAULTS if not isinstance(entry, str) for group in entry}
ANSWERS = {"data.root": "faces", "teacher.name": "resnet18", "teacher.run": "runs/assistant"} | {
    "teacher.members.second.run": "runs/first"
}
FERPLUS = ("data=ferplus", "data.root=faces")
GIVEN = {  # what the builder adds to a yaml's own keys
    "data": {"store"},
    "student": {"num_classes"},
    "teacher": {"num_classes", "classes"},
    "loss": set(),
    "schedule": set(),
    "logger": {"folder", "config", "name", "group", "job_type", "labels"},
    "peer": {"network", "name", "classes", "precision"},
}
TAKEN = {
    "student": {"weights", "lr_scale"},
    "loss": {"weight", "beta"},
    "teacher": {*RECIPE, *USE, "lr_scale"},
    "peer": {*USE, "student", "seed_offset"},
    "data": {*BESIDE_OPENER},
}  # what it uses itself
MADE = {"optimizer": optimizer, "augment": ViewRecipe}  # of yamls without a _target_


@pytest.fixture(autouse=True, scope="module")
def registry():
    with initialize_config_module("conf", version_base="1.3"):
        yield


@cache
def composed(*overrides):
    """Compose and answer every question that a yaml leaves to the user (???)."""
    cfg = compose("run", overrides=list(overrides))
    answers = [f"{key}={ANSWERS[key]}" for key in OmegaConf.missing_keys(cfg)]
    return typed(compose("run", overrides=[*overrides, *answers]) if answers else cfg)


def chosen(group, name):
    value = f"[{name}]" if group == "loss" else name
    if group == "loss":
        return composed(*FERPLUS, f"loss={value}", "teacher.cache=features")  # some read the teacher's feature maps
    neutral = () if group in ("data", "experiment", "debug") else FERPLUS  # procedural faces bring views of their own
    return composed(*neutral, f"{'' if group in GROUPS else '+'}{group}={value}")


def names(group):
    found = [name for other, name in CHOICES if other == group]
    assert found, group
    return found


# Every yaml


@pytest.mark.parametrize("group, name", CHOICES)
def test_a_choice_composes_passes_the_checks_and_says_what_it_is(group, name):
    check(chosen(group, name))
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    assert re.match(r"# \w", lines["@package" in lines[0]]), "the first line says what it is"


@pytest.mark.parametrize("group, name", [choice for choice in CHOICES if choice[0] in GIVEN])
def test_a_components_keys_are_arguments_of_what_it_names(group, name):
    cfg = chosen(group, name)
    node = cfg.loss[name] if group == "loss" else getattr(cfg, group)
    if node["_target_"] is None:
        assert (group, name, len(node)) == ("teacher", "none", 1)
        return
    role = "teacher" if node["_target_"].startswith("teachers.") else group  # one that learns in the student's place
    role = "peer" if is_peer(node) else role
    given = {"members"} if "members" in node else GIVEN[role]
    own = node.keys() - TAKEN.get(role, set()) - {"_target_", "members"}
    assert node["_target_"].startswith(build.ALLOWED) and not own & given
    inspect.signature(get_object(node["_target_"])).bind(**dict.fromkeys(own | given))
    if group == "data" and name not in ("procedural", "smoke"):
        known = {*inspect.signature(get_object(node["_target_"])).parameters, *OPTIONS}
        assert own <= known, "a key that ** takes must be an option, too"


@pytest.mark.parametrize("name", names("loss"))
def test_a_loss_is_made_with_its_weight(name):
    cfg = chosen("loss", name)
    objective = build.objective(cfg.loss, cfg.plugins, labeled(1, 1))
    assert objective.weights == {name: cfg.loss[name]["weight"]} and list(objective.losses) == [name]


@pytest.mark.parametrize("name", ["ce", "focal"])
def test_balanced_class_weights_come_from_the_training_labels_by_the_effective_number(name):
    weights = build.objective(*weighted(name, "balanced", 0.5), labeled(1, 2, 3)).losses[name].class_weights
    by_hand = torch.tensor([1.0, 0.5 / 0.75, 0.5 / 0.875])  # (1 - 1/2) / (1 - 1/2^n)
    assert torch.allclose(weights, 3 * by_hand / by_hand.sum()) and weights.sum().item() == pytest.approx(3)
    as_given = build.objective(*weighted(name, [1, 2, 4], 0.5), labeled(1, 2, 3)).losses[name].class_weights
    assert as_given.tolist() == [1, 2, 4]
    assert build.objective(*weighted(name, None, 0.5), labeled(1, 2, 3)).losses[name].class_weights is None


def test_balanced_weights_that_cannot_be_had_get_a_sentence():
    with pytest.raises(ValueError, match=r"loss\.ce\.class_weights: balanced.* no training picture shows c1\. Give"):
        build.objective(*weighted("ce", "balanced", 0.9), labeled(4, 0, 2))
    with pytest.raises(ValueError, match=r"loss\.focal\.beta: expected a number in \[0, 1\).*, got 1"):
        build.objective(*weighted("focal", "balanced", 1), labeled(4, 1))
    with pytest.raises(ValueError, match=r"loss\.ce\.class_weights: expected a list of numbers.*, got 'even'"):
        build.objective(*weighted("ce", "even", 0.9), labeled(4, 1))


@pytest.mark.parametrize(
    ("name", "option"), [("ce", "logit_adjustment"), ("kd", "teacher_adjustment"), ("dist", "teacher_adjustment")]
)
def test_class_priors_of_adjusted_logits_are_the_shares_of_the_training_labels(name, option):
    cfg = chosen("loss", name)
    node = cfg.loss[name]

    def priors(counts, **keys):
        made = build.objective({name: node | keys}, cfg.plugins, labeled(*counts)).losses[name]
        return None if made.log_priors is None else made.log_priors.exp().tolist()

    assert priors((1, 2, 5)) is None and priors((0, 2, 5)) is None, "off"
    assert priors((1, 2, 5), **{option: 1.0}) == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert priors((1, 2, 5), **{option: {"from": 0, "to": 1, "end": 3}}) == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert priors((0, 2, 5), **{option: 1.0, "class_priors": [1, 2, 3]}) == pytest.approx([1, 2, 3])
    with pytest.raises(
        ValueError, match=rf"loss\.{name}\.class_priors: null, but no training picture shows c0\. .*{option}=0"
    ):
        priors((0, 2, 5), **{option: 1.0})


def weighted(name, class_weights, beta):
    keys = {"weight": 1.0, "class_weights": class_weights, "beta": beta}
    target = {"ce": "distill.losses.ce.CrossEntropy", "focal": "distill.losses.focal.Focal"}[name]
    return {name: {"_target_": target, **keys}}, []


def labeled(*counts):
    """A data set whose training split has so many pictures of each class."""
    label = np.repeat(np.arange(len(counts)), counts)
    split = Split("train", None, np.arange(len(label)), None, label, (), "0")
    return Dataset("labels", tuple(f"c{k}" for k in range(len(counts))), "all", {"train": split})


@pytest.mark.parametrize("name", names("optimizer"))
def test_an_optimizer_is_made_with_its_numbers(name):
    numbers = chosen("optimizer", name).optimizer
    made = build.optimizer(numbers, None, [nn.Linear(2, 2)]).param_groups[0]
    assert isinstance(numbers["lr"], float) and made["lr"] == numbers["lr"]
    assert made["weight_decay"] == numbers["weight_decay"]


@pytest.mark.parametrize("name", names("schedule"))
def test_a_schedule_is_made_with_its_numbers(name):
    cfg = chosen("schedule", name)
    made = vars(build.make(cfg.schedule, cfg.plugins))
    wanted = {key: value for key, value in cfg.schedule.items() if key != "_target_"}
    assert wanted and {key: made[key] for key in wanted} == wanted


def test_views_name_the_numbers_that_the_recipe_takes():
    cfg = composed(*FERPLUS)
    assert build.augmentation(replace(cfg.augment, seed=3, num_views=5, rotate=7.0)).rotate == 7.0
    assert build.augmentation(cfg.augment) == ViewRecipe(), "the yaml and the class have one set of defaults"


VIEWS = {"teacher=resnet50": 8, "teacher=ensemble": 8, "teacher=resnet50 teacher.cache=false": 8, "teacher=none": 0}
VIEWS["teacher=none augment.num_views=3"] = 3


@pytest.mark.parametrize(("words", "views"), VIEWS.items())
def test_views_repeat_by_themselves_only_with_a_teacher(words, views):
    assert composed(*words.split()).augment.num_views == views


def test_what_a_constructor_has_a_default_for_has_the_same_one_in_its_yaml():
    compared, others = 0, {}
    for group, name in CHOICES:
        own = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))  # a preset has no _target_ in it
        node = own.get("data", own) if group == "data" else own
        made = MADE.get(group) or (node.get("_target_") and get_object(node["_target_"]))
        for one in inspect.signature(made).parameters.values() if made else ():
            if one.default is not one.empty and one.name in node and node[one.name] != "???":
                compared += 1
                if not same(one.default, node[one.name]):
                    others[f"{group}/{name}.yaml {one.name}"] = one.default, node[one.name]
    assert compared > 200 and not others


def same(default, value):
    if value == {}:
        return default is None  # a dict would be one for all
    value = ramp(value, "").last if is_ramp(value) else value  # where it stays
    value = None if value == "${oc.select:debug.limit,null}" else value  # debug=smoke has it otherwise
    return (list(default) if isinstance(default, tuple) else default) == value


def test_a_teachers_fine_tuning_has_the_same_keys_as_a_run():
    cfg = composed("teacher=resnet50")
    assert cfg.teacher["train"].keys() == vars(cfg.train).keys() - {*MACHINE}
    assert cfg.teacher["augment"].keys() == vars(cfg.augment).keys()
    assert {*RECIPE, *USE} <= cfg.teacher.keys()


# Names

WHERE = ["paths.runs=a", "paths.store=b", "paths.run=c", "train.threads=1", "train.device=cpu", "train.compile=true"]
WHERE += ["logger=none", "data.test_subset=[pose30]", "data.subset_dir=lists", "data.verify=true"]
WHERE += ["plugins=[mine]", "checkpoint.every_steps=7", "teacher.cache=false", "teacher.cache=there", "eval.cka=true"]
WHAT = ["seed=1", "augment.seed=1", "train.epochs=9", "student.width=0.5", "loss=[ce]", "loss.dist.weight=0.5"]
WHAT += ["teacher=none", "teacher.seed=1", "teacher.train.epochs=3", "optimizer=sgd", "schedule.warmup=2"]
WHAT += ["train.class_balance_power=1", "augment.autoaugment=true", "loss.ce.class_weights=balanced", "loss=[focal,kd]"]
WHAT += ["data.protocol=votes", "data.limit=9", "generations=2", "teacher=run", "teacher=peer"]
STUDENT = [
    "seed=1",
    "student.width=2",
    "student=microexpnet",
    "loss.dist.temperature=8",
    "loss=[kd]",
    "augment.rotate=3",
]
STUDENT += ["augment.seed=1", "train.epochs=2", "optimizer=sgd", "schedule=plateau", "teacher.precision=fp32"]
TEACHER = ["teacher.seed=1", "teacher.augment.rotate=3", "teacher.train.epochs=2", "teacher.size=48"]
TEACHER += ["teacher=mobilenetv3", "teacher.optimizer.lr=1", "teacher.loss.ce.target=hard", "data.protocol=votes"]


def fine_tuning(*overrides):
    """What a teacher's place in the store is computed from."""
    cfg = composed(*FERPLUS, *overrides)
    return identity(teacher_run(cfg, cfg.teacher))


def test_equal_configs_have_equal_names_whatever_the_order_of_the_overrides():
    overrides = [*FERPLUS, "seed=3", "student.width=2", "train.epochs=4"]
    name = run_name(composed(*overrides))
    assert name == run_name(composed(*overrides[::-1]))
    assert re.fullmatch(r"ferplus-resnet50-cern-[0-9a-f]{8}", name)


@pytest.mark.parametrize("override", WHERE)
def test_where_a_run_happens_changes_neither_its_name_nor_its_teacher(override):
    assert composed(*FERPLUS) != composed(*FERPLUS, override)
    assert run_name(composed(*FERPLUS)) == run_name(composed(*FERPLUS, override))
    assert fine_tuning() == fine_tuning(override)


@pytest.mark.parametrize("override", WHAT)
def test_what_a_run_is_changes_its_name(override):
    assert run_name(composed(*FERPLUS)) != run_name(composed(*FERPLUS, override))


@pytest.mark.parametrize("override", STUDENT)
def test_a_teacher_is_found_again_whatever_student_learns_from_it(override):
    assert composed(*FERPLUS) != composed(*FERPLUS, override)
    assert fine_tuning() == fine_tuning(override)


@pytest.mark.parametrize("override", TEACHER)
def test_another_recipe_makes_another_teacher(override):
    assert fine_tuning() != fine_tuning(override)


def test_a_teachers_run_is_a_run_of_its_own_without_a_teacher():
    cfg = composed(*FERPLUS, "teacher.train.epochs=3", "teacher.seed=4")
    inner = teacher_run(cfg, cfg.teacher)
    check(inner)
    assert inner.train.epochs == 3 and inner.seed == 4 and list(inner.loss) == ["ce"]
    assert inner.train.threads == cfg.train.threads and inner.train.device == cfg.train.device
    assert build.teacher(inner, None, None, None, None) is None
    assert run_name(inner).startswith("ferplus-none-resnet50-")
