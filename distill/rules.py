"""Rules between a run's teacher and the rest of its config, each with a sentence for an answer."""

from distill import build
from teachers.peer import is_peer


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
    if is_peer(teacher):
        _check_peer(cfg, teacher)
    if cfg["eval"]["cka"] and members:
        raise ValueError(
            "eval.cka: the layers of an ensemble are those of several networks. Choose one teacher, or eval.cka=false."
        )
    if cfg["eval"]["cka"] and teacher["_target_"] is None and generations == 1:
        raise ValueError(
            "eval.cka: compares the layers of student and teacher, but teacher=none was chosen. Choose a teacher, such as "
            "teacher=resnet50 or teacher=run:DIR, or eval.cka=false."
        )


def _check_peer(cfg: dict, peer: dict) -> None:
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
    if not any(loss["_target_"] == "distill.losses.dml.MutualLearning" for loss in cfg["loss"].values()):
        raise ValueError(
            "teacher: a peer learns by loss.dml alone, which was not chosen. Type loss=[ce,dml] loss.ce.weight=1."
        )
    if mapped := build.losses_that(cfg, "needs_features"):
        raise ValueError(
            f"loss.{mapped[0]}: reads the inner maps of a finished teacher, which a peer is not. Leave it out with teacher=peer."
        )
