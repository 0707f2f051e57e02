"""A sweep as a file that wandb takes, too: program, command, method, metric, parameters, run_cap, early_terminate."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from distill.config.ranges import SELECTABLE

METHODS = ("bayes", "random", "grid")
RANGES = ("uniform", "q_uniform", "log_uniform_values", "int_uniform")
GOALS = ("maximize", "minimize")
ARGS = "${args_no_hyphens}"
KNOWN = ("name", "description", "program", "command", "method", "metric", "parameters", "run_cap", "early_terminate")
KNOWN += ("project", "entity")


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file asks for.

    Args:
        name: of the file.
        words: what every job's command line begins with, the command's words that are no macro.
        method: bayes, random or grid.
        metric: what is compared, of validation.
        maximize: whether more is better.
        parameters: key -> {"values": [...]} or {"min": ..., "max": ..., "log": ..., "step": ...}.
        fixed: key -> value.
        run_cap: number of jobs; None where the file does not say.
        early_terminate: {"min_iter": epochs, "eta": factor}, or None.
    """

    name: str
    words: list[str]
    method: str
    metric: str
    maximize: bool
    parameters: dict[str, dict]
    fixed: dict[str, object]
    run_cap: int | None
    early_terminate: dict | None

    def command(self, chosen: Mapping[str, object]) -> list[str]:
        """Return the command line of a job, as wandb's agent writes it."""
        return [*self.words, *(f"{key}={value}" for key, value in {**self.fixed, **chosen}.items())]

    def grid(self) -> list[dict[str, object]]:
        """Return every combination of the values, the last key changing first.

        Raises:
            ValueError: a parameter is a range.
        """
        for key, spec in self.parameters.items():
            if "values" not in spec:
                raise ValueError(f"{self.name}: parameters.{key}: is a range; method: grid needs values: [...].")
        values = [spec["values"] for spec in self.parameters.values()]
        return [dict(zip(self.parameters, chosen, strict=True)) for chosen in itertools.product(*values)]


def find(asked: str) -> Path:
    """Return the path of a sweep file: NAME of conf/sweep, or a path.

    Raises:
        ValueError: no such file.
    """
    if asked.endswith((".yaml", ".yml")):
        if not (path := Path(asked).expanduser()).is_file():
            raise ValueError(f"sweep: {asked}: no such file.")
        return path
    folder = Path(str(files("conf") / "sweep"))
    if not (folder / f"{asked}.yaml").is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ValueError(f"sweep: {asked!r} was asked for. Choose {there}, or give a path that ends in .yaml.")
    return folder / f"{asked}.yaml"


def read(path: Path, **changes) -> SweepFile:
    """Read a sweep file; changes take the place of its keys.

    Raises:
        ValueError: what it says cannot be done here, with the key.
    """
    said = _mapping(path) | {k: v for k, v in changes.items() if v is not None}
    if unknown := said.keys() - set(KNOWN):
        raise ValueError(f"{path.name}: {min(map(str, unknown))}: no such key. There are {', '.join(KNOWN)}.")
    if said.get("method") not in METHODS:
        raise ValueError(f"{path.name}: method: {said.get('method')!r} was asked for. Choose {', '.join(METHODS)}.")
    metric, cap = said.get("metric"), said.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise ValueError(f"{path.name}: run_cap: {cap!r} was asked for; give 1 or more.")
    maximize = _maximizes(path.name, metric)
    if not isinstance(parameters := said.get("parameters"), dict) or not parameters:
        raise ValueError(f"{path.name}: parameters: needs at least one key of python -m distill.run.")
    for key, spec in parameters.items():
        if not isinstance(spec, dict):
            raise ValueError(
                f"{path.name}: parameters.{key}: {spec!r} was asked for. Give {{value: {spec}}}, or values."
            )
    fixed = {key: spec["value"] for key, spec in parameters.items() if "value" in spec}
    return SweepFile(
        name=path.name,
        words=_words(path.name, said.get("command")),
        method=said["method"],
        metric=metric["name"],
        maximize=maximize,
        parameters={key: _spec(path.name, key, spec) for key, spec in parameters.items() if key not in fixed},
        fixed=fixed,
        run_cap=cap,
        early_terminate=_early(path.name, said.get("early_terminate")),
    )


def _mapping(path: Path) -> dict:
    """Return what a file says."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path}: holds no keys. A sweep file has {', '.join(KNOWN[2:-2])}.")
    return said


def _maximizes(name: str, metric: object) -> bool:
    """Say whether more of a metric is better, which its goal has to say, too."""
    if not isinstance(metric, dict) or metric.get("name") not in SELECTABLE:
        raise ValueError(
            f"{name}: metric: {metric!r} was asked for; choosing is done on validation alone. Give goal, and name, one of "
            f"{', '.join(SELECTABLE)}."
        )
    right = GOALS["accuracy" not in metric["name"]]
    if metric.get("goal") != right:
        said = f"{metric['goal']!r} was asked for" if "goal" in metric else "is missing"
        raise ValueError(f"{name}: metric.goal: {said}. For {metric['name']} give goal: {right}.")
    return right == "maximize"


def _words(name: str, command: object) -> list[str]:
    """Return the overrides in a command: what is neither a macro nor how Python is called."""
    if not isinstance(command, list) or ARGS not in command:
        raise ValueError(f"{name}: command: must be a list with {ARGS}, as hydra wants key=value.")
    return [word for word in map(str, command) if "=" in word and not word.startswith("${")]


def _spec(name: str, key: str, spec: dict) -> dict:
    """Return a parameter's values, or its range."""
    if "values" in spec:
        if not isinstance(spec["values"], list) or not spec["values"]:
            raise ValueError(
                f"{name}: parameters.{key}.values: {spec['values']!r} was asked for; give a list of values."
            )
        return {"values": [v if isinstance(v, str | int | float | bool) else _typed(v) for v in spec["values"]]}
    ends = [type(spec.get(end)) for end in ("min", "max")]
    kind = spec.get("distribution", "int_uniform" if ends == [int, int] else "uniform")
    numbers = {*ends, type(spec.get("q", 1))} <= {int, float}
    if kind not in RANGES or not numbers or spec["min"] > spec["max"]:
        raise ValueError(
            f"{name}: parameters.{key}: {spec} was asked for. Give value, values, or min and max, two numbers, "
            f"with a distribution of {', '.join(RANGES)}."
        )
    step = spec.get("q", 1) if kind.startswith("q_") else None
    return {"min": spec["min"], "max": spec["max"], "log": "log" in kind, "step": step, "whole": kind == "int_uniform"}


def _typed(value: object) -> str:
    """Return a value as hydra reads it."""
    if value is None:
        return "null"
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _early(name: str, asked: object) -> dict | None:
    if asked is None:
        return None
    known = isinstance(asked, dict) and asked.get("type") == "hyperband"
    numbers = {"min_iter": asked.get("min_iter"), "eta": asked.get("eta", 3)} if known else {}
    if not known or any(type(value) is not int for value in numbers.values()):
        raise ValueError(
            f"{name}: early_terminate: {asked} was asked for. Give type: hyperband, and whole numbers min_iter and eta."
        )
    return numbers
