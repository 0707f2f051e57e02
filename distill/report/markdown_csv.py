"""The table as text: Markdown for people, comma-separated for programs."""

import csv
import io

from distill.report.aggregate import RunTable, data_words
from distill.report.number_format import full, plain, show


def markdown(table: RunTable) -> str:
    """Return the table for people: one row per configuration, mean ± sample standard deviation over n runs; a table per data set."""
    sections = table.sections
    if len(sections) < 2:
        return _markdown(table)
    heads = [f"## {s.configurations[0].data_name}\n\n{data_words(s.configurations)}" for s in sections]
    return "\n".join(f"{head}\n\n{_markdown(section)}" for head, section in zip(heads, sections, strict=True))


def _markdown(table: RunTable) -> str:
    columns = table.columns
    head = ["#", *table.keys, "n", *(column.heading for column in columns)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---|" * len(table.keys) + "--:|" * (len(columns) + 1)]
    for c in table.configurations:
        settings = [plain(c.values[key]).replace("|", r"\|") for key in table.keys]
        cells = [show(column, c.mean.get(column.name), c.spread.get(column.name)) for column in columns]
        lines.append("| " + " | ".join([str(c.number), *settings, c.repeats, *cells]) + " |")
    exported = {c.number: c.speed_of for c in table.configurations if c.speed_of}
    if exported:
        lines += ["", f"Speeds are of exported files: {', '.join(f'{k} {file}' for k, file in exported.items())}."]
    return "\n".join(lines) + "\n"


def comma_separated(table: RunTable) -> str:
    """Return the table for programs: one row per run, numbers as they are in the run folders, accuracies in [0, 1].

    speed_of is the exported file whose latency and images/s stand there, nothing for eager PyTorch's.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = [column.name for column in table.columns]
    rows.writerow(["configuration", "status", *table.keys, "seed", *names, "speed_of", "folder", "command", "error"])
    for c in table.configurations:
        for run in c.runs:
            settings = [full(c.values[key]) for key in table.keys]
            numbers = [run.numbers.get(name, "") for name in names]
            seed, speed = run.config.seed, c.speed_of or ""
            rows.writerow([c.number, run.status, *settings, seed, *numbers, speed, run.folder, run.command, ""])
    for run in table.left_out:
        blank = [""] * (len(table.keys) + 2 + len(names))
        rows.writerow(["", run.status, *blank, run.folder, "", run.error])
    return text.getvalue()
