"""A sweep as a file that wandb takes, too: program, command, method, metric, parameters, run_cap, early_terminate."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from distill.config.ranges import SELECTABLE
from distill.system.typed import as_typed

METHODS = ("bayes", "random", "grid")
RANGES = ("uniform", "q_uniform", "log_uniform_values", "int_uniform")
ARGS = "${args_no_hyphens}"
KNOWN = ("name", "description", "program", "metric", "method", "run_cap", "early_terminate", "parameters", "command")
KNOWN += ("project", "entity")


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file asks for."""

    name: str  # of the file
    words: list[str]  # what every job's command line begins with, the command's words that are no macro
    method: str  # bayes, random or grid
    metric: str  # what is compared, of validation
    maximize: bool  # whether more is better
    parameters: dict[str, dict]  # key -> {"values": [...]} or {"min": ..., "max": ..., "log": ..., "step": ...}
    fixed: dict[str, object]  # key -> value
    run_cap: int | None  # number of jobs; None where the file does not say
    early_terminate: dict | None  # {"min_iter": epochs, "eta": factor}, or None

    def command(self, chosen: Mapping[str, object]) -> list[str]:
        """Return the command line of a job, as wandb's agent writes it."""
        return [*self.words, *(f"{key}={value}" for key, value in {**self.fixed, **chosen}.items())]

    def grid(self) -> list[dict[str, object]]:
        """Return every combination of the values, the last key changing first.

        Raises:
            ValueError: a parameter is a range.
        """
        if ranges := [key for key, spec in self.parameters.items() if "values" not in spec]:
            raise ValueError(f"{self.name}: parameters.{ranges[0]}: is a range; method: grid needs values: [...].")
        values = [spec["values"] for spec in self.parameters.values()]
        return [dict(zip(self.parameters, chosen, strict=True)) for chosen in itertools.product(*values)]


def find(asked: str) -> Path:
    """Return the path of a sweep file: NAME of conf/sweep, or a path.

    Raises:
        ValueError: no such file.
    """
    folder, typed = Path(str(files("conf") / "sweep")), asked.endswith((".yaml", ".yml"))
    path = Path(asked).expanduser() if typed else folder / f"{asked}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ValueError(f"sweep: {asked}: no such file. Choose {there}, or give a path that ends in .yaml.")
    return path


def read(path: Path, **changes) -> SweepFile:
    """Read a sweep file; changes take the place of its keys.

    Raises:
        ValueError: what it says cannot be done here, with the key.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path}: holds no keys. A sweep file has {', '.join(KNOWN[2:-2])}.")
    said |= {k: v for k, v in changes.items() if v is not None}
    if unknown := said.keys() - set(KNOWN):
        raise ValueError(f"{path.name}: {min(map(str, unknown))}: no such key. There are {', '.join(KNOWN)}.")

    def need(fine: bool, key: str, value: object, wanted: str) -> None:
        if not fine:
            raise ValueError(f"{path.name}: {key}: {as_typed(value)} was asked for; give {wanted}.")

    method, cap, early, parameters, command = (said.get(k) for k in KNOWN[4:9])
    need(method in METHODS, "method", method, ", ".join(METHODS))
    need(cap is None or (type(cap) is int and cap >= 1), "run_cap", cap, "1 or more")
    metric = said["metric"] if isinstance(said.get("metric"), dict) else {}
    known = f"a goal, and a name of validation, {', '.join(SELECTABLE)}"
    need(metric.get("name") in SELECTABLE, "metric", said.get("metric"), known)
    goal = "maximize" if metric["name"].endswith(("accuracy", "agreement")) else "minimize"
    need(metric.get("goal") == goal, "metric.goal", metric.get("goal"), f"goal: {goal} for {metric['name']}")
    listed = isinstance(command, list) and ARGS in command
    need(listed, "command", command, f"a list with {ARGS}, for hydra's key=value")
    need(isinstance(parameters, dict) and bool(parameters), "parameters", parameters, "keys of python -m distill.run")
    halving = {"min_iter": early.get("min_iter"), "eta": early.get("eta", 3)} if isinstance(early, dict) else {}
    stops = bool(halving) and early.get("type") == "hyperband" and {*map(type, halving.values())} == {int}
    need(stops or early is None, "early_terminate", early, "type: hyperband, and whole numbers min_iter and eta")
    spec = f"{{value: ...}}, values: [...], or min and max, two numbers, with a distribution of {', '.join(RANGES)}"
    for key, asked in parameters.items():
        need(_is_spec(asked), f"parameters.{key}", asked, spec)
    return SweepFile(
        name=path.name,
        words=[word for word in map(str, command) if "=" in word and not word.startswith("${")],  # no macro, not python
        method=method,
        metric=metric["name"],
        maximize=goal == "maximize",
        parameters={key: _choices(spec) for key, spec in parameters.items() if "value" not in spec},
        fixed={key: spec["value"] for key, spec in parameters.items() if "value" in spec},
        run_cap=cap,
        early_terminate=halving or None,
    )


def _is_spec(spec: object) -> bool:
    """Say whether a parameter has a value, values or a range."""
    if not isinstance(spec, dict):
        return False
    if "value" in spec or "values" in spec:
        return "value" in spec or (isinstance(spec["values"], list) and bool(spec["values"]))
    ends = [spec.get("min"), spec.get("max"), spec.get("q", 1)]
    numbers = {*map(type, ends)} <= {int, float}
    return numbers and spec["min"] <= spec["max"] and spec.get("distribution", RANGES[0]) in RANGES


def _choices(spec: dict) -> dict:
    """Return a parameter's values, lists and null as hydra reads them, or its range."""
    if "values" in spec:
        return {"values": [v if isinstance(v, str | int | float | bool) else _typed(v) for v in spec["values"]]}
    whole = {type(spec["min"]), type(spec["max"])} == {int}
    kind = spec.get("distribution", "int_uniform" if whole else "uniform")
    step = spec.get("q", 1) if kind.startswith("q_") else None
    return {"min": spec["min"], "max": spec["max"], "log": "log" in kind, "step": step, "whole": kind == "int_uniform"}


def _typed(value: object) -> str:
    return "null" if value is None else f"[{','.join(map(str, value))}]"
