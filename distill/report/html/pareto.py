"""Which configurations no other one beats at once in accuracy and cost, and how that looks."""

from collections.abc import Sequence
from itertools import pairwise

from distill.evaluation.tables import BYTES, compact
from distill.report.aggregate import Configuration, RunTable
from distill.report.html.svg_plot import Plot, percent, place_labels, scale
from distill.report.number_format import amount, capital, cut, tick
from distill.runs.reading import FIRST

AXES = {  # name -> (title, how a tick is written)
    "num_parameters": ("parameters", tick),
    "macs": ("multiply-accumulates of one face", tick),
    "bytes": ("size of the weights, float32", lambda value: tick(value, BYTES)),
    "latency_ms": ("latency of one face, one thread (ms)", "{:g}".format),
}


def pareto_front(configurations: Sequence[Configuration], cost: str) -> list[Configuration]:
    """Return those that no other one beats: none is as accurate at less cost, or more accurate at the same; cheapest first."""
    known = [c for c in configurations if c.mean.get(cost, 0) > 0]
    best, best_so_far = -1.0, []
    for c in sorted(known, key=lambda c: (c.mean[cost], -c.score)):
        if c.score > best:
            best = c.score
            best_so_far.append(c)
    return best_so_far


def charts(table: RunTable) -> list[tuple[str, str]]:
    """Return (heading, picture) of accuracy against each cost that differs between configurations."""
    pictures = []
    for cost, (title, write) in AXES.items():
        known = [c for c in table.configurations if c.mean.get(cost, 0) > 0]
        if len({c.mean[cost] for c in known}) > 1:
            pictures.append((title, _chart(known, cost, title, write)))
    return pictures


def teacher_note(table: RunTable) -> str:
    """Return a message that says where the teachers are, which would squeeze the students' points together."""
    teachers = {run.result.teacher["name"]: run.teacher_numbers for run in table.runs if run.result.teacher}
    words = [
        f"{name}: {amount('percent', t[FIRST], 0)}%, {compact(t['num_parameters'])} parameters, {compact(t['macs'])} MACs"
        for name, t in teachers.items()
        if {FIRST, "num_parameters", "macs"} <= t.keys()
    ]
    return f"Not drawn: the teacher{'s' if len(words) > 1 else ''} {'; '.join(words)}." if words else ""


def _chart(known: list[Configuration], cost: str, title: str, write) -> str:
    ends = [c.score + sign * c.spread.get(c.goal, 0.0) for c in known for sign in (-1, 1)]
    x, y = scale((c.mean[cost] for c in known), log=True, write=write, margin=0.1), scale(ends, write=percent)
    plot = Plot(x, y, title, f"{known[0].goal_words} (%)")
    best = pareto_front(known, cost)
    front = [(c.mean[cost], c.score) for c in best]
    path = [front[0]]
    for (_, before), (more, accuracy) in pairwise(front):  # the border of what they beat: level until the next, then up
        path += [(more, before), (more, accuracy)]
    plot.line([*path, (x.high, front[-1][1])], "front")
    for c in known:
        if (spread := c.spread.get(c.goal, 0.0)) > 0:
            plot.line([(c.mean[cost], c.score + sign * spread) for sign in (-1, 1)], "error", c.number)
    for c in known[::-1]:
        classes = "dot onfront" if c in best else "dot"
        plot.dot((c.mean[cost], c.score), classes, 5.5 if c in best else 4, c.number)
    shown = best[::-1] + ([c for c in known if c not in best] if len(known) <= 8 else [])
    places = {c.number: plot.place((c.mean[cost], c.score)) for c in known}
    wanted = [(*places[c.number], cut(c.short, 36)) for c in shown]
    for c, label in zip(shown, place_labels(wanted, list(places.values())), strict=True):
        if label:
            left, top, anchor = label
            plot.text(left, top, cut(c.short, 36), f"label {anchor}", c.number)
    return plot.svg(f"{capital(known[0].goal_words)} against {title}; the front is {', '.join(c.label for c in best)}")
