"""The winner by a rule: max valid/top1_accuracy where bytes<1e6 and latency_ms<1. Nothing is evaluated, only compared."""

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

from distill.report.aggregate import Configuration, RunTable, configuration, table_of
from distill.report.number_format import plain
from distill.runs.reading import FIRST
from distill.system.typed import is_number

RULE = re.compile(r"\s*(max|min)\s+(\S+)(?:\s+where\s+(.+?))?\s*", re.DOTALL | re.IGNORECASE)
CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|==|!=|<|>|=)\s*(\S+|[^<>=!]+?)\s*")  # a folder's name may hold blanks
AND = re.compile(r"\s+and\s+", re.IGNORECASE)
COMPARE: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt}
COMPARE |= {">=": operator.ge, "==": operator.eq, "=": operator.eq, "!=": operator.ne}
SAME = {"==": True, "=": True, "!=": False}  # of words
EXAMPLE = 'Type for example --best "max valid/top1_accuracy where bytes<1e6 and latency_ms<1".'


def best(table: RunTable, rule: str) -> Path:
    """Return the run folder that a rule chooses: of the best configuration, by its mean over seeds, the best run.

    Args:
        table: the runs.
        rule: max|min NAME [where NAME OP VALUE [and NAME OP VALUE ...]]; OP is <, <=, >, >=, == or !=; VALUE a number, or a
            word after == or !=, such as data==ferplus. A condition on seed leaves only the runs that have it.

    Raises:
        ValueError: the rule cannot be read, names what does not exist or test numbers, nothing fits it, or what fits it
            was chosen on other validation faces than the rest.
    """
    direction, goal, conditions = parse(rule)
    _refuse_nothing(table, "--best")
    goals = {name for c in table.configurations for name in _numbers(c)}
    _check(goal, goals, goals, "--best")
    fitting = [c for c in _fitting(table, conditions, "--best", rule).configurations if goal in _numbers(c)]
    if not fitting:
        raise ValueError(f"--best: no run that fits {rule!r} has {goal}.")
    _refuse_several_data(fitting, rule)
    sign = 1 if direction == "max" else -1
    chosen = max(fitting, key=lambda c: sign * _numbers(c)[goal])
    runs = [leaf for run in chosen.runs for leaf in run.leaves if leaf.status == "complete"] or list(chosen.runs)
    return max(runs, key=lambda run: sign * run.numbers.get(goal, chosen.mean.get(goal, 0.0))).folder


def where(table: RunTable, rules: Sequence[str]) -> RunTable:
    """Return the configurations that fit every rule, NAME=VALUE or with another comparison: a table of their own.

    Raises:
        ValueError: a rule cannot be read or names what does not exist, or nothing fits.
    """
    conditions = [_condition(words, "--where") for rule in rules for words in AND.split(rule)]
    if not conditions:
        return table
    _refuse_nothing(table, "--where")
    return _fitting(table, conditions, "--where", " and ".join(rules))


def _refuse_nothing(table: RunTable, option: str) -> None:
    if not table.configurations:
        states = Counter(run.status for run in table.left_out) + Counter({"of debug=smoke or overfit": table.debug})
        there = ", ".join(f"{number} {status}" for status, number in sorted(states.items()) if number)
        what = "A run's own command, typed again, goes on with it"
        if table.debug and not table.left_out:
            what = "Those are trials of the tools: type their command without debug="
        raise ValueError(f"{option}: no run there is complete ({there}). {what}.")


def _fitting(table: RunTable, conditions: list[tuple[str, str, float | str]], option: str, rule: str) -> RunTable:
    """Return the configurations that meet all conditions; those on the seed are met by runs, which are folded anew."""
    known = {"seed", *(name for c in table.configurations for name in _known(c))}
    goals = {name for c in table.configurations for name in _numbers(c)}
    for name, _, _ in conditions:
        _check(name, known, known & {"seed", "data", *goals, *table.keys}, option)
    bounds = [rest for name, *rest in conditions if name == "seed"]
    made = []
    for c in table.configurations:
        if runs := [run for run in c.runs if all(COMPARE[how](run.config.seed, bound) for how, bound in bounds)]:
            made.append(configuration(runs, c.settings))
    if not made:
        there = ", ".join(map(str, sorted({run.config.seed for run in table.runs})))
        raise ValueError(
            f"{option}: no run has such a seed. There are {there}; type for example seed=={there.split(',')[0]}."
        )
    others = [condition for condition in conditions if condition[0] != "seed"]
    fitting = [c for c in made if _meets(_known(c), others)]
    if not fitting:
        raise ValueError(f"{option}: none of {len(made)} configurations fits {rule!r}. {_nearest(made, others)}")
    return table_of(fitting)._replace(left_out=table.left_out, debug=table.debug)


def _refuse_several_data(fitting: list[Configuration], rule: str) -> None:
    """Refuse to compare accuracies on different faces: those of an easier data set, or of few faces, would win."""
    kinds: dict[tuple, list[Configuration]] = {}
    for c in fitting:
        name, root, rows, _, *how = c.faces  # how many test faces there are chooses nothing
        kinds.setdefault((name, root, rows, *how), []).append(c)
    if len(kinds) < 2:
        return
    kinds_of_data = [
        f"{' '.join(filter(None, (name, root)))} ({rows} validation faces; {protocol})"
        for name, root, rows, protocol, _ in sorted(kinds, key=repr)
    ]
    largest = max(kinds.values(), key=lambda members: members[0].faces[2])
    more = condition(largest, [c for members in kinds.values() if members is not largest for c in members])
    joined = " and " if RULE.fullmatch(rule)[3] else " where "
    what = f'Type for example --best "{rule.strip()}{joined}{more}"' if more else "Give the folders of one kind alone"
    raise ValueError(f"--best: the runs were chosen on different data, {' and '.join(kinds_of_data)}. {what}.")


def condition(wanted: Sequence[Configuration], others: Sequence[Configuration]) -> str | None:
    """Return a condition on their data, such as data.root==own2, that all wanted configurations meet and no other one does."""
    inside, outside = ([_known(c) for c in side] for side in (wanted, others))
    shown = inside[0]
    first = [key for key in ("data", "data.root", "valid_rows") if key in shown]
    keys = [*first, *sorted(key for key in shown if key.startswith("data.") and key not in first)]
    single = [f"{key}=={value if isinstance(value := shown[key], str) else f'{value:.12g}'}" for key in keys]
    for words in [*combinations(single, 1), *combinations(single, 2)]:
        try:
            conditions = parse(f"max {FIRST} where {' and '.join(words)}")[2]
        except ValueError:  # a value that cannot be typed
            continue
        if all(_meets(known, conditions) for known in inside) and not any(
            _meets(known, conditions) for known in outside
        ):
            return " and ".join(words)
    return None


def _meets(known: dict[str, float | str], conditions: Sequence[tuple[str, str, float | str]]) -> bool:
    return all(_holds(known, *one) for one in conditions)


def parse(rule: str) -> tuple[str, str, list[tuple[str, str, float | str]]]:
    """Return (max or min, name, [(name, comparison, number or word)]) of a rule.

    Raises:
        ValueError: it cannot be read.
    """
    read = RULE.fullmatch(rule)
    if not read:
        raise ValueError(
            f"--best: {rule!r} cannot be read; a rule is max|min NAME [where NAME OP VALUE [and ...]]. {EXAMPLE}"
        )
    return read[1].lower(), read[2], [_condition(words, "--best") for words in AND.split(read[3] or "") if words]


def _condition(words: str, option: str) -> tuple[str, str, float | str]:
    read = CONDITION.fullmatch(words)
    try:
        value = read[3].strip("'\"")  # one may think that a word wants quotes
        return read[1], read[2], value if read[2] in SAME and not _is_number(value) else float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{option}: {words!r} is no condition; one is NAME OP NUMBER, such as bytes<1e6, or NAME==WORD."
            + f" {EXAMPLE}" * (option == "--best")
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check(name: str, known: set[str], listed: set[str], option: str) -> None:
    if name.startswith("test/"):
        raise ValueError(
            f"{option}: got {name}, but choosing is done on validation; the test split is read once, for the winner. "
            f"Type valid/{name.removeprefix('test/')} or a cost."
        )
    if name not in known:
        there = [sorted(n for n in names if not n.startswith("test/")) for names in (known, listed)]
        close = get_close_matches(name, there[0], n=1, cutoff=0.6)
        meant = f" Did you mean {close[0]}?" if close else ""
        more = ", and every other setting by its key in config.yaml" if known > listed else ""
        raise ValueError(f"{option}: no run has {name!r}.{meant} There are {', '.join(there[1])}{more}.")


def _numbers(c: Configuration) -> dict[str, float]:
    """Return a configuration's means, and those of its settings that are numbers."""
    settings = {key: float(value) for key, value in c.values.items() if is_number(value)}
    numbers = {name: value for name, value in c.mean.items() if name != "seed"}
    return numbers | settings | {"valid_rows": c.faces[2]}


def _known(c: Configuration) -> dict[str, float | str]:
    """Return a configuration's numbers, and its settings whether they differ or not: numbers, words, true, false and null."""
    settings: dict[str, float | str] = {}
    for key, value in c.settings.items():
        if isinstance(value, list | dict):
            settings[key] = plain(value).replace(" ", "")
        elif isinstance(value, str):
            settings[key] = value
        elif value is None or isinstance(value, bool):
            settings[key] = plain(value, "null")
        elif is_number(value):
            settings[key] = float(value)
    return settings | _numbers(c) | {"data": c.runs[0].result.data["name"]}


def _holds(known: dict[str, float | str], name: str, comparison: str, bound: float | str) -> bool:
    value = known.get(name)
    if isinstance(value, str) and isinstance(bound, float) and _is_number(value):
        value = float(value)  # a folder may be called 2024
    if isinstance(value, str) and isinstance(bound, str) and bound.startswith("["):  # loss=[ce,kd]
        value, bound = (words.replace(" + ", ",").replace(" ", "").strip("[]") for words in (value, bound))
    if isinstance(value, str) or isinstance(bound, str):
        return value is not None and comparison in SAME and (value == bound) is SAME[comparison]
    return value is not None and COMPARE[comparison](value, bound)


def _nearest(configurations: list[Configuration], conditions: list[tuple[str, str, float | str]]) -> str:
    """Say, for each condition that nothing fits, what the numbers are."""
    words, all_known = [], [_known(c) for c in configurations]
    for name, comparison, bound in conditions:
        if any(_holds(known, name, comparison, bound) for known in all_known):
            continue
        values = [known[name] for known in all_known if name in known]
        if any(isinstance(value, str) for value in values):
            words.append(f"{name} is {' or '.join(sorted(set(map(str, values))))}")
        else:
            words.append(f"{name} is {plain(min(values))} to {plain(max(values))}")
    return f"Here {'; '.join(words)}." if words else "Each condition is met by some, but not all by one."
