"""Rules between the parts of a run's config, those that read the components' classes too, each with a sentence."""

from distill import build
from distill.config import schema as config
from distill.config.ranges import check_weights
from distill.evaluation import robustness
from distill.evaluation.inference import evaluation_rows
from teachers.peer import is_peer

BETA = 0.9999  # as conf/loss has it; the key is there, and in a run's name, even where it does nothing


def check(cfg: dict) -> None:
    """Refuse a config that makes no run.

    Args:
        cfg: plain config.

    Raises:
        ValueError: one sentence per rule.
    """
    for name, node in cfg["loss"].items():
        if not isinstance(node, dict):
            raise ValueError(
                f"loss.{name}: {node} is there, but a loss has a name first. Begin its yaml with # @package loss.NAME"
            )
    config.check(cfg)
    check_evaluation(cfg["eval"])
    check_teacher(cfg)
    teachers = [cfg["teacher"], *cfg["teacher"].get("members", {}).values()]
    for where, node in [("", cfg), *(("teacher.", t) for t in teachers if t["_target_"] and "train" in t)]:
        check_losses(where, node | {"plugins": cfg["plugins"]})


def check_evaluation(asked: dict) -> None:
    """Refuse evaluation views, corruptions and severities that there are not.

    Args:
        asked: the keys under eval.

    Raises:
        ValueError: with those there are.
    """
    evaluation_rows(asked["views"])
    robustness.check(asked["robustness"], asked["severities"])


def check_losses(where: str, node: dict) -> None:
    """Refuse losses that mixed pictures mislead, and weights and options that would do nothing.

    Args:
        where: what stands before its keys, such as teacher.
        node: the run, or the recipe of a teacher, with plugins.

    Raises:
        ValueError: one sentence per rule.
    """
    train, losses = node["train"], node["loss"]
    check_weights(where, node)
    if train["mixup"] and (labelled := build.losses_that(node, "needs_label")):
        raise ValueError(
            f"{where}loss.{labelled[0]}: reads one class from each target, and a mixed face shows two. "
            f"Type {where}train.mixup=0, or choose losses that take the whole target, such as ce and kd."
        )
    if train["mixup"] and (remembering := build.losses_that(node, "needs_memory")):
        raise ValueError(
            f"{where}loss.{remembering[0]}: remembers faces, and a mixture is none of them. Type {where}train.mixup=0, or "
            "leave it out."
        )
    for name, loss in losses.items():
        if loss.get("class_weights") != "balanced" and loss.get("beta", BETA) != BETA and "class_weights" in loss:
            raise ValueError(
                f"{where}loss.{name}.beta: {loss['beta']} was asked for, but only balanced class weights have it. "
                f"Add {where}loss.{name}.class_weights=balanced, or leave beta out."
            )


def check_teacher(cfg: dict) -> None:
    """Refuse a teacher, a number of generations or an evaluation that do not go together.

    Args:
        cfg: plain config that config.check() let pass.

    Raises:
        ValueError: one sentence per rule.
    """
    teacher, generations = cfg["teacher"], cfg["generations"]
    members = teacher.get("members", {})
    if generations < 1:
        raise ValueError(f"generations: {generations} was asked for; give 1 or more.")
    if any(is_peer(member) for member in members.values()):
        raise ValueError(
            "teacher.members: a peer learns beside the student and is no member of an ensemble. Type teacher=peer."
        )
    mutual = [name for name, loss in cfg["loss"].items() if loss["_target_"] == "distill.losses.dml.MutualLearning"]
    if is_peer(teacher):
        _check_peer(cfg, teacher, mutual)
    elif mutual:
        raise ValueError(f"loss.{mutual[0]}: needs a teacher that learns, too. Type teacher=peer, or loss=[ce,kd].")
    if cfg["data"].get("fold") == "all" and (runs := [t["run"] for t in (teacher, *members.values()) if "run" in t]):
        raise ValueError(
            f"data.fold: all was asked for, but the teacher {runs[0]} is one finished run, and the people that it learned "
            "from are the test faces of other folds. Choose a teacher that is fine-tuned in each fold, such as "
            "teacher=resnet50, or type data.fold=K with a run of that same fold."
        )
    if cfg["eval"]["cka"] and members:
        raise ValueError(
            "eval.cka: the layers of an ensemble are those of several networks. Choose one teacher, or eval.cka=false."
        )
    if cfg["eval"]["cka"] and teacher["_target_"] is None and generations == 1:
        raise ValueError(
            "eval.cka: compares the layers of student and teacher, but teacher=none was chosen. Choose a teacher, such as "
            "teacher=resnet50 or teacher=run:DIR, or eval.cka=false."
        )


def _check_peer(cfg: dict, peer: dict, mutual: list[str]) -> None:
    if peer.get("cache") is not False:
        raise ValueError(
            f"teacher.cache: {peer['cache']} was asked for, but a peer changes at every step. teacher=peer needs teacher.cache=false."
        )
    if peer["seed_offset"] < 1:
        raise ValueError(
            f"teacher.seed_offset: {peer['seed_offset']} was asked for; give 1 or more: two students of one start stay the same."
        )
    if cfg["generations"] > 1:
        raise ValueError(
            "generations: from the second on the teacher is the generation before, which does not learn as a peer does. "
            "Type generations=1, or choose another teacher."
        )
    if cfg["student"].get("lr_scale"):
        raise ValueError(
            "student.lr_scale: names parameters of the student and would not reach those of its peer. teacher=peer needs "
            "student.lr_scale=null."
        )
    if not mutual:
        raise ValueError(
            "teacher: a peer learns by loss.dml alone, which was not chosen. Type loss=[ce,dml] loss.ce.weight=1."
        )
    if mapped := build.losses_that(cfg, "needs_features"):
        raise ValueError(
            f"loss.{mapped[0]}: reads the inner maps of a finished teacher, which a peer is not. Leave it out with teacher=peer."
        )
