"""The table as text: Markdown for people, comma-separated for programs."""

import csv
import io

from distill.report.aggregate import Sweep
from distill.report.number_format import plain, show


def markdown(found: Sweep) -> str:
    """Return the table for people: one row per configuration, mean ± sample standard deviation over n runs."""
    columns = found.columns
    head = ["#", *found.keys, "n", *(column.heading for column in columns)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---|" * len(found.keys) + "--:|" * (len(columns) + 1)]
    for c in found.configurations:
        settings = [plain(c.values[key]).replace("|", r"\|") for key in found.keys]
        cells = [show(column, c.mean.get(column.name), c.spread.get(column.name)) for column in columns]
        lines.append("| " + " | ".join([str(c.number), *settings, c.repeats, *cells]) + " |")
    return "\n".join(lines) + "\n"


def comma_separated(found: Sweep, commands: dict[str, str]) -> str:
    """Return the table for programs: one row per run, numbers as they are in the run folders, accuracies in [0, 1].

    Args:
        found: the runs.
        commands: run folder -> the command that makes it.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = [column.name for column in found.columns]
    rows.writerow(["configuration", "status", *found.keys, "seed", *names, "folder", "command", "error"])
    for c in found.configurations:
        for run in c.runs:
            own = [plain(c.values[key], "") for key in found.keys]
            numbers = [run.numbers.get(name, "") for name in names]
            folder = str(run.folder)
            rows.writerow([c.number, run.status, *own, run.config.get("seed"), *numbers, folder, commands[folder], ""])
    for run in found.left_out:
        blank = [""] * (len(found.keys) + 1 + len(names))
        rows.writerow(["", run.status, *blank, run.folder, "", run.error])
    return text.getvalue()
