"""What each swept setting does to validation accuracy: its mean over all configurations that share a value."""

import math
import statistics
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NamedTuple

from distill.report.aggregate import Configuration, RunTable
from distill.report.html.svg_plot import Plot, Scale, percent, scale
from distill.report.number_format import capital, cut, plain
from distill.runs.reading import FIRST
from distill.system.typed import is_number

COLORED = 8  # values of a setting that hues can tell apart
RAMP = 24  # values that a ramp of colors can
OVER = {FIRST: "validation top-1 (%)", "test/top1_accuracy": "test top-1 (%)"}


class Level(NamedTuple):
    """One value of a setting."""

    value: Any
    members: list[Configuration]  # those that have it
    mean: float  # of their validation top-1
    among: float  # sample standard deviation over these configurations, what the other settings do included


def levels(table: RunTable, key: str) -> list[Level]:
    """Return a setting's values, numbers ascending, others from the most to the least accurate."""
    groups: dict[str, list[Configuration]] = {}
    for c in table.configurations:
        if c.values[key] is not None:
            groups.setdefault(repr(c.values[key]), []).append(c)
    made = []
    for members in groups.values():
        scores = [c.score for c in members]
        among = statistics.stdev(scores) if len(scores) > 1 else 0.0
        made.append(Level(members[0].values[key], members, statistics.fmean(scores), among))
    if is_numeric(table, key):
        return sorted(made, key=lambda level: level.value)
    return sorted(made, key=lambda level: -level.mean)


def is_numeric(table: RunTable, key: str) -> bool:
    """Say whether all values of a setting are numbers."""
    values = [c.values[key] for c in table.configurations if c.values[key] is not None]
    return all(type(value) in (int, float) for value in values)


def seed_spread(members: Sequence[Configuration]) -> float | None:
    """Return the sample standard deviation over seeds within configurations, pooled: sqrt(sum (n-1) s^2 / sum (n-1))."""
    several = [(len(c.runs) - 1, c.spread[c.goal]) for c in members if len(c.runs) > 1]
    weight = sum(n for n, _ in several)
    return math.sqrt(sum(n * s * s for n, s in several) / weight) if weight else None


def charts(table: RunTable) -> list[tuple[str, str]]:
    """Return (heading, picture) of each setting that differs; settings that always change together share one."""
    pictures = []
    for keys in _together(table):
        known = levels(table, keys[0])
        if len(known) > 1:
            draw = _numeric if is_numeric(table, keys[0]) else _categorical
            pictures.append((" = ".join(keys), draw(keys[0], known)))
    return pictures


def is_crossed(table: RunTable) -> bool:
    """Say whether every combination of values was run, so that a difference cannot come from another setting."""
    combinations = math.prod(len({repr(c.values[keys[0]]) for c in table.configurations}) for keys in _together(table))
    return combinations == len(table.configurations)


def _together(table: RunTable) -> list[list[str]]:
    """Return the settings, those in one list that divide the configurations in the same way."""
    same_values: dict[tuple[int, ...], list[str]] = {}
    for key in table.keys:
        values = [repr(c.values[key]) for c in table.configurations]
        same_values.setdefault(tuple(values.index(value) for value in values), []).append(key)
    return list(same_values.values())


def _numeric(key: str, known: list[Level]) -> str:
    plot = Plot(_axis([level.value for level in known]), _accuracies(known), key, f"{_goal(known)} (%)", height=300)
    for level in known:
        for c in level.members:
            plot.dot((level.value, c.score), "dot faint", 3, c.number)
    if any(len(level.members) > 1 for level in known):
        plot.band([(level.value, level.mean - level.among, level.mean + level.among) for level in known], "spread")
    plot.line([(level.value, level.mean) for level in known], "effect")
    for level in known:
        if spread := seed_spread(level.members):
            plot.line([(level.value, level.mean - spread), (level.value, level.mean + spread)], "seeds")
        plot.dot((level.value, level.mean), "mean", 4.5, tip=_tip(key, level))
    return plot.svg(f"{capital(_goal(known))} against {key}: " + _words(known))


def _axis(values: list[float]) -> Scale:
    """Return a scale of ascending settings, logarithmic where they are far apart, its ticks the values where they are few."""
    ratio = values[-1] / values[0] if values[0] > 0 else 1
    log = ratio >= 7
    near = {v for last, v in pairwise(values) if log and math.log(v / last) <= 0.08 * math.log(ratio)}
    far = [value for value in values if value not in near]
    return scale(values, log, plain, at=far if len(far) <= 8 else ())


def _categorical(key: str, known: list[Level]) -> str:
    """Draw one line per value, its name on the left: names may be long, and need no turning."""
    left = min(30 + 7 * max(len(plain(level.value)) for level in known), 240)
    names = [cut(plain(level.value)) for level in known]
    marks = tuple(-k for k in range(len(known)))
    y = Scale(-len(known) + 0.4, 0.6, marks=marks, write=lambda k: names[-round(k)])
    height = min(340, 58 + 40 * len(known))
    x = _accuracies(known)
    plot = Plot(x, y, f"{_goal(known)} (%)", "", height=height, left=left)
    for k, level in enumerate(known):
        if level.among:
            plot.line([(level.mean - level.among, -k), (level.mean + level.among, -k)], "spread")
        for c in level.members:
            plot.dot((c.score, -k), "dot faint", 3, c.number)
        if spread := seed_spread(level.members):
            plot.line([(level.mean - spread, -k), (level.mean + spread, -k)], "seeds")
        plot.dot((level.mean, -k), "mean", 5, tip=_tip(key, level))
        place = plot.place((level.mean, -k))
        plot.text(place[0], place[1] - 11, f"{100 * level.mean:.1f}", "label middle strong")
    return plot.svg(f"{capital(_goal(known))} by {key}: " + _words(known))


def _goal(known: list[Level]) -> str:
    return known[0].members[0].goal_words


def _accuracies(known: list[Level]) -> Scale:
    ends = [
        level.mean + sign * max(level.among, seed_spread(level.members) or 0) for level in known for sign in (-1, 1)
    ]
    return scale([*ends, *(c.score for level in known for c in level.members)], write=percent)


def _tip(key: str, level: Level) -> str:
    among = f" ± {100 * level.among:.2f}" if level.among else ""
    spread = seed_spread(level.members)
    seeds = f"; over seeds alone ± {100 * spread:.2f}" if spread is not None else ""
    return f"{key} {plain(level.value)}: {100 * level.mean:.2f}{among}% over {len(level.members)} configurations{seeds}"


def _words(known: list[Level]) -> str:
    return ", ".join(f"{plain(level.value)} {100 * level.mean:.1f}%" for level in known)


def setting_plot(table: RunTable, key: str, by: str | None = None) -> dict | None:
    """Return plots of top-1 over a numeric setting, mean and spread over runs, one line per value of a second setting.

    Args:
        table: the runs on one data set.
        key: the numeric setting, dotted.
        by: the second one.

    Returns:
        {"key", "by", "series": values of the second setting, "others": settings that differ within a point, "pictures"}; None where
        the setting has no two numbers here.
    """
    lines: dict[str, dict[float, list[Configuration]]] = {}
    for c in sorted(table.configurations, key=lambda c: plain(c.settings.get(by))):
        if is_number(x := c.settings.get(key)):
            lines.setdefault(plain(c.settings.get(by)) if by else "", {}).setdefault(x, []).append(c)
    xs = sorted({x for points in lines.values() for x in points})
    if len(xs) < 2:
        return None
    points = [members for line in lines.values() for members in line.values()]
    others = [k for k in table.keys if any(len({repr(c.values[k]) for c in members}) > 1 for members in points)]
    pictures = []
    for name, title in OVER.items():
        made = {value: _points(line, name) for value, line in lines.items()}
        made = {value: line for value, line in made.items() if line}
        if made:
            ends = [mean + sign * spread for line in made.values() for _, mean, spread, _ in line for sign in (-1, 1)]
            plot = Plot(_axis(xs), scale(ends, write=percent), key, title)
            for k, (value, line) in enumerate(made.items()):
                color = f"s{k % COLORED}"
                plot.line([point[:2] for point in line], f"over {color}")
                for at, mean, spread, n in line:
                    if spread:
                        plot.line([(at, mean - spread), (at, mean + spread)], f"error {color}")
                    more = f"{by} {value}, " if by else ""
                    tip = f"{more}{key} {plain(at)}: {100 * mean:.2f} ± {100 * spread:.2f}% over {n} runs"
                    plot.dot((at, mean), f"mean {color}", 4.5, tip=tip)
            pictures.append((title.removesuffix(" (%)"), plot.svg(f"{title} over {key}" + (f" by {by}" if by else ""))))
    return {"key": key, "by": by, "series": list(lines), "others": others, "pictures": pictures}


def _points(line: dict[float, list[Configuration]], name: str) -> list[tuple[float, float, float, int]]:
    """Return (setting, mean, sample standard deviation, number) over the runs of each point, ascending."""
    points = []
    for x, members in sorted(line.items()):
        values = [run.numbers[name] for c in members for run in c.runs if name in run.numbers]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            points.append((x, statistics.fmean(values), spread, len(values)))
    return points


def refuse_undrawn(table: RunTable, plots: Sequence[Sequence[str]], drawn: Sequence[dict]) -> None:
    """Refuse a plot of settings that no run has, or whose first one has no two numbers on any data set.

    Args:
        table: the runs.
        plots: (key) or (key, other key) of each plot.
        drawn: what setting_plot() returned for the data sets.

    Raises:
        ValueError: such a plot.
    """
    known = sorted({key for c in table.configurations for key in c.settings})
    for keys in plots if known else ():
        for key in keys:
            if key not in known:
                close = get_close_matches(key, known, n=1, cutoff=0.5)
                meant = f" Did you mean {close[0]}?" if close else ""
                raise ValueError(f"--plot: no run has the setting {key!r}.{meant}")
        if not any(plot["key"] == keys[0] for plot in drawn):
            raise ValueError(
                f"--plot: {keys[0]} has no two numbers among the runs of a data set; give one that differs."
            )


def palettes(table: RunTable) -> dict[str, dict]:
    """Return what colors can mean: setting -> its values, and which of them each configuration has; the strongest first.

    {"numeric", "values", "of": configuration's number -> index of its value}.
    """
    made = {}
    if len(table.configurations) <= COLORED:
        of = {c.number: k for k, c in enumerate(table.configurations)}
        made["configuration"] = {"numeric": False, "values": [cut(c.short, 40) for c in table.configurations], "of": of}
    means = {key: [level.mean for level in levels(table, key)] or [0.0] for key in table.keys}
    for key in sorted(means, key=lambda key: min(means[key]) - max(means[key])):
        known, numeric = levels(table, key), is_numeric(table, key)
        if 1 < len(known) <= (RAMP if numeric else COLORED):
            of = {c.number: k for k, level in enumerate(known) for c in level.members}
            made[key] = {"numeric": numeric, "values": [cut(plain(level.value)) for level in known], "of": of}
    return made or {"nothing": {"numeric": False, "values": [], "of": {}}}
