"""One self-contained HTML page from run folders: nothing is fetched, its script only sorts, filters and points."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from importlib.resources import files

import numpy as np
from jinja2 import Environment, PackageLoader

from distill.evaluation.metrics import confusion_matrix, expected_calibration_error
from distill.evaluation.tables import compact, count, per_class
from distill.report.aggregate import SPEEDS, Configuration, RunTable, data_words
from distill.report.example_faces import Faces
from distill.report.html import curves, effects, pareto, summary
from distill.report.number_format import cut, full, plain, show
from distill.report.predictions import Predictions, run_predictions, teacher_predictions
from distill.report.select import condition
from distill.runs.reading import FIRST, Run, goal_of

Pictures = list[tuple[str, str]]  # (heading, SVG)
PAGE = Environment(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True, lstrip_blocks=True)
PAGE.filters |= {"plain": plain, "full": full, "cut": cut}


def page(
    table: RunTable,
    faces: Callable[[RunTable], Faces | str | None],
    plots: Sequence[Sequence[str]] = (),
    damaged: Sequence[tuple[Run, list[str]]] = (),
) -> str:
    """Return the page.

    Args:
        table: the runs.
        faces: gives the faces of a data set's best student, a message why there are none, or None where they are not wanted.
        plots: (key) or (key, other key) of each plot of top-1 over a setting.
        damaged: (run, messages) of those of which a file is damaged, though the result is whole.

    Raises:
        ValueError: a plot's key is none of the runs', or no number.
    """
    left_out = f"{count(table.debug, 'run')} of debug=smoke or overfit left out: --debug counts them."
    notes = [left_out] if table.debug else []
    sections = table.sections
    sets = [_data_set(k, section, table, faces, notes, plots) for k, section in enumerate(sections, 1)]
    effects.refuse_undrawn(table, plots, [plot for section in sets for plot in section["plots"]])
    seeds = len({run.config.seed for run in table.runs})
    counts = [(len(table.runs), "run"), (len(table.configurations), "configuration"), (seeds, "seed")]
    runs, configurations, seeds = (count(*one) for one in counts)
    css, js = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    shown = [c for section in sections for c in section.configurations]
    settings = [[f"{key}={full(value)}" for key, value in c.values.items()] for c in shown]
    return PAGE.get_template("page.html.j2").render(
        **{"title": summary.title(table), "counts": f"{runs} of {configurations}, {seeds}", "notes": notes},
        **{"sets": sets, "show": show, "left_out": table.left_out, "damaged": damaged},
        **{"css": css, "js": js, "today": date.today().isoformat(), "machines": summary.trained_on(table)},
        script_data={
            "tips": {str(c.number): _tip(c) for c in shown},
            "texts": [" ".join([c.label, *words]).lower() for c, words in zip(shown, settings, strict=True)],
            "colors": [list(effects.palettes(section).values()) for section in sections],
        },
    )


def _data_set(
    number: int, part: RunTable, table: RunTable, faces: Callable, notes: list[str], plots: Sequence[Sequence[str]]
) -> dict:
    """Return what the page shows of the runs on one data set."""
    best = part.configurations[0]
    others = [c for c in table.configurations if c.faces != best.faces]
    rule = condition(part.configurations, others) if others else None

    def drawn(heading: str, make: Callable[[RunTable], Pictures]) -> Pictures:
        try:
            return make(part)
        except (ArithmeticError, ValueError) as error:  # of numbers that no scale holds: the rest of the page stands
            notes.append(f"{heading} of {best.data_name} cannot be drawn: {error}.")
            return []

    return {
        "id": f"data-{number}",
        "name": best.data_name,
        "facts": data_words(part.configurations),
        "rule": rule and f"max {best.goal} where {rule}",
        "warnings": summary.warnings(part),
        "best": best,
        "folder": max(best.runs[0].leaves, key=lambda leaf: leaf.numbers.get(goal_of(leaf.numbers), 0)).folder,
        "tiles": summary.tiles(best),
        "chance": summary.chance(part),
        "table": part,
        "columns": [
            {
                "column": column,
                "edge": "edge" if column.group != last else "",  # a line to its left
                "has_spread": any(column.name in c.spread for c in part.configurations),
                "is_speed": column.name in SPEEDS,
            }
            for column, last in zip(part.columns, [None, *(column.group for column in part.columns)], strict=False)
        ],
        "groups": Counter(column.group for column in part.columns),
        "spread": any(c.spread for c in part.configurations),
        "speeds": summary.speeds(part),
        "plots": [plot for keys in plots if (plot := effects.setting_plot(part, *keys))],
        "pareto": drawn("Accuracy against cost", pareto.charts),
        "teachers": pareto.teacher_note(part),
        "palettes": effects.palettes(part),
        "effects": drawn("Effects of settings", effects.charts),
        "crossed": effects.is_crossed(part),
        "pooled": effects.seed_spread(part.configurations),
        "learning": drawn("Learning curves", curves.learning),
        "corruptions": drawn("Corruption robustness", curves.robustness),
        "errors": _errors(best.runs[0]),
        "faces": faces(part),
    }


def _errors(run: Run) -> dict:
    """Return the tables of how the best run and its teacher err on the test faces, or why there are none."""
    facts = {"name": run.result.student.get("name", "student"), "seed": run.config.seed}
    try:
        student = run_predictions(run)
        if student.labels.min() < 0:
            raise ValueError("nobody has said what these faces show")
    except ValueError as error:
        return facts | {"error": str(error)}
    teacher, classes = teacher_predictions(run, student), run.result.data["classes"]
    people = [student, *([teacher] if teacher else [])]
    return facts | {
        **{"classes": classes, "faces": len(student.labels), "least": curves.LEAST},
        "right": (student.probabilities.argmax(1) == student.labels).mean(),
        **{"student": _network(student, classes), "teacher": teacher and _network(teacher, classes)},
        "teacher_missing": bool(run.result.teacher) and not teacher,
        "reliability": curves.reliability(people),
    }


def _network(predictions: Predictions, classes: list[str]) -> dict:
    return {
        "who": predictions.who,
        "confusion": confusion_matrix(predictions.probabilities, predictions.labels).tolist(),
        "rows": per_class(predictions.probabilities, predictions.labels, classes),
        "ece": expected_calibration_error(np.log(np.maximum(predictions.probabilities, 1e-12)), predictions.labels),
    }


def _tip(c: Configuration) -> str:
    spread = f" ± {100 * c.spread[c.goal]:.2f} over {len(c.runs)} seeds" if len(c.runs) > 1 else ""
    accuracy = [f"{'valid' if c.goal == FIRST else c.goal_words} {100 * c.score:.2f}%{spread}"]
    if (test := c.mean.get("test/top1_accuracy")) is not None:
        accuracy.append(f"test {100 * test:.2f}%")
    costs = ((c.mean.get(name), words) for name, words in (("num_parameters", "parameters"), ("macs", "MACs")))
    cost = [f"{compact(value)} {words}" for value, words in costs if value]
    if "latency_ms" in c.mean:
        cost.append(f"{c.mean['latency_ms']:.2f} ms ({c.speed_of or 'eager PyTorch'})")
    return "\n".join([f"{c.number}. {c.label}", ", ".join(accuracy), ", ".join(cost)])
