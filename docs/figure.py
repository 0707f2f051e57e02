"""The figure of README.md as SVG, for light and for dark pages: teacher, student, ONNX file. docs/generate.py writes it."""

LIGHT = {
    "text": "#1f2328",
    "quiet": "#59636e",
    "line": "#818b98",
    "teacher": "#bf5b00",
    "student": "#00796b",
    "card": "#f6f8fa",
}
DARK = {
    "text": "#f0f6fc",
    "quiet": "#9198a1",
    "line": "#6e7681",
    "teacher": "#ffa657",
    "student": "#3fc1b0",
    "card": "#151b23",
}
LAYERS = {"teacher": (92, 118, 104, 128, 112, 132, 100, 80), "student": (44, 60, 48)}  # heights of the bars [px]
MOUTHS = ("M-9 9q9 9 18 0", "M-8 11h16", "M-9 14q9-9 18 0", "M-5 11a5 6 0 1 0 10 0a5 6 0 1 0-10 0")


def face(x: int, y: int, mouth: str, color: str) -> str:
    """Return a drawn face around (x, y)."""
    return (
        f'<g transform="translate({x} {y})" fill="none" stroke="{color}" stroke-width="2.4" stroke-linecap="round">'
        f'<circle r="22"/><path d="M-8-7v3M8-7v3{mouth}"/></g>'
    )


def network(x: int, middle: int, kind: str, color: str) -> str:
    """Return a network as a row of bars, its left edge at x."""
    bars = [
        f'<rect x="{x + 15 * k}" y="{middle - height // 2}" width="10" height="{height}" rx="3"/>'
        for k, height in enumerate(LAYERS[kind])
    ]
    return f'<g fill="{color}">{"".join(bars)}</g>'


def label(x: int, y: int, title: str, *lines: str, colors: dict) -> str:
    """Return a title and lines below it, centered at x."""
    texts = [f'<text x="{x}" y="{y}" fill="{colors["text"]}" font-size="19" font-weight="600">{title}</text>']
    texts += [
        f'<text x="{x}" y="{y + 22 + 19 * k}" fill="{colors["quiet"]}" font-size="15">{line}</text>'
        for k, line in enumerate(lines)
    ]
    return "".join(texts)


def size(number: float) -> str:
    """Return a number of bytes as it is read."""
    return f"{number / 1e3:.0f} kB" if number < 1e6 else f"{number / 1e6:.0f} MB"


def figure(rows: list[dict], dark: bool) -> str:
    """Return the SVG.

    Args:
        rows: of the table of results: the first is the teacher, FerLite M the student.
        dark: the colors of a dark page.
    """
    colors = DARK if dark else LIGHT
    teacher, student = rows[0], next(row for row in rows if "FerLite M" in row["name"])
    arrow = f'fill="none" stroke="{colors["line"]}" stroke-width="2.2" marker-end="url(#tip)"'
    faces = [face(62 + 60 * (k % 2), 102 + 60 * (k // 2), MOUTHS[k], colors["quiet"]) for k in range(4)]
    bars = [
        f'<rect x="856" y="{97 + 24 * k}" width="{width}" height="13" rx="4" fill="{colors["student" if k == 0 else "line"]}"/>'
        for k, width in enumerate((96, 18, 8, 5))
    ]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 290" role="img" aria-label="Knowledge distillation: '
        'a teacher and labels train a small student, which becomes an ONNX file" font-family="system-ui, -apple-system, '
        'Segoe UI, Helvetica, Arial, sans-serif" text-anchor="middle">',
        f'<defs><marker id="tip" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0 10 5 0 10z" fill="{colors["line"]}"/></marker></defs>',
        *faces,
        label(92, 226, "Faces", "yours, or a data set", colors=colors),
        f'<path d="M160 132H208" {arrow}/>',
        network(222, 132, "teacher", colors["teacher"]),
        label(
            279, 226, "Teacher", f"{teacher['num_parameters'] / 1e6:.1f} M parameters", "fine-tuned once", colors=colors
        ),
        f'<path d="M352 132H496" {arrow}/>',
        f'<text x="421" y="120" fill="{colors["quiet"]}" font-size="15">knowledge</text>',
        f'<text x="421" y="154" fill="{colors["quiet"]}" font-size="15">distillation</text>',
        network(510, 132, "student", colors["student"]),
        label(
            530,
            226,
            "Student",
            f"{student['num_parameters'] / 1e6:.2f} M parameters",
            "labels and teacher",
            colors=colors,
        ),
        f'<path d="M118 66V38H530V88" stroke-dasharray="5 5" {arrow}/>',
        f'<text x="324" y="28" fill="{colors["quiet"]}" font-size="15">labels</text>',
        f'<path d="M568 132H638" {arrow}/>',
        f'<text x="600" y="120" fill="{colors["quiet"]}" font-size="15">export</text>',
        f'<path d="M656 84h54l20 20v76h-74z" fill="{colors["card"]}" stroke="{colors["student"]}" stroke-width="2.4"/>',
        f'<path d="M710 84v20h20" fill="none" stroke="{colors["student"]}" stroke-width="2.4"/>',
        f'<text x="693" y="150" fill="{colors["student"]}" font-size="17" font-weight="700">ONNX</text>',
        label(693, 226, "One file", f"{size(student['bytes'])}, int8", "preprocessing inside", colors=colors),
        f'<path d="M746 132H838" {arrow}/>',
        *bars,
        label(904, 226, "Expression", "in Python, browsers,", "ONNX Runtime", colors=colors),
        "</svg>\n",
    ]
    return "\n".join(parts)
