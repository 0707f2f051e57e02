"""Rules of faces without labels: beside a labeled data set (data.extra), and alone (data.labels=none)."""

from functools import partial

from distill import build
from distill.config import schema as config
from distill.runs.config import RunConfig
from distill.system.errors import ConfigError
from teachers.peer import is_peer


def check_extra(cfg: RunConfig) -> None:
    """Refuse faces without labels where nobody teaches them, or where a loss needs to know what each face shows.

    Raises:
        ConfigError: with what to type.
    """
    if cfg.data.get("extra") is None:
        return
    if cfg.teacher["_target_"] is None or is_peer(cfg.teacher):
        raise ConfigError(
            "data.extra",
            "faces without labels need a teacher that has learned already. Choose one, such as teacher=resnet50, or "
            "type data.extra=null.",
        )
    those = partial(build.losses_with, losses=cfg.loss, plugins=cfg.plugins)
    needing = [*those("needs_label"), *those("needs_every_label")]
    if needing:
        raise ConfigError(
            f"loss.{needing[0]}",
            "needs the label of every face, and those of data.extra have none. Choose losses such as ce and kd, "
            "or type data.extra=null.",
        )
    if not those("needs_teacher"):
        raise ConfigError(
            "data.extra", "no loss reads the teacher's answers. Add one, such as loss=[ce,kd], or type data.extra=null."
        )


def check_unlabeled(cfg: RunConfig) -> None:
    """Refuse what a run on faces without labels cannot do.

    Raises:
        ConfigError: with what to type.
    """
    for member in (teachers := build.members(cfg.teacher)):
        if not ("run" in member or (member.get("weights") and member.get("train", {}).get("epochs") == 0)):
            name = config.label(teachers[0] if len(teachers) == 1 else cfg.teacher)
            raise ConfigError(
                "data.labels",
                f"got none, and teacher {name} has not learned yet, which takes labels. Type teacher=ferplus, "
                "teacher=run teacher.run=DIR, or teacher.weights=FILE teacher.train.epochs=0 of a network that knows the classes.",
            )
    for key, given, usual in (
        ("train.class_balance_power", cfg.train.class_balance_power, 0),
        ("eval.robustness", cfg.eval.robustness, []),
        ("generations", cfg.generations, 1),
    ):
        if given != usual:
            raise ConfigError(key, f"got {given}, which needs labels; data.labels=none has none. Type {key}={usual}.")
