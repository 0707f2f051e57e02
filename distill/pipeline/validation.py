"""Validation of a run's config: rules between its parts, those that read the components' classes too."""

import math
from collections.abc import Mapping
from dataclasses import replace

from distill import build
from distill.config import schema as config
from distill.config.ranges import check_weights
from distill.evaluation import robustness
from distill.evaluation.inference import tta_views
from distill.evaluation.metrics import OF_TEACHER
from distill.losses.base.ramps import ramp
from distill.pipeline.elastic import TERM, check_elastic, with_losses
from distill.pipeline.key_types import check_types
from distill.pipeline.unlabeled import check_extra, check_unlabeled
from distill.runs.config import EvalConfig, RunConfig
from distill.system.errors import ConfigError, expect
from distill.system.typed import as_typed
from teachers.peer import is_peer

BETA = 0.9999  # as conf/loss has it; the key is there, and in a run's name, even where it does nothing


def validate(cfg: RunConfig) -> None:
    """Refuse a config that makes no run.

    Raises:
        ConfigError: the first setting that breaks a rule.
    """
    _refuse_nameless(cfg.loss)
    check_types(cfg)
    config.check(cfg)
    check_evaluation(cfg.eval)
    build.data_node(cfg.data, cfg.plugins)
    monitor = cfg.train.monitor
    if monitor.removeprefix("-") in OF_TEACHER and cfg.data.get("labels") != "none":
        raise ConfigError(
            "train.monitor",
            f"got {monitor}; where there are labels, the epoch is chosen by them. Type "
            "train.monitor=valid/top1_accuracy.",
        )
    check_extra(cfg)
    _check_teacher(cfg)
    check_elastic(cfg)
    for name in build.losses_with("needs_features", cfg.loss, cfg.plugins):
        config.check_teacher_maps(name, cfg.teacher)
    for where, one in config.recipes(cfg):
        _check_losses(where, one)


def check_evaluation(wanted: EvalConfig) -> None:
    """Refuse test-time augmentation, corruptions and severities that do not exist.

    Args:
        wanted: the keys under eval.

    Raises:
        ValueError: with those there are.
    """
    tta_views(wanted.tta)
    robustness.check(wanted.robustness, wanted.severities)


def learned_by(cfg: RunConfig) -> tuple[RunConfig, list[str]]:
    """Leave out the losses that a run without a teacher, or without labels, cannot learn by; one that is left alone has weight 1.

    Without labels the epoch is chosen by how often the student answers as the teacher does.

    Returns:
        (config, names of the losses that were left out).

    Raises:
        ConfigError: no loss is left.
    """
    _refuse_nameless(cfg.loss)
    unlabeled = cfg.data.get("labels") == "none"
    if unlabeled:
        check_unlabeled(cfg)
        comparing, *needing = (
            build.losses_with(need, cfg.loss, cfg.plugins)
            for need in ("needs_teacher", "needs_label", "needs_every_label")
        )
        left_out = [
            name
            for name in cfg.loss
            if name != TERM and (name not in comparing or any(name in names for names in needing))
        ]
        monitor = cfg.train.monitor if cfg.train.monitor.removeprefix("-") in OF_TEACHER else OF_TEACHER[0]
        cfg = replace(cfg, train=replace(cfg.train, monitor=monitor))
    elif cfg.teacher["_target_"] is not None or cfg.generations != 1:
        return cfg, []
    else:
        left_out = build.losses_with("needs_teacher", cfg.loss, cfg.plugins)
    kept = {name: loss for name, loss in cfg.loss.items() if name not in left_out}
    chosen = [name for name in kept if name != TERM]  # which is no choice
    phases = with_losses(cfg.phases, lambda names: [name for name in names if name not in left_out])
    if left_out and not chosen:
        need = "needs" if len(left_out) == 1 else "need"
        if unlabeled:
            raise ConfigError(
                "loss",
                f"{', '.join(left_out)} {need} labels, and data.labels=none has none. Type loss=[kd] or another loss on the "
                "teacher's answers.",
            )
        raise ConfigError(
            "loss",
            f"teacher=none was chosen, and {', '.join(left_out)} {need} a teacher. Type loss=[ce], or choose a teacher, "
            "such as teacher=resnet50.",
        )
    weight = kept[chosen[0]].get("weight") if len(chosen) == 1 else None
    if type(weight) in (int, float) and 0 < weight < math.inf:
        kept = kept | {chosen[0]: kept[chosen[0]] | {"weight": 1.0}}
    return replace(cfg, loss=kept, phases=phases), left_out


def loss_summary(losses: dict, comparing: list[str], teacher: dict, labels: bool) -> str:
    """Return the line that says by which losses a run learns, and what each compares the student with.

    Args:
        losses: name -> keys.
        comparing: names of those that need a teacher.
        teacher: its keys.
        labels: whether the faces have any.
    """
    answers = "the generation before" if teacher["_target_"] is None else f"teacher {config.label(teacher)}"
    widest = "labels and the widest width" if labels else "the widest width"
    terms, by = [], {TERM: widest} | dict.fromkeys(comparing, answers)
    for name, node in losses.items():
        weight = ramp(node["weight"], f"loss.{name}.weight")
        share = f"{weight.first:g}" if weight.first == weight.last else f"{weight.first:g} to {weight.last:g}"
        terms.append(f"{name} ({by.get(name, 'labels')}, weight {share})")
    return f"loss: {' + '.join(terms)}"


def _refuse_nameless(losses: dict) -> None:
    expect(isinstance(losses, dict), "loss", "one, such as loss=[ce,dist]", as_typed(losses))
    for name, node in losses.items():
        if not isinstance(node, dict):
            raise ConfigError(
                f"loss.{name}",
                f"{node} is there, but a loss has a name first. Begin its yaml with # @package loss.NAME",
            )


def _check_losses(where: str, cfg: RunConfig) -> None:
    """Refuse losses that mixed pictures mislead, and weights and options that would do nothing."""
    check_weights(where, cfg.loss, cfg.phases, cfg.train.epochs)
    if cfg.train.mixup and (labeled := build.losses_with("needs_label", cfg.loss, cfg.plugins)):
        raise ConfigError(
            f"{where}loss.{labeled[0]}",
            "reads one class from each target, and a mixed face shows two. "
            f"Type {where}train.mixup=0, or choose losses that take the whole target, such as ce and kd.",
        )
    if cfg.train.mixup and (remembering := build.losses_with("needs_memory", cfg.loss, cfg.plugins)):
        raise ConfigError(
            f"{where}loss.{remembering[0]}",
            f"remembers faces, and a mixture is none of them. Type {where}train.mixup=0, or leave it out.",
        )
    for name, loss in cfg.loss.items():
        if loss.get("class_weights") != "balanced" and loss.get("beta", BETA) != BETA and "class_weights" in loss:
            raise ConfigError(
                f"{where}loss.{name}.beta",
                f"got {loss['beta']}, but only balanced class weights have it. "
                f"Add {where}loss.{name}.class_weights=balanced, or leave beta out.",
            )


def _check_teacher(cfg: RunConfig) -> None:
    """Refuse a teacher, a number of generations or an evaluation that do not go together."""
    teacher, generations = cfg.teacher, cfg.generations
    members = teacher.get("members", {})
    expect(generations >= 1, "generations", "1 or more", generations)
    if any(is_peer(member) for member in members.values()):
        raise ConfigError(
            "teacher.members", "a peer learns beside the student and is no member of an ensemble. Type teacher=peer."
        )
    mutual = [name for name, loss in cfg.loss.items() if loss["_target_"] == "distill.losses.dml.MutualLearning"]
    if is_peer(teacher):
        _check_peer(cfg, teacher, mutual)
    elif mutual:
        raise ConfigError(f"loss.{mutual[0]}", "needs a teacher that learns, too. Type teacher=peer, or loss=[ce,kd].")
    if cfg.data.get("fold") == "all" and (runs := [t["run"] for t in (teacher, *members.values()) if "run" in t]):
        raise ConfigError(
            "data.fold",
            f"got all, but the teacher {runs[0]} is one finished run, and the people that it learned "
            "from are the test faces of other folds. Choose a teacher that is fine-tuned in each fold, such as "
            "teacher=resnet50, or type data.fold=K with a run of that same fold.",
        )
    if cfg.eval.cka and members:
        raise ConfigError(
            "eval.cka",
            "the layers of an ensemble are those of several networks. Choose one teacher, or eval.cka=false.",
        )
    if cfg.eval.cka and teacher["_target_"] is None and generations == 1:
        raise ConfigError(
            "eval.cka",
            "compares the layers of student and teacher, but teacher=none was chosen. Choose a teacher, such as "
            "teacher=resnet50 or teacher=run teacher.run=DIR, or eval.cka=false.",
        )


def _check_peer(cfg: RunConfig, peer: dict, mutual: list[str]) -> None:
    if peer.get("cache") is not False:
        raise ConfigError(
            "teacher.cache",
            f"got {peer['cache']}, but a peer changes at every step. teacher=peer needs teacher.cache=false.",
        )
    if peer["seed_offset"] < 1:
        raise ConfigError(
            "teacher.seed_offset",
            f"expected 1 or more: two students of one start stay the same, got {peer['seed_offset']}.",
        )
    if cfg.generations > 1:
        raise ConfigError(
            "generations",
            "from the second on the teacher is the generation before, which does not learn as a peer does. "
            "Type generations=1, or choose another teacher.",
        )
    if cfg.student.get("lr_scale"):
        raise ConfigError(
            "student.lr_scale",
            "names parameters of the student and would not reach those of its peer. teacher=peer needs "
            "student.lr_scale=null.",
        )
    if not mutual:
        raise ConfigError(
            "teacher", "a peer learns by loss.dml alone, which was not chosen. Type loss=[ce,dml] loss.ce.weight=1."
        )
    if mapped := build.losses_with("needs_features", cfg.loss, cfg.plugins):
        raise ConfigError(
            f"loss.{mapped[0]}",
            "reads the feature maps of a finished teacher, which a peer is not. Leave it out with teacher=peer.",
        )


def check_choices(choices: Mapping[str, object]) -> None:
    """Refuse several loggers, which hydra would merge into one without a word.

    Args:
        choices: group -> the name that was chosen; hydra leaves out groups of which several were.

    Raises:
        ConfigError: with what to type.
    """
    if "logger" not in choices:
        raise ConfigError(
            "logger", "one goes with metrics.jsonl, not several. Type logger=wandb, tensorboard, csv or none."
        )
