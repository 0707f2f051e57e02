"""A run's config as composed: typed, checked, with the paths in full; and what it is called."""

import os
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from distill.config.hints import not_filled_in
from distill.config.naming import canonical, label, without_defaults
from distill.config.ranges import check_augment, check_mixup, check_phases, check_plugins, check_train
from distill.runs.config import PathsConfig, RunConfig
from distill.runs.published import named_folder
from distill.system.errors import ConfigError, expect
from distill.system.files import digest, sha256

RECIPE = ("train", "augment", "optimizer", "schedule", "loss", "seed")  # of a teacher: how its network is fine-tuned
USE = ("cache", "precision")  # of a teacher: how the finished one is asked
WHERE = ("paths", "logger", "plugins", "checkpoint", "eval", "launcher")  # they do not change what a run learns
BESIDE = ("verify", "test_subset", "subset_dir")  # nor do these of data
MOST_SEED = 2**53  # which PyTorch and JSON hold, and a few more
MOST_THREADS = 1024  # which no machine has; OpenMP makes as many as it is told
MACHINE = ("threads", "device", "compile")  # of train: on what it runs
WEIGHTS_SHA256 = "weights_sha256"  # of a component: filled in, of the file under weights
BESIDE_NETWORK = ("lr_scale", WEIGHTS_SHA256)  # keys of a network's config that its constructor does not take

ConfigStore.instance().store(name="schema", node=RunConfig)


OmegaConf.register_new_resolver("shipped", lambda name: str(files("distill") / "shipped" / name / "model.safetensors"))


def typed(cfg: DictConfig) -> RunConfig:
    """Return a composed config with every interpolation resolved, its components as plain dicts.

    Raises:
        ConfigError: a key that must be given was not, one was added that nothing reads, or a reference leads to nothing.
    """
    try:
        made = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        key = error.full_key or "a key"
        raise ConfigError(key, f"must be given. Type {key}=... on the command line.") from error
    except OmegaConfBaseException as error:
        raise not_filled_in(error) from error
    _refuse_added(made)
    return made


def _refuse_added(node: Any, above: str = "") -> None:
    """Refuse what +KEY=VALUE added to a group whose keys are known: OmegaConf keeps it, and nothing reads it."""
    known = {field.name for field in fields(node)}
    for name, value in vars(node).items():
        if name not in known:
            raise ConfigError(f"{above}{name}", f"no such key. There are: {', '.join(sorted(known))}.")
        if is_dataclass(value):
            _refuse_added(value, f"{above}{name}.")


def absolute(cfg: RunConfig) -> RunConfig:
    """Return a config whose paths begin at the root, so that it means the same from any folder.

    Raises:
        ValueError: an empty path, or one in the home folder of nobody.
    """

    def paths_of(group: str, node: dict, keys: tuple[str, ...]) -> dict:
        return node | {key: _absolute(f"{group}.{key}", node[key]) for key in keys if isinstance(node.get(key), str)}

    teacher = paths_of("teacher", cfg.teacher, ("weights", "run", "cache"))
    members = teacher.get("members", {}).items()
    if members:
        teacher["members"] = {name: paths_of(f"teacher.members.{name}", m, ("weights", "run")) for name, m in members}
    return replace(
        cfg,
        data=paths_of("data", cfg.data, ("root", "extra", "subset_dir")),
        student=paths_of("student", cfg.student, ("weights",)),
        teacher=teacher,
        paths=PathsConfig(**paths_of("paths", vars(cfg.paths), ("store", "runs", "run"))),
    )


def _absolute(key: str, value: str) -> str:
    if not value:
        raise ConfigError(key, "is empty. Type a path, or leave it out.")
    if (key, value) == ("teacher.cache", "features"):
        return value
    value = named_folder(value, key) if key.endswith(".run") and key.startswith("teacher.") else value
    try:
        path = os.path.abspath(Path(value).expanduser())
        if not key.startswith("data."):
            path.encode()
        return path
    except RuntimeError:
        raise ConfigError(
            key, f"{value} begins with ~, but there is no such home folder. Type the path in full."
        ) from None
    except UnicodeEncodeError:
        raise ConfigError(key, f"{path!a} is no UTF-8, as names of weight files must be. Type another path.") from None


def check(cfg: RunConfig) -> None:
    """Refuse a config with a number out of range.

    Raises:
        ConfigError: the first setting that breaks a rule.
    """
    for where, one in recipes(cfg):
        check_train(f"{where}train", one.train, least_epochs=0 if where else 1)
        check_augment(f"{where}augment", one.augment)
        for key, seed in (("seed", one.seed), ("augment.seed", one.augment.seed)):
            expect(0 <= seed <= MOST_SEED, f"{where}{key}", f"0 to {MOST_SEED}", seed)
        check_mixup(where, one.train.mixup, one.loss, one.teacher)
    check_plugins(cfg.plugins)
    check_phases(cfg.phases, cfg.loss, cfg.train.epochs)
    cache = cfg.teacher.get("cache")
    if isinstance(cache, str) and cache != "features" and "/" not in cache:
        raise ConfigError(
            "teacher.cache", f"expected true, false, features, or a folder such as ./{cache}, got {cache!r}."
        )
    expect(cfg.checkpoint.every_steps >= 0, "checkpoint.every_steps", "0 or more", cfg.checkpoint.every_steps)
    if cfg.teacher.get("precision", "auto") not in ("auto", "fp32", "bf16"):
        raise ConfigError("teacher.precision", f"expected auto, fp32 or bf16, got {cfg.teacher['precision']!r}.")
    threads = cfg.train.threads
    expect(
        threads is None or 1 <= threads <= MOST_THREADS,
        "train.threads",
        f"1 to {MOST_THREADS}, or null for every core",
        threads,
    )


def check_teacher_maps(name: str, teacher: dict) -> None:
    """Refuse a loss on feature maps, before any teacher is trained, where the teacher will not have them.

    Args:
        name: of the loss.
        teacher: the key teacher.

    Raises:
        ConfigError: with what to type.
    """
    if "members" in teacher:
        raise ConfigError(
            f"loss.{name}",
            "reads a teacher's feature maps, and those of an ensemble are several networks'. Choose one teacher, "
            "such as teacher=resnet50, or losses on logits.",
        )
    if teacher.get("cache") not in (None, False, "features"):
        raise ConfigError(
            f"loss.{name}",
            "reads the teacher's feature maps, which stored logits do not have. Type teacher.cache=features "
            "to store them, too (large: their size is said), or teacher.cache=false to run the teacher at every step.",
        )


def recipes(cfg: RunConfig) -> list[tuple[str, RunConfig]]:
    """Return the run, and the fine-tuning of each of its teachers that has one, with what stands before their keys."""
    teachers = [cfg.teacher, *cfg.teacher.get("members", {}).values()]
    return [("", cfg), *(("teacher.", teacher_run(cfg, t)) for t in teachers if t["_target_"] and "train" in t)]


def identity(cfg: RunConfig) -> dict:
    """Return what a run is named by: what it is, by the names of classes, without what is as the yamls have it."""
    return without_defaults(canonical(settings(cfg)))


def learning(cfg: RunConfig) -> dict:
    """Return what a teacher is named by, besides the faces that it sees: its network and recipe."""
    return {key: value for key, value in identity(cfg).items() if key != "data"}


def settings(cfg: RunConfig) -> dict:
    """Return the part of a config that says what a run is, without where and on what it runs, as plain dicts."""
    kept = {key: value for key, value in asdict(cfg).items() if key not in WHERE}
    kept["train"] = {key: value for key, value in kept["train"].items() if key not in MACHINE}
    kept["data"] = {key: value for key, value in cfg.data.items() if key not in BESIDE}
    if kept["data"].get("near_duplicates") == "report":  # nothing is changed by it
        del kept["data"]["near_duplicates"]
    if (root := kept["data"].get("root")) is not None:
        kept["data"]["root"] = os.path.abspath(os.path.expanduser(str(root)))  # however it was typed
    teacher = _by_weights({key: value for key, value in cfg.teacher.items() if key != "cache"})
    if "members" in teacher:
        teacher["members"] = {name: _by_weights(member) for name, member in teacher["members"].items()}
    return kept | {"student": _by_content(cfg.student), "teacher": _by_content(teacher)}


def _by_weights(teacher: dict) -> dict:
    """Leave out where a finished run lies and what it is called: its weights say which it is."""
    lies = ("run", "name", "cache") if teacher.get("sha256") else ()
    return {key: value for key, value in teacher.items() if key not in lies}


def _by_content(node: dict) -> dict:
    """Put the SHA-256 of a weight file in its path's place: of what it held when the run began, else of what it holds."""
    known = {key: _by_content(value) if isinstance(value, dict) else value for key, value in node.items()}
    began = known.pop(WEIGHTS_SHA256, None)
    if isinstance(file := node.get("weights"), str):
        known["weights"] = began or _sha256(file) or file
    return known


def with_sha256(node: dict) -> dict:
    """Return a component's keys with the SHA-256 of its weight file beside the file's path; nested components likewise."""
    named = {key: with_sha256(value) if isinstance(value, dict) else value for key, value in node.items()}
    if isinstance(file := node.get("weights"), str) and (checksum := _sha256(file)):
        named[WEIGHTS_SHA256] = checksum
    return named


def _sha256(file: str) -> str | None:
    path = Path(file).expanduser()
    return sha256(path) if path.is_file() else None  # a missing file is reported when it is loaded


def run_name(cfg: RunConfig) -> str:
    """Return DATA-TEACHER-STUDENT-HASH; equal configs have equal names."""
    return "-".join([*map(label, (cfg.data, cfg.teacher, cfg.student)), digest(identity(cfg))[:8]])


def teacher_run(cfg: RunConfig, teacher: dict) -> RunConfig:
    """Return the config of a teacher's fine-tuning: the main job, its network in the student's place and no teacher."""
    recipe = {key: teacher[key] for key in RECIPE}
    recipe["train"] = recipe["train"] | {key: getattr(cfg.train, key) for key in MACHINE}
    alone = {
        "student": {key: value for key, value in teacher.items() if key not in (*RECIPE, *USE)},
        "teacher": {"_target_": None},
        "data": {key: value for key, value in cfg.data.items() if key != "extra"},
        "eval": vars(cfg.eval) | {"robustness": [], "cka": False},
        "experiment": None,
        "debug": None,
        "phases": None,
        "generations": 1,
    }
    return RunConfig.from_dict(asdict(cfg) | recipe | alone)
