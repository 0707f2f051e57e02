"""A sweep as a file that wandb takes, too: program, command, method, metric, parameters, run_cap, early_terminate."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from distill.config.ranges import SELECTABLE
from distill.system.typed import as_typed

METHODS = ("bayes", "random", "grid")
RANGES = ("uniform", "q_uniform", "log_uniform_values", "int_uniform")
TRIALS = 32  # of a search whose file does not say it
ARGS = "${args_no_hyphens}"
ABOUT = ("name", "description", "project", "entity")  # keys that are wandb's alone
KEYS = ("program", "metric", "method", "run_cap", "early_terminate", "parameters", "command")


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file asks for."""

    name: str  # of the file
    words: list[str]  # that every job's command line begins with: the command's that are no macro, fixed parameters
    method: str  # bayes, random or grid
    metric: str  # what is compared, of validation
    maximize: bool  # whether more is better
    parameters: dict[str, dict]  # key -> {"values": [...]}, or {"min": ..., "max": ..., "distribution": ..., "q": step}
    run_cap: int | None  # number of jobs; None for a grid's own
    early_terminate: dict | None  # {"min_iter": epochs, "eta": factor}, or None

    def command(self, chosen: Mapping[str, object]) -> list[str]:
        """Return the command line of a job, as wandb's agent writes it."""
        return [*self.words, *(f"{key}={value}" for key, value in chosen.items())]


def find(name: str) -> Path:
    """Return the path of a sweep file: NAME of conf/sweep, or a path.

    Raises:
        ValueError: no such file.
    """
    folder, is_path = Path(str(files("conf") / "sweep")), name.endswith((".yaml", ".yml"))
    path = Path(name).expanduser() if is_path else folder / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ValueError(f"sweep: {name}: no such file. Choose {names}, or give a path that ends in .yaml.")
    return path


def read(path: Path, **changes) -> SweepFile:
    """Read a sweep file; changes take the place of its keys.

    Raises:
        ValueError: what it says cannot be done here, with the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no keys. A sweep file has {', '.join(KEYS)}.")
    content |= {key: value for key, value in changes.items() if value is not None}
    if unknown := content.keys() - {*KEYS, *ABOUT}:
        raise ValueError(f"{path.name}: {min(map(str, unknown))}: no such key. There are {', '.join(KEYS + ABOUT)}.")

    def need(fine: bool, key: str, value: object, wanted: str) -> None:
        if not fine:
            raise ValueError(f"{path.name}: {key}: expected {wanted}, got {as_typed(value)}.")

    method, cap, early, parameters, command = (content.get(key) for key in KEYS[2:])
    need(method in METHODS, "method", method, ", ".join(METHODS))
    need(cap is None or (type(cap) is int and cap >= 1), "run_cap", cap, "1 or more")
    metric = content["metric"] if isinstance(content.get("metric"), dict) else {}
    known = f"a goal, and a name of validation, {', '.join(SELECTABLE)}"
    need(metric.get("name") in SELECTABLE, "metric", content.get("metric"), known)
    goal = "maximize" if metric["name"].endswith(("accuracy", "agreement")) else "minimize"
    need(metric.get("goal") == goal, "metric.goal", metric.get("goal"), f"goal: {goal} for {metric['name']}")
    typed = isinstance(command, list) and ARGS in command
    need(typed, "command", command, f"a list with {ARGS}, for hydra's key=value")
    need(isinstance(parameters, dict) and bool(parameters), "parameters", parameters, "keys of python -m distill.run")
    halving = {"min_iter": early.get("min_iter"), "eta": early.get("eta", 3)} if isinstance(early, dict) else {}
    stops = bool(halving) and early.get("type") == "hyperband" and {*map(type, halving.values())} == {int}
    need(stops or early is None, "early_terminate", early, "type: hyperband, and whole numbers min_iter and eta")
    cap = TRIALS if cap is None and method != "grid" else cap
    spec = f"{{value: ...}}, values: [...], or min and max, two numbers, with a distribution of {', '.join(RANGES)}"
    words = [word for word in map(str, command) if "=" in word and not word.startswith("${")]  # no macro, not python
    searched = {}
    for key, one in parameters.items():
        need(_is_spec(one), f"parameters.{key}", one, spec)
        if "value" in one:
            words.append(f"{key}={one['value']}")
        elif "values" in one:
            searched[key] = {"values": [_as_word(value) for value in one["values"]]}
        elif method == "grid":
            raise ValueError(f"{path.name}: parameters.{key}: is a range; method: grid needs values: [...].")
        else:
            searched[key] = one
    return SweepFile(path.name, words, method, metric["name"], goal == "maximize", searched, cap, halving or None)


def _is_spec(spec: object) -> bool:
    """Say whether a parameter has a value, values or a range."""
    if not isinstance(spec, dict):
        return False
    if "value" in spec or "values" in spec:
        return "value" in spec or (isinstance(spec["values"], list) and bool(spec["values"]))
    ends = [spec.get("min"), spec.get("max"), spec.get("q", 1)]
    numbers = {*map(type, ends)} <= {int, float}
    return numbers and spec["min"] <= spec["max"] and spec.get("distribution", RANGES[0]) in RANGES


def _as_word(value: object) -> object:
    """Return a value as it is typed for hydra, lists and null as it reads them."""
    if value is None or isinstance(value, list):
        return "null" if value is None else f"[{','.join(map(str, value))}]"
    return value
