"""What is typed behind python -m distill.run: the jobs of a sweep, spread out as hydra does it, and what they are made of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from distill.config.hints import suggest_override, with_suggestions
from distill.config.schema import BESIDE, MACHINE, WHERE
from distill.runs.config import RunConfig
from distill.system.errors import ConfigError

PATH = re.compile(  # keys of a path
    r"\+*(paths\.\w+|data\.(root|extra|subset_dir)|teacher\.cache|teacher(\.members\.\w+)?\.run|([\w.@]+\.)?weights)"
)
HYDRA = re.compile(r"[+~]*(hydra[./@]|launcher[.=])")  # begins words that say how a job is run, not what it is
SWEEP = re.compile(r"[+~]*(hydra[./@](launcher|sweep|mode)|launcher[.=])")  # of those, what is for the sweep alone
DIR = "hydra.sweep.dir"
PLUGINS = {"joblib": ("hydra_joblib_launcher", "sweep"), "slurm": ("hydra_submitit_launcher", "slurm")}
CONFIG_DIR = ("--config-dir", "-cd")
VALUED = ("--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--config-path", "-cp", "--experimental-rerun")


def options_first(words: Sequence[str]) -> list[str]:
    """Return a command line with its options in front, so that they may be typed anywhere, and --config-dir as hydra.searchpath.

    argparse takes no override behind an option that has others before it; a sweep has no options to hand to its jobs.

    Raises:
        ValueError: --config-dir names no folder.
    """
    options: list[str] = []
    overrides: list[str] = []
    folders: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in CONFIG_DIR:
            typed = value if equals else next(rest, "")
            folder = Path(typed).expanduser().absolute()
            if not typed or not folder.is_dir():
                raise ValueError(f"{name}: expected the folder of your yamls, got {typed!r}. Type {name}=DIR.")
            folders.append(_quote(f"file://{folder}"))
        elif word.startswith("-"):
            options += [word, *([] if equals or name not in VALUED else islice(rest, 1))]
        else:
            overrides.append(word)
    return [*options, *overrides, *([f"hydra.searchpath=[{','.join(folders)}]"] if folders else [])]


def expand_sweep(words: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Return the words of every job of a sweep, in the order of hydra's own sweeper, and the keys that are swept over.

    Args:
        words: the command line without the program; flags and what is meant for hydra itself are passed over.

    Returns:
        (jobs, swept keys).

    Raises:
        ValueError: a word that cannot be read.
    """
    overrides = [word for word in words if not word.startswith("-") and not HYDRA.match(word)]
    choices: dict[str, list[str]] = {}
    swept = []
    with _conf():
        try:
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            for override in parser.parse_overrides(overrides):
                key = override.get_key_element()
                if override.is_sweep_override():
                    choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                    swept.append(key)
                else:
                    choices[key] = [f"{key}={override.get_value_element_as_str()}"]
        except HydraException as error:
            raise ValueError(suggest_override(error, overrides)) from error
    return [list(job) for job in product(*choices.values())], swept


def check_swept(keys: Iterable[str]) -> None:
    """Refuse to sweep over what does not change a student: all values would be one run folder.

    Raises:
        ConfigError: with what to type instead.
    """
    for key in keys:
        group, _, name = key.partition(".")
        if group == "eval" or (group == "data" and name in ("test_subset", "subset_dir")):
            what = f"Leave it out of the sweep, and type python -m distill.measure RUN {key}=... for each."
            raise ConfigError(key, f"is measured, not learned: its values would be one run. {what}")
        if group in WHERE or (group == "train" and name in MACHINE) or (group == "data" and name in BESIDE):
            raise ConfigError(key, "does not change what is learned: its values would be one run. Give one value.")


def compose_jobs(
    jobs: Iterable[Sequence[str]], words: Sequence[str], swept: Iterable[str], folder: Path
) -> tuple[RunConfig, dict[str, object]]:
    """Compose jobs of a sweep before the first one is started, so many of them that every word is in one.

    Args:
        jobs: the words of each.
        words: of the sweep, those for hydra among them.
        swept: the keys that the jobs differ in.
        folder: of the sweep.

    Returns:
        (config of the first job, options of the launcher).

    Raises:
        ValueError: a key that changes no student; a launcher that is not installed; or with the nearest keys that exist.
    """
    check_swept(swept)
    for name, (plugin, extra) in PLUGINS.items():
        if f"launcher={name}" in words and not (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{plugin}")):
            raise ValueError(f"launcher={name}: is not installed. Type pip install -e '.[{extra}]'.")
    of_hydra = [word for word in words if HYDRA.match(word) and not word.startswith(DIR)]
    first, seen = None, set[str]()
    for job in jobs:
        if first is None or not seen.issuperset(job):
            seen.update(job)
            typed = [*job, *(word for word in of_hydra if word not in job)]
            try:
                with _conf():
                    cfg = compose("run", [*typed, f"{DIR}={_quote(str(folder))}"], return_hydra_config=True)
            except HydraException as error:
                raise ValueError(suggest_override(error, typed)) from error
            first = first or cfg
    launcher = OmegaConf.to_container(first.hydra.launcher, resolve=True)
    plain: Any = OmegaConf.to_container(first)
    del plain["hydra"]
    return RunConfig.from_dict(plain), {"_target_": "ray", **plain["launcher"]} if plain["launcher"] else launcher


def composed_job(words: Sequence[str]) -> tuple[DictConfig, dict[str, object]]:
    """Return the config of one job that is asked for in Python, and which yaml of each group it takes.

    Args:
        words: KEY=VALUE, as they are typed behind python -m distill.run.

    Raises:
        ValueError: with the nearest keys that exist.
    """
    for word in listed(words):
        if word.startswith("-"):
            raise ValueError(
                f"{word}: is for the command line. Give KEY=VALUE; hydra.searchpath=[file://DIR] is --config-dir, and "
                "several values of a key are several calls."
            )
    outer = get_gh_backup()  # of a program that uses hydra itself
    GlobalHydra.instance().clear()
    try:
        with with_suggestions(words), _conf():
            cfg = compose("run", overrides=[quoted(word) for word in words], return_hydra_config=True)
    finally:
        restore_gh_from_backup(outer)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def listed(words: Sequence[str]) -> list[str]:
    """Return the words of a call in Python.

    Raises:
        ValueError: they are no list of words.
    """
    if isinstance(words, (str, Mapping)) or not all(isinstance(word, str) for word in words):
        example = words.split() if isinstance(words, str) else ["student=cern", "seed=1"]
        raise ValueError(f"{words!r} was given; give a list of KEY=VALUE, such as {example!r}.")
    return [*words]


def _conf():
    return initialize_config_module("conf", version_base="1.3")


def sweep_dir(words: Sequence[str]) -> str | None:
    """Return the folder that a sweep is to have, or None where it is named by what is asked for.

    Raises:
        ValueError: it cannot be read.
    """
    typed = [word for word in words if word.startswith(f"{DIR}=")]
    folder = value_of(words, DIR)
    if typed and (folder is None or any("${now" in word for word in typed)):  # another one at each start
        raise ValueError(f"{DIR}: cannot be read. Give the path of a folder, or leave it out: a sweep is named then.")
    return folder


def quoted(word: str) -> str:
    """Return KEY='PATH' for the KEY=PATH of a path that hydra's grammar cannot read, such as one with brackets or an accent.

    All else is given to hydra as it was typed; a path of one's own machine cannot be helped.
    """
    key, _, value = word.partition("=")
    if not PATH.fullmatch(key) or value[:1] in ("", "'", '"', "[", "{"):
        return word
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return f"{key}={_quote(value)}"
    return word


def _quote(text: str) -> str:
    return "'" + text.replace("'", r"\'") + "'"


def value_of(words: Sequence[str], key: str) -> str | None:
    """Return what the last of the words that sets a key says, its quotes taken off and variables of the environment filled in."""
    value = None
    for word in words:
        if word.lstrip("+").startswith(f"{key}="):
            with suppress(HydraException, OmegaConfBaseException):
                override = OverridesParser.create().parse_override(quoted(word))
                value = None if override.is_sweep_override() else OmegaConf.create({"value": override.value()}).value
    return None if value is None else str(value)
