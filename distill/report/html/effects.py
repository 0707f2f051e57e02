"""What each swept setting does to validation accuracy: its mean over all configurations that share a value."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from distill.report.aggregate import Configuration, Sweep
from distill.report.number_format import plain
from distill.report.svg_plot import Plot, Scale, percent, scale
from distill.runs.reading import FIRST


class Level(NamedTuple):
    """One value of a setting.

    Args:
        value: the setting.
        members: the configurations that have it.
        mean: of their validation top-1.
        among: sample standard deviation over these configurations, what the other settings do included.
    """

    value: object
    members: list[Configuration]
    mean: float
    among: float


def levels(found: Sweep, key: str) -> list[Level]:
    """Return a setting's values, numbers ascending, others from the most to the least accurate."""
    groups: dict[str, list[Configuration]] = {}
    for c in found.configurations:
        if c.values[key] is not None:
            groups.setdefault(repr(c.values[key]), []).append(c)
    made = [_level(members[0].values[key], members) for members in groups.values()]
    if is_numeric(found, key):
        return sorted(made, key=lambda level: level.value)
    return sorted(made, key=lambda level: -level.mean)


def _level(value: object, members: list[Configuration]) -> Level:
    scores = [c.mean[FIRST] for c in members]
    return Level(value, members, statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0)


def is_numeric(found: Sweep, key: str) -> bool:
    """Say whether all values of a setting are numbers."""
    values = [c.values[key] for c in found.configurations if c.values[key] is not None]
    return all(type(value) in (int, float) for value in values)


def seed_spread(members: Sequence[Configuration]) -> float | None:
    """Return the sample standard deviation over seeds within configurations, pooled: sqrt(sum (n-1) s^2 / sum (n-1))."""
    several = [(len(c.runs) - 1, c.spread[FIRST]) for c in members if len(c.runs) > 1]
    weight = sum(n for n, _ in several)
    return math.sqrt(sum(n * s * s for n, s in several) / weight) if weight else None


def charts(found: Sweep) -> list[tuple[str, str]]:
    """Return (heading, picture) of each setting that differs; settings that always change together share one."""
    pictures = []
    for keys in _together(found):
        known = levels(found, keys[0])
        if len(known) > 1:
            draw = _numeric if is_numeric(found, keys[0]) else _categorical
            pictures.append((" = ".join(keys), draw(keys[0], known)))
    return pictures


def is_crossed(found: Sweep) -> bool:
    """Say whether every combination of values was run, so that a difference cannot come from another setting."""
    combinations = math.prod(len({repr(c.values[keys[0]]) for c in found.configurations}) for keys in _together(found))
    return combinations == len(found.configurations)


def _together(found: Sweep) -> list[list[str]]:
    """Return the settings, those in one list that divide the configurations in the same way."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for key in found.keys:
        values = [repr(c.values[key]) for c in found.configurations]
        alike.setdefault(tuple(values.index(value) for value in values), []).append(key)
    return list(alike.values())


def _numeric(key: str, known: list[Level]) -> str:
    values = [level.value for level in known]
    log = min(values) > 0 and max(values) / min(values) >= 7
    far = [
        v
        for k, v in enumerate(values)
        if k == 0 or not log or math.log(v / values[k - 1]) > 0.08 * math.log(values[-1] / values[0])
    ]
    x = scale(values, log, plain, at=far if len(far) <= 8 else ())
    plot = Plot(x, _accuracies(known), key, "validation top-1 (%)", height=300)
    for level in known:
        for c in level.members:
            plot.dot((level.value, c.mean[FIRST]), "dot faint", 3, c.number)
    if any(len(level.members) > 1 for level in known):
        plot.band([(level.value, level.mean - level.among, level.mean + level.among) for level in known], "spread")
    plot.line([(level.value, level.mean) for level in known], "effect")
    for level in known:
        if spread := seed_spread(level.members):
            plot.line([(level.value, level.mean - spread), (level.value, level.mean + spread)], "seeds")
        plot.dot((level.value, level.mean), "mean", 4.5, tip=_tip(key, level))
    return plot.svg(f"Validation top-1 against {key}: " + _words(known))


def _categorical(key: str, known: list[Level]) -> str:
    """Draw one line per value, its name on the left: names may be long, and need no turning."""
    left = min(30 + 7 * max(len(plain(level.value)) for level in known), 240)
    y = Scale(
        -len(known) + 0.4,
        0.6,
        marks=tuple(-k for k in range(len(known))),
        write=lambda k: _cut(plain(known[-round(k)].value)),
    )
    height = min(340, 58 + 40 * len(known))
    x = _accuracies(known)
    plot = Plot(x, y, "validation top-1 (%)", "", height=height, left=left)
    for k, level in enumerate(known):
        if level.among:
            plot.line([(level.mean - level.among, -k), (level.mean + level.among, -k)], "spread")
        for c in level.members:
            plot.dot((c.mean[FIRST], -k), "dot faint", 3, c.number)
        if spread := seed_spread(level.members):
            plot.line([(level.mean - spread, -k), (level.mean + spread, -k)], "seeds")
        plot.dot((level.mean, -k), "mean", 5, tip=_tip(key, level))
        place = plot.place((level.mean, -k))
        plot.text(place[0], place[1] - 11, f"{100 * level.mean:.1f}", "label middle strong")
    return plot.svg(f"Validation top-1 by {key}: " + _words(known))


def _accuracies(known: list[Level]) -> Scale:
    ends = [
        level.mean + sign * max(level.among, seed_spread(level.members) or 0) for level in known for sign in (-1, 1)
    ]
    return scale([*ends, *(c.mean[FIRST] for level in known for c in level.members)], write=percent)


def _cut(words: str) -> str:
    return words if len(words) <= 30 else words[:29] + "…"


def _tip(key: str, level: Level) -> str:
    among = f" ± {100 * level.among:.2f}" if level.among else ""
    spread = seed_spread(level.members)
    seeds = f"; over seeds alone ± {100 * spread:.2f}" if spread is not None else ""
    return (
        f"{key} {plain(level.value)}: {100 * level.mean:.2f}{among} % over {len(level.members)} configurations{seeds}"
    )


def _words(known: list[Level]) -> str:
    return ", ".join(f"{plain(level.value)} {100 * level.mean:.1f} %" for level in known)
