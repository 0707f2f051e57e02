"""The sections that compare configurations: table, cost, effects, curves, robustness."""

from html import escape

from distill.report.aggregate import Sweep
from distill.report.html import curves, effects, pareto
from distill.report.html.run_table import table
from distill.report.number_format import plain
from distill.runs.reading import FIRST

COLOURED = 8  # values of a setting that hues can tell apart
RAMP = 24  # values that a ramp of colours can


def table_section(found: Sweep, commands: dict[str, str]) -> str:
    """Return the table of all configurations and, under each, its runs with their commands."""
    several = any(c.spread for c in found.configurations)
    spread = "± is the sample standard deviation over seeds" if several else "one run each"
    words = (
        f"Accuracies in percent, {spread}; ECE is the expected calibration error, agreement the share of faces on which student "
        "and teacher answer alike; speeds are medians over the runs of one network. A click on a heading sorts, a click on a row "
        "shows its runs and their commands."
    )
    if len(found.by_faces) > 1:
        words += " Data sets follow one another, best first in each: # goes on from one to the next and ranks only within one."
    search = (
        '<div class="controls needs-js"><input type="search" id="filter" placeholder="Filter by settings" aria-label="Filter">'
        '<span id="count" class="soft"></span></div>'
    )
    return _section("Runs", words, (search if len(found.configurations) > 3 else "") + table(found, commands))


def pareto_section(found: Sweep) -> str:
    """Return the plots of accuracy against each cost; nothing where none differs."""
    pictures = pareto.charts(found)
    words = (
        "Each point is a configuration; the line is the front: no other configuration is more accurate at that cost or less. "
        f"Bars are ± one standard deviation over seeds. {pareto.teacher_note(found)}"
    )
    return _section("Accuracy against cost", words, colour_choice(found) + _figures(pictures)) if pictures else ""


def effects_section(found: Sweep) -> str:
    """Return the plots of what each setting does; nothing where none differs."""
    pictures = effects.charts(found)
    if not pictures:
        return ""
    pooled = effects.seed_spread(found.configurations)
    seeds = "No configuration has two seeds, so what is chance is not known."
    if pooled is not None:
        seeds = f"Thick bars: seeds alone (pooled over configurations, ± {100 * pooled:.2f} points in all)."
    words = (
        "Marginal over the other settings: a blue dot is the mean over all configurations that share a value, whatever their other "
        "settings are; small dots are the configurations; the band or thin bar is their standard deviation, which the other "
        f"settings' effects widen. {seeds}"
    )
    warning = "Not every combination of these settings was run, so a difference here may come from another setting."
    warned = "" if effects.is_crossed(found) else f'<p class="warn small">{warning}</p>'
    return _section("Effect of each setting", words, warned + _figures(pictures))


def learning_section(found: Sweep) -> str:
    """Return the curves of validation metrics and training losses; nothing where no epoch is complete."""
    pictures = curves.learning(found)
    if not pictures:
        return ""
    if len(found.configurations) == 1:
        return _section("Learning curves", "One line per run.", _figures(pictures))
    words = (
        "One line per run, the thick one is the winner's. Hover a line or a name to see it alone, click a name to keep it. "
        "Training losses of different terms, weights or temperatures cannot be compared."
    )
    choice = "" if pareto.charts(found) else colour_choice(found)
    return _section("Learning curves", words, choice + _figures(pictures) + _legend(found))


def robustness_section(found: Sweep) -> str:
    """Return the plots of accuracy on spoilt faces; nothing where none was measured."""
    pictures = curves.robustness(found)
    words = (
        "Top-1 on test faces that are partly hidden or badly photographed, by severity; one line per run that was measured so, "
        "thick the winner's, where it was."
    )
    return _section("Spoilt faces", words, _figures(pictures, "grid three")) if pictures else ""


def _section(title: str, words: str, body: str) -> str:
    return f'<section><h2>{title}</h2><p class="soft small">{escape(words)}</p>{body}</section>'


def _figures(pictures: list[tuple[str, str]], classes: str = "grid") -> str:
    figures = "".join(f"<figure><h3>{escape(heading)}</h3>{svg}</figure>" for heading, svg in pictures)
    return f'<div class="{classes}">{figures}</div>'


def _legend(found: Sweep) -> str:
    names = [
        f'<li data-c="{c.number}"><button type="button" title="{escape(c.label)}"><span>{c.number}. {escape(c.short)}</span>'
        f"<b>{100 * c.mean[FIRST]:.1f}</b></button></li>"
        for c in found.configurations
    ]
    return f'<ol class="legend">{"".join(names)}</ol>'


def colour_choice(found: Sweep) -> str:
    """Return the choice of what colours mean, which all plots with configurations share."""
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(palettes(found)))
    return (
        f'<div class="controls needs-js"><label>Colour by <select id="colour">{options}</select></label>'
        '<span class="swatches" id="swatches"></span></div>'
    )


def palettes(found: Sweep) -> dict[str, dict]:
    """Return what colours can mean: setting -> its values, and which of them each configuration has; the strongest first."""
    made = {}
    if len(found.configurations) <= COLOURED:
        order = list(range(len(found.configurations)))
        made["configuration"] = {"numeric": False, "values": [c.short for c in found.configurations], "of": order}
    for key in sorted(found.keys, key=lambda key: -_reach(found, key)):
        known, numeric = effects.levels(found, key), effects.is_numeric(found, key)
        if 1 < len(known) <= (RAMP if numeric else COLOURED):
            where = {c.number: k for k, level in enumerate(known) for c in level.members}
            of = [where.get(c.number) for c in found.configurations]
            made[key] = {"numeric": numeric, "values": [plain(level.value) for level in known], "of": of}
    return made or {"nothing": {"numeric": False, "values": [], "of": []}}


def _reach(found: Sweep, key: str) -> float:
    means = [level.mean for level in effects.levels(found, key)]
    return max(means) - min(means) if means else 0.0
