"""Accuracy against epochs of the runs in docs/results/curves.json, as a table and as docs/patience.svg; docs/generate.py writes both."""

from student_tables import read, shown, table

from distill.evaluation.figures import LINES
from distill.report.html.svg_plot import Plot, Scale, percent

LOW = 0.6  # of the axis; earlier epochs are left out
STYLE = """<style>
svg { background: #ffffff; font: 12.5px system-ui, sans-serif } text { fill: #59636e }
.end { text-anchor: end } .middle { text-anchor: middle }
path { fill: none; stroke-width: 1.8 } .grid { stroke: #e3e6ea; stroke-width: 1 } .axis { stroke: #818b98; stroke-width: 1 }
.labels { stroke-dasharray: 5 3 } .repeat { stroke: #818b98; stroke-dasharray: 1.5 3 } text.repeat { fill: #59636e; stroke: none }
"""


def curves() -> dict[str, dict[str, list[float]]]:
    """Return student -> what validation said after each epoch of its first seed; those that follow a finished student are left out."""
    kept = read("curves")
    return {
        student: kept[name]
        for student, name in shown("students", "further", "cern_48", "mild").items()
        if ", then " not in student
    }


def patience() -> str:
    """Return validation top-1 after some epochs, at the best and at the last one."""
    marks = (5, 10, 20, 40, 70, 100)
    heads = ["student", "epochs", *(f"after {mark}" for mark in marks), "best (epoch)", "last"]
    rows = []
    for student, curve in curves().items():
        top1 = curve["top1_accuracy"]
        best = max(range(len(top1)), key=top1.__getitem__)
        reached = [f"{100 * top1[mark - 1]:.1f}" if mark <= len(top1) else "" for mark in marks]
        rows.append(
            [student, str(len(top1)), *reached, f"{100 * top1[best]:.1f} ({best + 1})", f"{100 * top1[-1]:.1f}"]
        )
    return table(heads, rows)


def picture() -> str:
    """Return validation top-1 against epochs as SVG: a color a student, labels alone dashed, repeating views dotted in gray."""
    runs = curves()
    longest = max(len(curve["top1_accuracy"]) for curve in runs.values())
    x = Scale(
        1, longest, log=True, marks=tuple(mark for mark in (1, 2, 5, 10, 20, 50, 100, 200, 300) if mark <= longest)
    )
    plot = Plot(x, Scale(LOW, 0.9, write=percent), "epochs", "validation top-1, percent", width=760, height=400)
    colors = {name: LINES[k] for k, name in enumerate(dict.fromkeys(student.split(",")[0] for student in runs))}
    style = STYLE + "\n".join(
        f".c{k} {{ stroke: {color} }} text.c{k} {{ fill: {color}; stroke: none }}"
        for k, color in enumerate(colors.values())
    )
    for student, curve in runs.items():
        number = [*colors].index(student.split(",")[0])
        points = [(k + 1, share) for k, share in enumerate(curve["top1_accuracy"]) if share >= LOW]
        plot.line(points, "repeat" if student.endswith("views") else f"c{number}" + " labels" * ("labels" in student))
    legend = [(name, f"c{number}") for number, name in enumerate(colors)]
    legend += [("dashed: labels alone", ""), ("dotted: S with 8 views", "repeat")]
    for above, (words, kind) in enumerate(reversed(legend)):  # from the axis up
        plot.text(548, 348 - 17 * above, words, kind)
    body = str(plot.svg("Validation top-1 of FerLite, MicroExpNet and CERN after each epoch"))
    return (
        body.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{style}</style>", 1) + "\n"
    )
