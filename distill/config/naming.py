"""What names are made of: class names instead of import paths, and no value that is the default of its yaml."""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from omegaconf import OmegaConf

from distill.system.files import digest

CONF = files("conf")
GROUPS = frozenset(folder.name for folder in CONF.iterdir() if folder.is_dir())
ALWAYS = ("_target_", "name")  # kept where they are the default, too: they say whose the defaults are


def last_part(target: object) -> str:
    """Return the name of a class or function without its module."""
    return str(target).rsplit(".", 1)[-1]


def label(node: dict) -> str:
    """Return a short name of a component: its name key, or the last part of its target."""
    if not node.get("_target_"):
        return "none"
    return re.sub(r"[^A-Za-z0-9_]+", "_", str(node.get("name") or last_part(node["_target_"]))).lower()[:60]


def _short(keys: Iterable[str]) -> dict[str, str]:
    """Return key -> its last part, or the whole key where two would look alike."""
    last = {key: last_part(key) for key in keys}
    return {key: end if [*last.values()].count(end) == 1 else key for key, end in last.items()}


def job_name(words: Iterable[str], swept: Iterable[str]) -> str:
    """Return what a sweep changes for one job as a file name: pooling=both,width=M,temperature=2."""
    short = _short(swept)
    parts = [f"{short[key]}={value}" for key, _, value in (word.partition("=") for word in words) if key in short]
    name = re.sub(r"[^\w.=,+-]+", "_", ",".join(parts))
    cut = name.encode()[:110].decode(errors="ignore")
    return name if len(name.encode()) <= 120 else f"{cut}-{digest(parts)[:8]}"


def swept_name(keys: Iterable[str]) -> str:
    """Return what a sweep changes as a file name: pooling-width."""
    return re.sub(r"[^\w+-]+", "_", "-".join(_short(sorted(keys)).values()))[:60] or "sweep"


def canonical(value: object) -> object:
    """Return a part of a config with the class's name in every _target_, however deep it lies, and 4.0 as 4."""
    if isinstance(value, dict):
        return {k: last_part(v) if k == "_target_" and v else canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def without_defaults(node: dict, group: str = "run") -> dict:
    """Return a part of a config without the values that equal the defaults of the yaml which names its class.

    So an option that is added with a default renames no run and no teacher. A default that is changed, though, gives a name
    another meaning: whoever finds a folder by its name compares the whole config in it with its own, by what both leave out
    now, and refuses what was made under the old default.

    Args:
        node: a run, or a component as canonical() returns it.
        group: the folder of conf/ that it is chosen from; run for a run.
    """
    # of a class's yaml, else of that of its name (an optimizer's), else of default.yaml (train's)
    name = node.get("_target_") or node.get("name", "default")
    usual = _defaults(group).get(name)
    if usual is None:  # the network of a teacher that is fine-tuned is a student's node
        usual = _defaults("teacher").get(name, {}) if group == "student" else {}
    changed = {k: v for k, v in node.items() if k in ALWAYS or k not in usual or usual[k] != v}
    kept = {
        k: without_defaults(v, k if k in GROUPS else group) if isinstance(v, dict) else v for k, v in changed.items()
    }
    return {k: v for k, v in kept.items() if v != {} or changed[k] == {}}


def default_of(group: str, key: str) -> object:
    """Return the default of a key of a group that has a default.yaml, such as epochs of train."""
    return _defaults(group)["default"][key]


@cache
def _defaults(group: str) -> dict[str, dict]:
    if group == "run":
        node = _read("run.yaml")
        chosen = [entry for entry in node.pop("defaults") if isinstance(entry, dict)]
        return {"default": node | {name: None for entry in chosen for name, choice in entry.items() if choice is None}}
    by_class: dict[str, dict] = {}
    for name in sorted(path.name for path in (CONF / group).iterdir() if path.name.endswith(".yaml")):
        node = _read(group, name)
        node = node[group] if isinstance(node.get(group), dict) else node  # of a yaml that sets other groups, too
        node.pop("defaults", None)
        by_class.setdefault(last_part(node.get("_target_") or name.removesuffix(".yaml")), node)
    return by_class


def _read(*path: str) -> dict:
    return OmegaConf.to_container(OmegaConf.create(CONF.joinpath(*path).read_text(encoding="utf-8")))
