"""The command that makes a run: as its folder records it, else put together from how its config differs from the defaults."""

import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import yaml

from distill.config.naming import last_part
from distill.config.overrides import defaults
from distill.config.schema import WEIGHTS_SHA256
from distill.runs.reading import Run

GROUPS = ("data", "teacher", "student", "optimizer", "schedule", "logger")
WORDS = ("python", "-m", "distill.run")
Compose = Callable[[tuple[str, ...]], dict]  # overrides -> unresolved plain config


def command(run: Run, compose: Compose) -> str:
    """Return the command of a run.

    Args:
        run: the run, or a job over folds or generations.
        compose: what python -m distill.run makes of overrides; keys that must be given may be missing.

    Returns:
        The command in env.json where there is one; otherwise the choice of each group and every key that differs from it.
        Words are quoted for a shell.
    """
    recorded = run.env.get("command")
    if recorded and not run.parts:
        return recorded if isinstance(recorded, str) else shlex.join(map(str, recorded))
    choices = tuple(_choices(run.config))
    default = _leaves(compose(choices))
    own = {key: value for key, value in _leaves(run.config).items() if not key.endswith(f".{WEIGHTS_SHA256}")}
    return shlex.join([*WORDS, *choices, *_differences(own, default)])


def _choices(config: dict) -> list[str]:
    """Return the group choices, those of the defaults left out."""
    usual = defaults()
    chosen = [(group, _choice(group, config[group], usual[group])) for group in GROUPS if group in config]
    words = [f"{group}={name}" for group, name in chosen if name != usual[group]]
    known = [name for name in config["loss"] if name in _options("loss")]
    return words + ([f"loss=[{','.join(known)}]"] if known != usual["loss"] else [])


@cache
def _options(group: str) -> dict[str, dict]:
    """Return the keys of every yaml of a group, with those of the yaml that it builds on."""
    folder, raw = files("conf") / group, {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            raw[path.name.removesuffix(".yaml")] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {name: _inherited(group, name, raw) for name in raw}


def _inherited(group: str, name: str, raw: dict[str, dict]) -> dict[str, object]:
    own = {key: value for key, value in raw[name].items() if key != "defaults"}
    for base in raw[name].get("defaults", []):
        if isinstance(base, str) and base in raw:
            own = _inherited(group, base, raw) | own
    return _leaves(own.get(group, own))


def _choice(group: str, node: dict, usual: str) -> str:
    """Return the yaml of a group whose target is a node's and whose keys differ least."""
    own = _leaves(node)

    def distance(name: str) -> tuple[bool, int, bool]:
        keys = _options(group)[name]
        told = {key: value for key, value in keys.items() if key != "_target_" and value != "???"}
        wrong = sum(key not in own or own[key] != value for key, value in told.items())
        return last_part(keys.get("_target_", "")) != last_part(own.get("_target_", "")), wrong, name != usual

    return min(_options(group), key=distance)


def _differences(own: dict[str, object], default: dict[str, object]) -> list[str]:
    """Return overrides for what differs; + in front of keys that the defaults lack."""
    words = []
    for key, value in own.items():
        there = default.get(key)
        reference = re.fullmatch(r"\$\{(?:oc\.select:)?([\w.]+)(?:,(.*))?\}", there) if isinstance(there, str) else None
        if reference and own.get(reference[1], yaml.safe_load(reference[2] or "null")) == value:
            continue
        if key not in default:
            words.append(f"+{key}={_typed(value)}")
        elif there != value and not (value is None and there == "???") and not _moved(key, there, value):
            words.append(f"{key}={_typed(value)}")
    return words


def _moved(key: str, there: object, value: object) -> bool:
    """Say whether two targets are one class, whose module had another place when the config was written."""
    return key.endswith("._target_") and last_part(there) == last_part(value)


def _leaves(node: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in node.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _typed(value: object) -> str:
    """Return a value in hydra's grammar of overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_typed(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_typed, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(r"[A-Za-z_./-][\w./-]*", value) and value.lower() not in ("true", "false", "null", "nan", "inf"):
        return value
    return "'" + value.replace("'", r"\'") + "'"
