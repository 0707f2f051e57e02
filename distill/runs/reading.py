"""Run folders as data: found at any depth, read once; a damaged one is a finding, never a reason to stop."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.runs.result_schema import ENV, RESULT, unlike
from distill.system.cli import format_error
from distill.system.typed import is_number

PASSED_OVER = ("wandb",)  # its folders hold a config.yaml each
# what everything here is ranked by: of faces without labels the second
FIRST, AGREEMENT = "valid/top1_accuracy", "valid/agreement"
COSTS = ("num_parameters", "macs", "bytes", "latency_ms", "images_per_second")
ENGINES = (".onnx", ".xml", ".pt2", ".pte", ".int8.onnx")  # of exported files, the one whose speed is shown first


@dataclass(frozen=True)
class Run:
    """One run folder."""

    folder: Path  # where it is, links resolved
    status: str  # complete, failed, pruned (stopped by a search), unfinished or damaged
    error: str  # why it is not complete, in words
    config: RunConfig | None = None  # config.yaml; None where it cannot be read
    result: RunResult = field(default_factory=RunResult)  # result.json
    env: dict = field(default_factory=dict)  # env.json
    parts: tuple["Run", ...] = ()  # the sub-runs of a job over folds or generations

    @property
    def leaves(self) -> tuple["Run", ...]:
        """The runs whose predictions and curves stand for this one: all folds, or the last generation."""
        if not self.parts:
            return (self,)
        parts = self.parts if self.parts[0].folder.name.startswith("fold-") else self.parts[-1:]
        return tuple(leaf for part in parts for leaf in part.leaves)

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Every finite number of the student by name: metrics, costs, minutes, and what was measured on corrupted faces."""
        if self.status != "complete":
            return {}
        result = self.result
        facts: dict[str, Any] = {"seed": result.seed, "epochs": result.epochs, "best_epoch": result.best_epoch}
        facts["minutes"] = (result.seconds.get("total") or math.nan) / 60
        for name, values in result.extra_test_splits.items():
            facts[f"test/{name}/top1_accuracy"] = values.get("top1_accuracy")
        if corrupted := result.robustness:
            facts["test/robustness"] = corrupted["mean"]["top1_accuracy"]
        return _numbers(result.student) | {name: value for name, value in facts.items() if is_number(value)}

    @cached_property
    def teacher_numbers(self) -> dict[str, float]:
        """Every finite number of the teacher by name: metrics and costs; nothing without a teacher."""
        return _numbers(self.result.teacher or {"metrics": {}})

    @cached_property
    def corruption_curves(self) -> dict[str, list[tuple[int, float]]]:
        """corruption -> [(severity, top-1 on test faces)], severity 0 the clean ones; nothing where it was not measured."""
        measured = self.result.robustness
        if not measured:
            return {}
        clean, severities = (0, float(measured["clean"]["top1_accuracy"])), [int(s) for s in measured["severities"]]
        return {
            name: [clean, *((s, float(scores[str(s)]["top1_accuracy"])) for s in severities if str(s) in scores)]
            for name, scores in measured["corruptions"].items()
        }

    @property
    def command(self) -> str:
        """The command that was typed; nothing where env.json does not hold it."""
        return self.env.get("command") or ""

    @property
    def is_debug(self) -> bool:
        """Whether it was a trial of the tools, debug=smoke or debug=overfit."""
        return self.config is not None and bool(self.config.debug)

    @cached_property
    def exported_speed(self) -> dict | None:
        """{"file", "latency_ms", "images_per_second", "processor"} of an exported file on one thread, where bench timed it.

        A file that was written anew, of another size, since then was not timed.
        """
        folder = RunFolder(self.folder).export
        try:
            report = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
            timed = {Path(row["name"]).name: row for row in report["rows"] if row["threads"] == 1}
            for name in (f"student{end}" for end in ENGINES):
                files = [folder / name, *([folder / "student.bin"] if name.endswith(".xml") else [])]
                if name in timed and timed[name]["file_bytes"] == sum(file.stat().st_size for file in files):
                    passes = timed[name]["passes"]
                    speeds = {"latency_ms": float(passes["1"]["milliseconds"])}
                    speeds["images_per_second"] = float(passes[max(passes, key=int)]["images_per_second"])
                    return {"file": name, "processor": report["environment"].get("processor"), **speeds}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return None

    @cached_property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """name -> [(epoch from 1 on, value)] of validation metrics, and the mean training loss of each epoch."""
        by_epoch: dict[str, dict[int, list[float]]] = {}
        for line in _lines(RunFolder(self.leaves[0].folder).metrics):
            epoch = line.get("epoch")
            if not isinstance(epoch, int) or not 0 <= epoch < 10**6:
                continue
            for name, value in line.items():
                if name.startswith(("valid/", "train/")) and is_number(value):
                    by_epoch.setdefault(name, {}).setdefault(epoch + 1, []).append(value)
        return {name: [(e, sum(v) / len(v)) for e, v in sorted(by.items())] for name, by in by_epoch.items()}


def find(folders: Iterable[Path]) -> list[Run]:
    """Read every run folder that is or lies in one of the given folders, in the order of their paths.

    Raises:
        ValueError: no such folder, or not one run in any of them.
    """
    run_folders: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"{folder}: no such folder. Give a run folder, or one that holds run folders, such as runs."
            )
        run_folders |= dict.fromkeys(_run_folders(folder.resolve(), set()))
    if not run_folders:
        raise ValueError(
            f"{', '.join(map(str, folders))}: no run is in there; a run folder holds config.yaml and result.json."
        )
    return [read(folder) for folder in sorted(run_folders)]


def _run_folders(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield run folders; of what lies in one only students of other widths, and of a store no teachers, are runs of their own."""
    if folder in seen:
        return
    seen.add(folder)
    run = RunFolder(folder)
    if run.config.is_file() or run.result.is_file() or run.parts():
        yield folder
        yield from sorted(path.parent for path in folder.glob("width-*/result.json"))
        return
    try:
        inner = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return
    for name in inner:
        is_store = name == "teachers" and {"packed", "logits"} & set(inner)
        if not name.startswith(".") and name not in PASSED_OVER and not is_store:
            yield from _run_folders((folder / name).resolve(), seen)
    for line in _lines(folder / "jobs.jsonl"):  # of a sweep, where no link could be made
        if isinstance(path := line.get("folder"), str) and os.path.isdir(path):
            yield from _run_folders(Path(path).resolve(), seen)


def read(folder: Path) -> Run:
    """Read one run folder, whatever state it is in."""
    try:
        return _read(folder)
    except (ValueError, OSError, RecursionError) as error:
        return Run(folder, "damaged", f"cannot be read ({type(error).__name__}: {format_error(error, inside=True)})")


def _read(folder: Path) -> Run:
    here = RunFolder(folder)
    parts = tuple(read(part.path) for part in here.parts())
    try:
        env = json.loads(here.env.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        env = {}
    if not isinstance(env, dict) or not env or unlike(env, ENV):
        env = parts[0].env if parts else {}
    try:
        result = RunResult.read(here.result)
    except (OSError, ValueError):
        result = None
    try:
        config = RunConfig.read(here.config)
    except (OSError, ValueError) as error:
        if result and result.status in ("failed", "pruned"):  # a job of a sweep that was refused has no config
            return Run(folder, result.status, str(result.error), None, result, env, parts)
        return Run(folder, "damaged", format_error(error), env=env, parts=parts)
    if not here.result.exists():
        done, epochs = sum(FIRST in line or AGREEMENT in line for line in _lines(here.metrics)), config.train.epochs
        how_far = f"{done}{f' of {epochs}' if done <= epochs else ''} epochs are done"  # train.min_steps: of more
        if parts:
            how_far = f"{sum(part.status == 'complete' for part in parts)} of its sub-runs are complete"
        how_far = f"stopped or still at work: {how_far}"
        return Run(folder, "unfinished", how_far, config, env=env, parts=parts)
    if result is None:
        return Run(folder, "damaged", "result.json: is cut off or no JSON object", config, env=env, parts=parts)
    if result.status != "complete":
        failure = str(result.error or f"status {result.status!r}")
        return Run(folder, "pruned" if result.status == "pruned" else "failed", failure, config, result, env, parts)
    problem = unlike(vars(result), RESULT)
    if not problem:
        accuracy = result.student["metrics"].get(goal_of(result.student["metrics"]))
        if not (is_number(accuracy) and 0 <= accuracy <= 1):
            problem = f"has no student.metrics {FIRST} in [0, 1]"
    if not problem:
        run = Run(folder, "complete", "", config, result, env, parts)
        try:
            _ = run.numbers, run.teacher_numbers, run.corruption_curves
            return run
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            problem = f"its numbers cannot be read ({type(error).__name__}: {error})"
    return Run(folder, "damaged", f"result.json: says complete, but {problem}", config, result, env, parts)


def not_finished(folder: Path, why: str) -> str:
    """Return the message about a run that is not complete: what to type, where the reason, a sentence, does not say it."""
    if why.endswith(".") or ". " in why:
        return f"{folder}: this run is not finished: {why.rstrip('.')}."
    return f"{folder}: this run is not finished ({why}). Its own command, typed again, goes on with it."


def goal_of(numbers: dict) -> str:
    """Return the name of the number that a run is ranked by."""
    return FIRST if FIRST in numbers or AGREEMENT not in numbers else AGREEMENT


def _numbers(network: dict) -> dict[str, float]:
    numbers = dict(network["metrics"]) | {name: network.get(name) for name in COSTS}
    return {name: value for name, value in numbers.items() if is_number(value)}


def _lines(path: Path) -> Iterator[dict]:
    """Yield the readable lines of a metrics file; a run that was killed may have left half a line."""
    return (value for _, value in numbered_lines(path) if value is not None)


def numbered_lines(path: Path) -> Iterator[tuple[int, dict | None]]:
    """Yield (number from 1 on, value) of the lines of a metrics file; None where a line is no JSON object."""
    if not path.is_file():
        return
    with open(path, errors="replace", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield number, value if isinstance(value, dict) else None
