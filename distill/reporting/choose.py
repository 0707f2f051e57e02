"""The winner by a rule: max valid/top1_accuracy where bytes<1e6 and latency_ms<1. Nothing is evaluated, only compared."""

import operator
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from distill.reporting.formats import plain
from distill.reporting.reading import Run
from distill.reporting.tables import Configuration, Sweep

RULE = re.compile(r"\s*(max|min)\s+(\S+)(?:\s+where\s+(.+?))?\s*", re.DOTALL)
CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|==|!=|<|>|=)\s*(\S+)\s*")
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}
EXAMPLE = 'Type for example --best "max valid/top1_accuracy where bytes<1e6 and latency_ms<1".'


def best(found: Sweep, rule: str) -> Path:
    """Return the run folder that a rule chooses: of the best configuration, by its mean over seeds, the best run.

    Args:
        found: the runs.
        rule: max|min NAME [where NAME OP NUMBER [and NAME OP NUMBER ...]]; OP is <, <=, >, >=, == or !=.

    Raises:
        ValueError: the rule cannot be read, names what does not exist or test numbers, or nothing fits it.
    """
    direction, goal, conditions = parse(rule)
    known = {name for c in found.configurations for name in _numbers(c)}
    for name in (goal, *(name for name, _, _ in conditions)):
        _check(name, known)
    fitting = [c for c in found.configurations if goal in _numbers(c) and all(_holds(c, *rest) for rest in conditions)]
    if not fitting:
        raise ValueError(
            f"--best: none of {len(found.configurations)} configurations fits {rule!r}. {_nearest(found, conditions)}"
        )
    sign = 1 if direction == "max" else -1
    chosen = max(fitting, key=lambda c: sign * _numbers(c)[goal])
    runs = [leaf for run in chosen.runs for leaf in run.leaves if leaf.status == "complete"] or list(chosen.runs)
    return max(runs, key=lambda run: sign * run.numbers.get(goal, chosen.mean.get(goal, 0.0))).folder


def parse(rule: str) -> tuple[str, str, list[tuple[str, str, float]]]:
    """Return (max or min, name, [(name, comparison, number)]) of a rule."""
    read = RULE.fullmatch(rule)
    if not read:
        raise ValueError(
            f"--best: {rule!r} cannot be read; a rule is max|min NAME [where NAME OP NUMBER [and ...]]. {EXAMPLE}"
        )
    conditions = [_condition(words) for words in re.split(r"\s+and\s+", read[3])] if read[3] else []
    return read[1], read[2], conditions


def _condition(words: str) -> tuple[str, str, float]:
    read = CONDITION.fullmatch(words)
    try:
        return read[1], read[2], float(read[3])
    except (TypeError, ValueError):
        raise ValueError(
            f"--best: {words!r} is no condition; one is NAME OP NUMBER, such as bytes<1e6. {EXAMPLE}"
        ) from None


def _check(name: str, known: set[str]) -> None:
    if name.startswith("test/"):
        raise ValueError(
            f"--best: {name} was asked for, but choosing is done on validation; the test split is read once, for the winner. "
            f"Type valid/{name.removeprefix('test/')} or a cost."
        )
    if name not in known:
        there = sorted(n for n in known if not n.startswith("test/"))
        close = get_close_matches(name, there, n=1, cutoff=0.6)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(f"--best: no run has {name!r}.{meant} There are {', '.join(there)}.")


def _numbers(c: Configuration) -> dict[str, float]:
    """Return a configuration's means, and those of its settings that are numbers."""
    settings = {key: float(value) for key, value in c.values.items() if type(value) in (int, float)}
    return {name: value for name, value in c.mean.items() if name != "seed"} | settings


def _holds(c: Configuration, name: str, comparison: str, bound: float) -> bool:
    value = _numbers(c).get(name)
    return value is not None and COMPARE[comparison](value, bound)


def _nearest(found: Sweep, conditions: list[tuple[str, str, float]]) -> str:
    """Say, for each condition that nothing fits, what the numbers are."""
    words = []
    for name, comparison, bound in conditions:
        values = [_numbers(c)[name] for c in found.configurations if name in _numbers(c)]
        if not any(COMPARE[comparison](value, bound) for value in values):
            words.append(f"{name} is {plain(min(values))} to {plain(max(values))}")
    return f"Here {'; '.join(words)}." if words else "Each condition is met by some, but not all by one."


def winner(found: Sweep) -> Run | None:
    """Return the best run, on validation, of the best configuration."""
    return found.configurations[0].runs[0] if found.configurations else None
