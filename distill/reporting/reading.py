"""Run folders as data: found at any depth, read once; a damaged one is a finding, never a reason to stop."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

PART = re.compile(r"(fold|generation)-(\d+)")  # sub-runs of one job
PASSED_OVER = ("checkpoints", "predictions", "figures", "measured", "export", "wandb")
FIRST = "valid/top1_accuracy"  # what everything here is ranked by
COSTS = ("num_parameters", "macs", "bytes", "latency_ms", "images_per_second")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Args:
        folder: where it is, links resolved.
        status: complete, failed, pruned (stopped by a search), unfinished or damaged.
        error: why it is not complete, in words.
        config: config.yaml; that of a job over folds or generations as it was asked for.
        result: result.json.
        env: env.json.
        parts: the sub-runs of a job over folds or generations.
    """

    folder: Path
    status: str
    error: str
    config: dict
    result: dict
    env: dict
    parts: tuple["Run", ...] = ()

    @property
    def leaves(self) -> tuple["Run", ...]:
        """The runs whose predictions and curves stand for this one: all folds, or the last generation."""
        if not self.parts:
            return (self,)
        return self.parts if self.parts[0].folder.name.startswith("fold-") else self.parts[-1:]

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Every finite number of the student by name: metrics, costs, minutes, and what was measured on spoilt faces."""
        result, student = self.result, self.result["student"]
        found = dict(student["metrics"]) | {name: student.get(name) for name in COSTS}
        found |= {name: result.get(name) for name in ("seed", "epochs", "best_epoch")}
        found["minutes"] = result.get("seconds", {}).get("total", math.nan) / 60
        for name, values in result.get("further", {}).items():
            found[f"test/{name}/top1_accuracy"] = values.get("top1_accuracy")
        if result.get("robustness"):
            found["test/robustness"] = result["robustness"]["mean"]["top1_accuracy"]
        return {name: value for name, value in found.items() if _is_number(value)}

    @cached_property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """name -> [(epoch from 1 on, value)] of validation metrics, and the mean training loss of each epoch."""
        found: dict[str, dict[int, list[float]]] = {}
        for line in _lines(self.leaves[0].folder / "metrics.jsonl"):
            for name, value in line.items():
                if name.startswith(("valid/", "train/")) and _is_number(value) and isinstance(line.get("epoch"), int):
                    found.setdefault(name, {}).setdefault(line["epoch"] + 1, []).append(value)
        return {name: [(e, sum(v) / len(v)) for e, v in sorted(by.items())] for name, by in found.items()}


def find(folders: Iterable[Path]) -> list[Run]:
    """Read every run folder that is or lies in one of the given folders, in the order of their paths.

    Raises:
        ValueError: no such folder, or not one run in any of them.
    """
    places: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"{folder}: no such folder. Give a run folder, or one that holds run folders, such as runs."
            )
        places |= dict.fromkeys(_run_folders(folder.resolve(), set()))
    if not places:
        raise ValueError(
            f"{', '.join(map(str, folders))}: no run is in there; a run folder holds config.yaml and result.json."
        )
    return [read(place) for place in sorted(places)]


def _run_folders(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield run folders; what lies in a run folder, and the teachers of a store, are not runs of their own."""
    if folder in seen:
        return
    seen.add(folder)
    if _holds_run(folder):
        yield folder
        return
    try:
        inner = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return
    for name in inner:
        is_store = name == "teachers" and {"packed", "logits"} & set(inner)
        if not name.startswith(".") and name not in PASSED_OVER and not is_store:
            yield from _run_folders((folder / name).resolve(), seen)


def _holds_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.yaml", "result.json")) or bool(_parts(folder))


def _parts(folder: Path) -> list[Path]:
    found = [path.parent for path in folder.glob("*-*/config.yaml") if PART.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: int(PART.fullmatch(path.name)[2]))


def read(folder: Path) -> Run:
    """Read one run folder, whatever state it is in."""
    parts = tuple(read(part) for part in _parts(folder))
    env = _mapping(folder / "env.json", {}) or (parts[0].env if parts else {})
    try:
        config = _whole_config(parts) if parts else _config(folder / "config.yaml")
    except (OSError, ValueError, yaml.YAMLError) as error:
        return Run(folder, "damaged", f"config.yaml: {_first_line(error)}", {}, {}, env, parts)
    file = folder / "result.json"
    if not file.exists():
        return Run(folder, "unfinished", _progress(folder, config, parts), config, {}, env, parts)
    result = _mapping(file)
    if result is None:
        return Run(folder, "damaged", "result.json: is cut off or no JSON object", config, {}, env, parts)
    if result.get("status") != "complete":
        error = str(result.get("error") or f"status {result.get('status')!r}")
        return Run(
            folder, "pruned" if result.get("status") == "pruned" else "failed", error, config, result, env, parts
        )
    if missing := _missing(result):
        return Run(folder, "damaged", f"result.json: says complete, but has no {missing}", config, result, env, parts)
    return Run(folder, "complete", "", config, result, env, parts)


def _whole_config(parts: tuple[Run, ...]) -> dict:
    """Return the config of a job over folds or generations, which its sub-runs hold, as it was asked for."""
    first, last = parts[0].config, parts[-1].config
    if parts[0].folder.name.startswith("fold-"):
        return first | {"data": first.get("data", {}) | {"fold": "all"}}
    return first | {"generations": len(parts), "loss": last.get("loss", first.get("loss"))}


def _config(path: Path) -> dict:
    value = yaml.safe_load(path.read_text())
    groups = ("data", "teacher", "student", "loss", "train")
    if not isinstance(value, dict) or not all(isinstance(value.get(group), dict) for group in groups):
        raise ValueError("is cut off or no config of a run")
    return value


def _mapping(path: Path, otherwise: dict | None = None) -> dict | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return otherwise
    return value if isinstance(value, dict) else otherwise


def _missing(result: dict) -> str | None:
    """Return the first thing that a complete result must have and this one has not."""
    student, data = result.get("student"), result.get("data")
    if not isinstance(student, dict) or not isinstance(student.get("metrics"), dict):
        return "student.metrics"
    if not _is_number(student["metrics"].get("valid/top1_accuracy")):
        return "student.metrics valid/top1_accuracy"
    wanted = ("name", "protocol", "classes", "rows")
    return next((f"data.{name}" for name in wanted if not isinstance(data, dict) or name not in data), None)


def _progress(folder: Path, config: dict, parts: tuple[Run, ...]) -> str:
    if parts:
        done = sum(part.status == "complete" for part in parts)
        return f"stopped or still at work: {done} of its sub-runs are complete"
    done = sum("valid/top1_accuracy" in line for line in _lines(folder / "metrics.jsonl"))
    return f"stopped or still at work: {done} of {config['train'].get('epochs', '?')} epochs are done"


def _lines(path: Path) -> Iterator[dict]:
    """Yield the readable lines of a metrics file; a run that was killed may have left half a line."""
    if not path.is_file():
        return
    with open(path, errors="replace") as file:
        for line in file:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
