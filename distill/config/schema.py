"""What a run's config must look like: the schema of run-level keys, and cross-field rules; and what a run is called."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from distill.config.naming import canonical, label, without_defaults
from distill.config.ranges import check_mixup, check_phases, check_train, check_views
from distill.runs.folder import RunFolder
from distill.runs.published import named_folder
from distill.system.files import atomic, digest, sha256

RECIPE = ("train", "views", "optimizer", "schedule", "loss", "seed")  # of a teacher: how its network is fine-tuned
USE = ("cache", "precision")  # of a teacher: how the finished one is asked
WHERE = ("paths", "logger", "plugins", "checkpoint", "eval", "launcher")  # they do not change what a run learns
BESIDE = ("verify", "test_subset", "subset_dir")  # nor do these of data
MACHINE = ("threads", "device")  # of train: on what it runs
WEIGHTS_SHA256 = "weights_sha256"  # of a component: filled in, of the file under weights
BESIDE_NETWORK = ("lr_scale", WEIGHTS_SHA256)  # keys of a network's config that its constructor does not take


@dataclass
class Train:
    """Keys under train: how a network is trained; conf/train/default.yaml and conf/run.yaml say what each is."""

    epochs: int = MISSING
    min_steps: int | None = None
    batch_size: int = MISSING
    select: str = MISSING
    precision: str = MISSING
    clip: float | None = MISSING
    average: float = MISSING
    balance: float = MISSING
    mixup: float = MISSING
    log_every: int = MISSING
    threads: int | None = None
    device: str = MISSING


@dataclass
class Views:
    """Keys under views: the ranges of augmentation; conf/views/default.yaml says what each is."""

    seed: int = MISSING
    cached: int = MISSING
    rotate: float = MISSING
    scale_min: float = MISSING
    scale_max: float = MISSING
    shift: float = MISSING
    shear: float = MISSING
    flip: float = MISSING
    brightness: float = MISSING
    contrast: float = MISSING
    erase: float = MISSING
    erase_min: float = MISSING
    erase_max: float = MISSING
    autoaugment: bool = MISSING


@dataclass
class Eval:
    """Keys under eval: what is measured at the end; conf/run.yaml says what each is."""

    views: str = MISSING
    robustness: list[str] = MISSING
    severities: list[int] = MISSING
    cka: bool = False


@dataclass
class Checkpoint:
    """Keys under checkpoint; conf/run.yaml says what each is."""

    every_steps: int = MISSING


@dataclass
class Paths:
    """Keys under paths: where what is shared and what is of one run lies."""

    store: str = MISSING
    runs: str = MISSING
    run: str | None = None


@dataclass
class Run:
    """The keys of a run; those of a component, such as student, are its own yaml's, which its constructor checks."""

    seed: int = MISSING
    generations: int = 1
    plugins: list[str] = field(default_factory=list)
    data: Any = MISSING
    teacher: Any = MISSING
    student: Any = MISSING
    loss: Any = MISSING
    phases: Any = None
    optimizer: Any = MISSING
    schedule: Any = MISSING
    logger: Any = MISSING
    train: Train = field(default_factory=Train)
    views: Views = field(default_factory=Views)
    eval: Eval = field(default_factory=Eval)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    paths: Paths = field(default_factory=Paths)
    experiment: Any = None
    debug: Any = None
    launcher: Any = None


ConfigStore.instance().store(name="schema", node=Run)


def plain(cfg: DictConfig) -> dict:
    """Return a composed config as plain dicts with every interpolation resolved.

    Raises:
        ValueError: a key that must be given was not.
    """
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or "a key"
        raise ValueError(f"{key}: must be given. Type {key}=... on the command line.") from error


def absolute(cfg: dict) -> dict:
    """Return a plain config whose paths begin at the root, so that it means the same from any folder.

    Raises:
        ValueError: an empty path, or one in the home folder of nobody.
    """

    def paths_of(group: str, node: dict, keys: tuple[str, ...]) -> dict:
        return node | {key: _absolute(f"{group}.{key}", node[key]) for key in keys if isinstance(node.get(key), str)}

    teacher = paths_of("teacher", cfg["teacher"], ("weights", "run", "cache"))
    members = teacher.get("members", {}).items()
    if members:
        teacher["members"] = {name: paths_of(f"teacher.members.{name}", m, ("weights", "run")) for name, m in members}
    return cfg | {
        "data": paths_of("data", cfg["data"], ("root", "extra", "subset_dir")),
        "student": paths_of("student", cfg["student"], ("weights",)),
        "teacher": teacher,
        "paths": paths_of("paths", cfg["paths"], ("store", "runs", "run")),
    }


def _absolute(key: str, value: str) -> str:
    if not value:
        raise ValueError(f"{key}: is empty. Type a path, or leave it out.")
    if (key, value) == ("teacher.cache", "features"):
        return value
    value = named_folder(value, key) if key.endswith(".run") and key.startswith("teacher.") else value
    try:
        return os.path.abspath(Path(value).expanduser())
    except RuntimeError:
        raise ValueError(
            f"{key}: {value} begins with ~, but there is no such home folder. Type the path in full."
        ) from None


def written(folder: Path) -> dict:
    """Return the config that a run folder holds.

    Raises:
        ValueError: the file was damaged since.
    """
    file = RunFolder(folder).config
    try:
        cfg = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")))
    except (ValueError, YAMLError, OmegaConfBaseException, AssertionError):  # the last where it holds a bare word
        cfg = None
    groups = ("data", "student", "train", "paths")
    if not isinstance(cfg, dict) or not all(isinstance(cfg.get(group), dict) for group in groups):
        raise ValueError(
            f"{file}: damaged, or no config of a run. Bring it back as it was, or delete the folder and train again."
        )
    return cfg


def write(cfg: dict, folder: Path) -> None:
    """Write a plain config into a run folder."""
    with atomic(RunFolder(folder).config) as temporary:
        OmegaConf.save(OmegaConf.create(cfg), temporary)


def check(cfg: dict) -> None:
    """Refuse a config whose numbers cannot be meant.

    Raises:
        ValueError: one sentence per rule.
    """
    teachers = [cfg["teacher"], *cfg["teacher"].get("members", {}).values()]
    for where, node in [("", cfg), *(("teacher.", t) for t in teachers if t["_target_"] and "train" in t)]:
        check_train(f"{where}train", node["train"], least_epochs=0 if where else 1)
        check_views(f"{where}views", node["views"])
        if node["seed"] < 0:
            raise ValueError(f"{where}seed: {node['seed']} was asked for; give 0 or more.")
        check_mixup(where, node)
    check_phases(cfg)
    cache = cfg["teacher"].get("cache")
    if isinstance(cache, str) and cache != "features" and "/" not in cache:
        raise ValueError(
            f"teacher.cache: {cache!r} was asked for. Choose true, false, features, or a folder such as ./{cache}."
        )
    if cfg["checkpoint"]["every_steps"] < 0:
        raise ValueError(f"checkpoint.every_steps: {cfg['checkpoint']['every_steps']} was asked for; give 0 or more.")
    if cfg["teacher"].get("precision", "auto") not in ("auto", "fp32", "bf16"):
        raise ValueError(
            f"teacher.precision: {cfg['teacher']['precision']!r} was asked for. Choose auto, fp32 or bf16."
        )
    threads = cfg["train"]["threads"]
    if threads is not None and threads < 1:
        raise ValueError(f"train.threads: {threads} was asked for; give 1 or more, or null for every core.")


def identity(cfg: dict) -> dict:
    """Return what a run is named by: what it is, by the names of classes, without what is as the yamls have it."""
    return without_defaults(canonical(settings(cfg)))


def learning(cfg: dict) -> dict:
    """Return what a teacher is named by, besides the faces that it sees: its network and recipe."""
    return {key: value for key, value in identity(cfg).items() if key != "data"}


def settings(cfg: dict) -> dict:
    """Return the part of a config that says what a run is, without where and on what it runs."""
    kept = {key: value for key, value in cfg.items() if key not in WHERE}
    kept["train"] = {key: value for key, value in cfg["train"].items() if key not in MACHINE}
    kept["data"] = {key: value for key, value in cfg["data"].items() if key not in BESIDE}
    if kept["data"].get("near_duplicates") == "report":  # nothing is changed by it
        del kept["data"]["near_duplicates"]
    if (root := kept["data"].get("root")) is not None:
        kept["data"]["root"] = os.path.abspath(os.path.expanduser(str(root)))  # however it was typed
    teacher = _by_weights({key: value for key, value in cfg["teacher"].items() if key != "cache"})
    if "members" in teacher:
        teacher["members"] = {name: _by_weights(member) for name, member in teacher["members"].items()}
    return kept | {"student": _by_content(cfg["student"]), "teacher": _by_content(teacher)}


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
    if isinstance(file := node.get("weights"), str) and (found := _sha256(file)):
        named[WEIGHTS_SHA256] = found
    return named


def _sha256(file: str) -> str | None:
    path = Path(file).expanduser()
    return sha256(path) if path.is_file() else None  # that it is not there is said where it is read


def run_name(cfg: dict) -> str:
    """Return DATA-TEACHER-STUDENT-HASH; equal configs have equal names."""
    parts = [label(cfg[group]) for group in ("data", "teacher", "student")]
    return "-".join([*parts, digest(identity(cfg))[:8]])


def teacher_run(cfg: dict, teacher: dict) -> dict:
    """Return the config of a teacher's fine-tuning: the main job, its network in the student's place and no teacher."""
    network = {key: value for key, value in teacher.items() if key not in (*RECIPE, *USE)}
    recipe = {key: teacher[key] for key in RECIPE}
    recipe["train"] = recipe["train"] | {key: cfg["train"][key] for key in MACHINE}
    recipe["eval"] = cfg["eval"] | {"robustness": [], "cka": False}
    return {
        **cfg,
        **recipe,
        "student": network,
        "teacher": {"_target_": None},
        "data": {key: value for key, value in cfg["data"].items() if key != "extra"},
        "experiment": None,
        "debug": None,
        "phases": None,
        "generations": 1,
    }
