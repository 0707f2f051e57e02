"""Types of the config's keys: the schema's fields, and the annotations of what each _target_ makes."""

from collections.abc import Callable
from dataclasses import asdict, fields
from inspect import Parameter, signature

import torch

from distill import build
from distill.config import schema as config
from distill.config.ranges import check_optimizer, option_errors
from distill.data.common.options import BESIDE_OPENER
from distill.losses.base.option_types import check_options
from distill.runs.config import COMPONENTS, AugmentConfig, RunConfig, TrainConfig
from distill.system.errors import ConfigError, expect
from distill.system.typed import as_typed, described, fits
from distill.training.optim import optimizer
from teachers.peer import is_peer

GIVEN = {  # arguments that are no keys: build gives them
    "data": ("store",),
    "student": ("num_classes", "classes"),
    "teacher": ("num_classes", "classes", "plugins", "members"),
    "optimizer": ("modules", "lr_scale"),
    "logger": ("folder", "config", "name", "group", "job_type"),
}
NETWORK = {"weights": str | None, "lr_scale": dict | None, config.WEIGHTS_SHA256: str | None}
USE = {"cache": bool | str, "precision": str}
PEER = {"student": dict, "seed_offset": int, "cache": bool | str}


def check_types(cfg: RunConfig) -> None:
    """Refuse values of another type than their key has, and keys that nothing reads.

    Raises:
        ConfigError: naming the key.
    """
    plain, kinds, plugins = asdict(cfg), _fields(RunConfig), cfg.plugins
    for group in (*COMPONENTS, "logger"):
        if not isinstance(plain[group], dict):
            given = as_typed(plain[group])
            raise ConfigError(group, f"expected a choice, got {given}. See python -m distill.run --help.")
    for key in ("seed", "generations", "plugins"):  # typed by the schema, but ${...} may have brought another type
        expect(fits(plain[key], kinds[key]), key, described(kinds[key]), as_typed(plain[key]))
    _check_recipe("", plain, plugins)
    for group in ("eval", "checkpoint", "paths"):
        _check_keys(group, _fields(kinds[group]), plain[group])
    _check_made("student", cfg.student, plugins, NETWORK)
    if cfg.student["_target_"].startswith("students."):
        # what its constructor refuses shows before a run folder is made
        kept = {key: value for key, value in cfg.student.items() if key not in NETWORK}
        with torch.device("meta"), option_errors("student"):
            build.make(kept | ({"pretrained": False} if "pretrained" in kept else {}), plugins, num_classes=8)
    _check_made("logger", cfg.logger, plugins)
    _check_teacher("teacher", cfg.teacher, plugins)
    kinds, takes_more = _arguments("data", build.target(cfg.data, plugins))
    known = dict.fromkeys([*kinds, *BESIDE_OPENER], Parameter.empty)  # build takes the last ones for every data set
    _check_keys("data", known, cfg.data, takes_more)


def _check_recipe(where: str, node: dict, plugins: list[str]) -> None:
    """Check what a network, the run's or a teacher, is trained with; where stands before its keys, such as teacher."""
    for group, kind in (("train", TrainConfig), ("augment", AugmentConfig)):
        _check_keys(f"{where}{group}", _fields(kind), node[group])
    _check_keys(f"{where}optimizer", _arguments("optimizer", optimizer)[0], node["optimizer"])
    check_optimizer(f"{where}optimizer", node["optimizer"])
    _check_made(f"{where}schedule", node["schedule"], plugins)
    check_optimizer(f"{where}schedule", node["schedule"])
    build.make(node["schedule"], plugins)
    for name, loss in node["loss"].items():
        if isinstance(loss, dict):
            kind = build.target(loss, plugins)
            known = signature(kind).parameters
            beside = {"_target_", "weight"} | ({"beta"} - known.keys())
            options = {key: value for key, value in loss.items() if key not in beside}
            placed = {"class_weights": [1.0]} if options.get("class_weights") == "balanced" else {}
            check_options(f"{where}loss.{name}", kind, options | placed)


def _check_teacher(key: str, node: dict, plugins: list[str]) -> None:
    if node.get("_target_") is None:
        return
    for name, member in node.get("members", {}).items():
        _check_teacher(f"{key}.members.{name}", member, plugins)
    recipe = {name: value for name, value in node.items() if name in config.RECIPE}
    rest = {name: value for name, value in node.items() if name not in (*config.RECIPE, "members")}
    if is_peer(node):
        _check_keys(key, PEER, rest)
        return
    if len(recipe) == len(config.RECIPE):  # else it is a finished run, and only the data set sets its augmentation
        _check_keys(key, {"seed": int}, {"seed": node["seed"]})
        _check_recipe(f"{key}.", recipe, plugins)
    _check_made(key, rest, plugins, USE if "run" in node or "members" in node else USE | NETWORK)


def _check_made(key: str, node: dict, plugins: list[str], beside: dict[str, object] | None = None) -> None:
    """Check the keys of a component; beside has the kinds of those that its constructor does not take."""
    kinds, takes_more = _arguments(key.split(".", 1)[0], build.target(node, plugins))
    _check_keys(key, (beside or {}) | kinds, node, takes_more)


def _check_keys(key: str, kinds: dict[str, object], node: dict, takes_more: bool = False) -> None:
    """Check names and values of a component's keys by name -> kind, as in an annotation."""
    for name, value in node.items():
        if name in kinds and not fits(value, kinds[name]):
            raise ConfigError(f"{key}.{name}", f"expected {described(kinds[name])}, got {as_typed(value)}.")
        if name not in kinds and name != "_target_" and not takes_more:
            raise ConfigError(f"{key}.{name}", f"no such key. There are: {', '.join(kinds)}.")


def _fields(kind: type) -> dict[str, object]:
    return {field.name: field.type for field in fields(kind)}


def _arguments(group: str, make: Callable) -> tuple[dict[str, object], bool]:
    """Return name -> annotation of the arguments that are keys, and whether any others are taken."""
    try:
        known = signature(make, eval_str=True).parameters.values()
    except (NameError, TypeError, ValueError):  # annotations of a plugin that only a type checker could read
        known = signature(make).parameters.values()
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    named = {one.name: one.annotation for one in known if one.kind not in variadic}
    more = any(one.kind is Parameter.VAR_KEYWORD for one in known)
    return {name: kind for name, kind in named.items() if name not in GIVEN.get(group, ())}, more
