"""One self-contained HTML page from run folders: nothing is fetched, its script only sorts, filters and points."""

import json
from collections.abc import Callable
from datetime import date
from html import escape
from importlib.resources import files

from distill.report.aggregate import Configuration, Sweep
from distill.report.example_faces import Faces
from distill.report.html import comparison as sections
from distill.report.html import summary
from distill.report.html.best_run import answers_section, faces_section
from distill.report.number_format import compact, plain
from distill.runs.reading import FIRST


def page(found: Sweep, commands: dict[str, str], faces: Callable[[], Faces | str | None]) -> str:
    """Return the page.

    Args:
        found: the runs.
        commands: run folder -> its command.
        faces: gives the faces of the best student, a sentence why there are none, or None where they are not wanted.
    """
    parts = [summary.head(found)]
    if len(found.by_faces) > 1:
        parts += [summary.winners(found), sections.table_section(found, commands)]
    elif found.configurations:
        parts += [summary.winner(found), sections.table_section(found, commands)]
        parts += [
            make(found) for make in (sections.pareto_section, sections.effects_section, sections.learning_section)
        ]
        parts += [answers_section(found.configurations[0].runs[0]), faces_section(faces())]
        parts += [sections.robustness_section(found)]
    parts += [_left_out(found), _foot(found)]
    style, script = (
        files("distill.report.html").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    data = json.dumps(_script_data(found), separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en" class="no-js">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(summary.title(found))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + f'\n<script type="application/json" id="data">{data}</script>\n<script>\n{script}</script>\n</body>\n</html>\n'
    )


def _left_out(found: Sweep) -> str:
    if not found.left_out:
        return ""
    rows = "".join(
        f"<li><b>{escape(run.status)}</b> <code>{escape(str(run.folder))}</code>: {escape(run.error)}</li>"
        for run in found.left_out
    )
    return f'<section id="left-out"><h2>Not counted</h2><ul class="list small">{rows}</ul></section>'


def _foot(found: Sweep) -> str:
    machines = {}
    for run in found.runs:
        versions, where = (
            run.env.get("packages") or {},
            run.env.get("gpu") or run.env.get("processor") or "an unknown machine",
        )
        torch, timm = (versions.get(name, "unknown") for name in ("torch", "timm"))
        machines[f"{where}, threads: {run.env.get('threads', 'unknown')}, torch {torch}, timm {timm}"] = None
    trained = f"Trained on {'; '.join(machines)}. " if machines else ""
    end = f"Written by python -m distill.report, {date.today().isoformat()}. An expression on a face is not an emotion."
    return f"<footer>{escape(trained + end)}</footer>"


def _script_data(found: Sweep) -> dict:
    """Return what the page's script needs: words for tips and the filter, and the meanings of colours."""
    tips = {str(c.number): _tip(c) for c in found.configurations}
    settings = [[f"{key}={plain(value)}" for key, value in c.values.items()] for c in found.configurations]
    texts = [" ".join([c.label, *words]).lower() for c, words in zip(found.configurations, settings, strict=True)]
    return {"tips": tips, "texts": texts, "colours": list(sections.palettes(found).values())}


def _tip(c: Configuration) -> str:
    spread = f" ± {100 * c.spread[FIRST]:.2f} over {len(c.runs)} seeds" if len(c.runs) > 1 else ""
    accuracy = [f"valid {100 * c.mean[FIRST]:.2f} %{spread}"]
    if (test := c.mean.get("test/top1_accuracy")) is not None:
        accuracy.append(f"test {100 * test:.2f} %")
    costs = ((c.mean.get(name), words) for name, words in (("num_parameters", "parameters"), ("macs", "MACs")))
    cost = [f"{compact(value)} {words}" for value, words in costs if value]
    if "latency_ms" in c.mean:
        cost.append(f"{c.mean['latency_ms']:.2f} ms")
    return "\n".join([f"{c.number}. {c.label}", ", ".join(accuracy), ", ".join(cost)])
