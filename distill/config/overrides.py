"""What is typed behind python -m distill.run: what it means, and the jobs of a sweep, spread out as hydra does it."""

import re
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from itertools import product

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

PATH = re.compile(r"\+*(paths\.\w+|data\.(root|subset_dir)|teacher\.cache|([\w.@]+\.)?weights)")  # keys of a path


def spread(words: list[str]) -> tuple[list[list[str]], list[str]] | None:
    """Return the words of every job of a sweep, in the order of hydra's own sweeper, and the keys that are swept over.

    Args:
        words: the command line without the program; flags and what is meant for hydra itself are passed over.

    Returns:
        (jobs, swept keys), or None where only hydra can tell (globs over a group's choices, words that do not parse).
    """
    own = [word for word in words if not word.startswith(("-", "hydra.", "hydra/", "+hydra", "~hydra"))]
    choices: OrderedDict[str, list[str]] = OrderedDict()
    swept = []
    try:
        for override in OverridesParser.create().parse_overrides(own):
            key = override.get_key_element()
            if override.is_sweep_override():
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                swept.append(key)
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    except HydraException:
        return None
    return [list(job) for job in product(*choices.values())], swept


def with_losses(words: Sequence[str]) -> list[str]:
    """Return the words, and loss=[...] behind them where they set options of a loss that is not among the default ones.

    A teacher's loss that is named stands in the place of the default one: loss.kd.temperature=4 means loss=[ce,kd]. Whoever
    chooses losses, an experiment or phases has said which are meant.

    A course that is typed stands alone: before it goes a number in the place of a course that is there, with which hydra would
    merge it.

    Args:
        words: the command line without the program.
    """
    words = [*_without_course(words), *words]
    if any(word.startswith(("loss=", "experiment=", "phases=")) for word in words):
        return list(words)
    asked = re.findall(r"(?m)^\+*loss\.(\w+)\.", "\n".join(words))
    default = default_losses()
    if not (named := [name for name in dict.fromkeys(asked) if _keys("loss", name) and name not in default]):
        return list(words)
    kept = [name for name in default if name == "ce" or name in asked]
    return [*words, f"loss=[{','.join([*kept, *named])}]"]


def quoted(word: str) -> str:
    """Return KEY='PATH' for the KEY=PATH of a path that hydra's grammar cannot read, such as one with brackets or an accent."""
    key, _, value = word.partition("=")
    if not PATH.fullmatch(key) or value[:1] in ("", "'", '"', "[", "{"):
        return word
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return f"{key}='{value.replace(chr(39), chr(92) + chr(39))}'"
    return word


def value_of(words: Sequence[str], key: str) -> str | None:
    """Return what the last of the words that sets a key says, its quotes taken off and variables of the environment filled in."""
    found = None
    for word in words:
        if word.lstrip("+").startswith(f"{key}="):
            with suppress(HydraException, OmegaConfBaseException):
                override = OverridesParser.create().parse_override(quoted(word))
                found = None if override.is_sweep_override() else OmegaConf.create({"value": override.value()}).value
    return None if found is None else str(found)


def _without_course(words: Sequence[str]) -> list[str]:
    """Return loss.NAME={OPTION:0} for every typed course whose option may have one: in its yaml, or by an experiment."""
    found = []
    for name, option in re.findall(r"(?m)^\+*loss\.(\w+)\.(\w+)=.*\{", "\n".join(words)):
        known, word = _keys("loss", name), f"loss.{name}={{{option}:0}}"
        may_have = any(word.startswith("experiment=") for word in words) or isinstance(known.get(option), dict)
        if option in known and may_have and word not in [*words, *found]:
            found.append(word)
    return found


def shortened(words: Sequence[str]) -> list[str]:
    """Return the words, and before them what keeps debug=smoke short with a data set or a teacher of one's own choice.

    Args:
        words: the command line without the program.
    """
    if "debug=smoke" not in words:
        return list(words)
    short = {"data": ("limit", "data.limit=256"), "teacher": ("train", "teacher.train.epochs=1")}
    few = [word for group, (key, word) in short.items() if key in _keys(group, value_of(words, group) or "")]
    return [*few, *words]


def _keys(group: str, name: str) -> dict:
    """Return the keys of a yaml, those of the yamls that it begins with among them; nothing where it is not there."""
    file = files("conf") / group / f"{name}.yaml"
    own = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    before = [entry for entry in own.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return {key: value for entry in before for key, value in _keys(group, entry).items()} | own


def default_losses() -> list[str]:
    """Return the losses of conf/run.yaml."""
    return list(defaults()["loss"])


@cache
def defaults() -> dict[str, object]:
    """Return which yaml of each group conf/run.yaml takes."""
    entries = yaml.safe_load((files("conf") / "run.yaml").read_text(encoding="utf-8"))["defaults"]
    return {group: choice for entry in entries if isinstance(entry, dict) for group, choice in entry.items()}
