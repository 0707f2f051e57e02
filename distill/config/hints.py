"""What to type instead of an override that Hydra refuses."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.config.naming import GROUPS
from distill.runs.config import RunConfig
from distill.system.errors import ConfigError
from distill.system.typed import described

KINDS = get_type_hints(RunConfig) | {
    f"{group}.{name}": inner
    for group, kind in get_type_hints(RunConfig).items()
    if is_dataclass(kind)
    for name, inner in get_type_hints(kind).items()
}
SWITCHES = {key for key, kind in KINDS.items() if kind is bool}
NULLABLE = ("experiment", "debug", "launcher")  # groups of which nothing may be chosen


@contextmanager
def with_suggestions(words: list[str]) -> Iterator[None]:
    """Turn what hydra refuses into a message.

    Args:
        words: the command line without the program.

    Raises:
        ConfigError: a number other than 0 and 1 for a key of true or false.
        ValueError: instead of a HydraException, and of what hydra says of choices that are no names.
    """
    for word in words:
        group, equals, _ = word.lstrip("+").partition("=")
        is_choice = group.partition("@")[0] in GROUPS
        if equals and (group in SWITCHES or is_choice):
            with suppress(HydraException):  # which says so itself
                value = OverridesParser.create().parse_override(word).value()
                names = value if isinstance(value, list) else [value]
                strange = any(
                    isinstance(name, dict | list | int | float | NoneType) or str(name).startswith("${")
                    for name in names
                )
                if is_choice and strange and not (value is None and group in NULLABLE):
                    raise ValueError(f"{word}: expected the name of a choice, or a list of names. Type {group}=NAME.")
                # omegaconf takes any number for true
                if not is_choice and isinstance(value, int | float) and value not in (0, 1):
                    raise ConfigError(group, f"expected true or false, got {value}.")
    try:
        yield
    except HydraException as error:
        raise ValueError(suggest_override(error, words)) from error
    except OmegaConfBaseException as error:
        raise not_filled_in(error) from error


def not_filled_in(error: OmegaConfBaseException) -> ConfigError:
    """Return the message about a reference of the form ${KEY}, such as ${oc.env:NAME}, that leads to nothing."""
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).splitlines()[0])[:200].strip('"')
    return ConfigError(
        error.full_key or "a key of the config",
        f"its ${{...}} cannot be filled in ({reason}). Type a value, or ${{KEY}} of another key.",
    )


def suggest_override(error: Exception, overrides: list[str]) -> str:
    """Return a message for an override that fits no key or choice, or cannot be read, with the nearest that exist."""
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read. Give a value behind = and every comma, and close brackets and quotes."
        )
    for word in (o.replace("\\", "") for o in overrides):
        if match := re.match(r"(\+*teacher(?:@([\w.]+))?)=run:(.*)", word):
            return f"{word}: a run is named by a word of its own. Type {match[1]}=run {match[2] or 'teacher'}.run={match[3]}"
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        group, _, choice = error.missing_cfg_file.rpartition("/")
        there = error.options or [path.stem for path in sorted(Path(str(files("conf") / group)).glob("*.yaml"))]
        close = difflib.get_close_matches(choice, there, n=1)
        meant = f"Did you mean {group}={close[0]}? " if close else ""
        return f"{group}={choice}: there is no {group}/{choice}. {meant}There are {', '.join(there)}."
    message = str(error.__cause__ or error)
    if match := re.search(r"Ambiguous value for argument '(.*)'", message):
        key, _, values = match[1].partition("=")
        return (
            f"{match[1]}: several values are several runs. Type python -m distill.run -m {match[1]} for a sweep, {key}=[{values}] "
            "for a list; in Python call distill.run once for each."
        )
    match = re.search(r"full_key: ([\w.@/]+)", message) or re.search(r"Could not override '([\w.@/]+)'", str(error))
    if not match:
        return str(error)
    key = match[1]
    parent, _, name = key.rpartition(".")
    # not what a sweep spreads out
    one = [o for o in overrides if "=" in o and "," not in re.sub(r"\[.*\]|\{.*\}|'.*'", "", o)]
    named = [name for name in map(_loss_of, overrides) if name]
    sound = [o for o in one if not o.lstrip("+~").startswith((key, "hydra")) and not (_loss_of(key) and _loss_of(o))]
    try:
        with initialize_config_module("conf", version_base="1.3"):
            cfg = compose("run", overrides=sound, return_hydra_config=key.startswith("hydra"))
    except Exception:
        if key.startswith("teacher@") and not any(key in word for word in overrides):  # an experiment's own word
            return (
                f"{key}: the experiment asks an ensemble, and another teacher was typed. Type teacher=ensemble, "
                "too, leave that word out, or choose an experiment without an ensemble, such as ferplus_ferlite."
            )
        return f"{key}: no such key."
    losses = [] if OmegaConf.is_missing(cfg, "loss") else cfg.loss
    if lacking := [name for name in dict.fromkeys(named) if name not in losses]:
        key = next(o for o in overrides if _loss_of(o) == lacking[0]).partition("=")[0].lstrip("+")
        chosen = any(o.startswith(("loss=", "experiment=")) for o in sound)
        kept = [name for name in losses if name == "ce" or name in named or chosen]
        return f"{key}: {lacking[0]} is none of this run's losses. Type loss=[{','.join([*kept, *lacking])}] with it."
    if key == "loss.inplace":
        return f"{key}: is added by student.width=elastic, and its options by a +. Type +{key}.OPTION=VALUE."
    node = OmegaConf.select(cfg, parent) if parent else cfg
    keys = [*map(str, node)] if isinstance(node, DictConfig) else []
    if name in keys:
        return _refused_value(key, message, overrides)
    if not keys:
        return f"{key}: no such key yet. Type +{key}=... to add it."
    if parent == "teacher" and node.get("_target_", "") is None:
        return f"{key}: this run has no teacher. Leave that word out, or choose a teacher, such as teacher=resnet50."
    close = difflib.get_close_matches(name, keys, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(f'{parent}.{k}'.lstrip('.') for k in close)}?" if close else ""
    return f"{key}: no such key. {meant or 'There are: ' + ', '.join(keys) + '.'}"


def _refused_value(key: str, message: str, overrides: list[str]) -> str:
    """Return the message about a key that is there, and was given what it cannot be, or taken out."""
    words = [word for word in overrides if word.lstrip("+~").startswith(key)]
    if out := [word for word in overrides if word.startswith("~") and f"{key}.".startswith(f"{word[1:]}.")]:
        return f"{out[0]}: {key} is needed. Leave that word out, and type {key}=VALUE."
    if key not in KINDS or not words:
        return f"{key}: {message.strip().splitlines()[0]}"
    name, _, value = words[-1].lstrip("+").partition("=")
    return f"{key}: expected {described(KINDS[key])}, got {(value if name == key else words[-1])!r}."


def _loss_of(word: str) -> str | None:
    """Return NAME of loss.NAME.OPTION where there is such a loss."""
    match = re.match(r"\+*loss\.(\w+)", word)
    return match[1] if match and (files("conf") / "loss" / f"{match[1]}.yaml").is_file() else None
