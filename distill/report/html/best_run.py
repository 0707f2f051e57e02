"""The sections about one run: how it errs, class by class, and on which faces."""

import math
from html import escape

import numpy as np

from distill.evaluation.metrics import expected_calibration_error
from distill.report.example_faces import Face, Faces
from distill.report.number_format import NOTHING
from distill.report.predictions import LEAST, Answers, matrix, of_run, of_teacher, per_class, reliability
from distill.runs.reading import Run


def answers_section(run: Run) -> str:
    """Return the confusion matrices, the classes with intervals and the reliability diagram of the best run on test."""
    title = escape(
        f"How the best student errs: {run.result['student'].get('name', 'student')}, seed {run.config.get('seed')}"
    )
    try:
        own = of_run(run)
    except ValueError as error:
        words = f"Its predictions cannot be shown: {escape(str(error))}."
        return f'<section><h2>{title}</h2><p class="warn">{words}</p></section>'
    teacher, classes = of_teacher(run, own), run.result["data"]["classes"]
    people = [own, *([teacher] if teacher else [])]
    right = 100 * (own.probabilities.argmax(1) == own.labels).mean()
    words = f"{len(own.labels):,} test faces, {right:.1f} % right. The winner was chosen on validation before."
    figures = [
        ("Confusion of the student: share of the true class (%)", _matrix(own, classes)),
        ("Each class", _classes(own, classes)),
        ("Reliability", _reliable(people, run)),
    ]
    if teacher:
        figures.append((f"Confusion of the teacher {teacher.who} (%)", _matrix(teacher, classes)))
    shown = "".join(f"<figure><h3>{escape(heading)}</h3>{body}</figure>" for heading, body in figures)
    return f'<section><h2>{title}</h2><p class="soft small">{words}</p><div class="grid">{shown}</div></section>'


def _matrix(own: Answers, classes: list[str]) -> str:
    counts = matrix(own)
    head = "".join(f'<th scope="col" class="turned"><span>{escape(name)}</span></th>' for name in classes)
    rows = []
    for k, name in enumerate(classes):
        n = int(counts[k].sum())
        tips = [f"{counts[k, j]:,} of {n:,} {name} faces called {other}" for j, other in enumerate(classes)]
        cells = "".join(_share(counts[k, j] / max(n, 1), int(counts[k, j]), tip) for j, tip in enumerate(tips))
        rows.append(f'<tr><th scope="row">{escape(name)} <i>{n:,}</i></th>{cells}</tr>')
    head = f"<thead><tr><th>is \N{DOWNWARDS ARROW}&ensp;is called \N{RIGHTWARDS ARROW}</th>{head}</tr></thead>"
    return f'<div class="wide"><table class="matrix">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _share(share: float, count: int, tip: str) -> str:
    if not count:
        return f'<td data-tip="{escape(tip)}"></td>'
    words = f"{100 * share:.0f}" if share >= 0.005 else "·"
    strength = round(92 * math.sqrt(share))
    dark = ' class="dark"' if share > 0.3 else ""
    return f'<td{dark} style="background:color-mix(in oklab,#0a5a94 {strength}%,transparent)" data-tip="{escape(tip)}">{words}</td>'


def _classes(own: Answers, classes: list[str]) -> str:
    rows = []
    for row in per_class(own, classes):
        if not row.n:
            rows.append(
                f'<tr><td class="word">{escape(row.name)}</td><td>0</td><td colspan="4" class="word">no face</td></tr>'
            )
            continue
        low, high, middle = (100 * value for value in (row.low, row.high, row.recall))
        span = f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i><b style="left:{middle:.1f}%"></b>'
        precision = NOTHING if math.isnan(row.precision) else f"{100 * row.precision:.1f}"
        rows.append(
            f'<tr><td class="word">{escape(row.name)}</td><td>{row.n:,}</td><td>{middle:.1f}</td>'
            f'<td class="pm">{low:.1f} to {high:.1f}</td><td><span class="bar">{span}</span></td><td>{precision}</td></tr>'
        )
    titles = ("class", "faces", "recall (%)", "95 % interval", "", "precision (%)")
    head = "".join(f"<th{' class=word' if k == 0 else ''}>{title}</th>" for k, title in enumerate(titles))
    note = "Recall: share of the class that is found, with Wilson's interval."
    return (
        f'<div class="wide"><table><thead class="flat"><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f'<figcaption class="small">{note}</figcaption>'
    )


def _reliable(people: list[Answers], run: Run) -> str:
    tags = []
    for a, kind, role in zip(people, ("first", "second"), ("student", "teacher"), strict=False):
        error = expected_calibration_error(np.log(np.maximum(a.probabilities, 1e-12)), a.labels)
        tags.append(f'<span class="tag {kind}">{role} {escape(a.who)}</span>, ECE {100 * error:.1f} %')
    missing = (
        " The teacher's own predictions are out of reach." if run.result.get("teacher") and len(people) == 1 else ""
    )
    note = (
        f"{'; '.join(tags)}. On the dashed line confidence is what it claims to be; a dot's area is its number of faces, "
        f"bins of less than {LEAST} are not drawn.{missing}"
    )
    return f'{reliability(people)}<figcaption class="small">{note}</figcaption>'


def faces_section(found: Faces | str | None) -> str:
    """Return the wrong and right faces with their maps, a sentence where there are none, or nothing where not wanted."""
    if found is None:
        return ""
    if isinstance(found, str):
        return f'<section><h2>Faces</h2><p class="warn">No faces are shown: {escape(found)}.</p></section>'
    people = [whose for face in (found.wrong + found.right)[:1] for whose, _ in face.looks]
    looks = f"{' and '.join(people)} look" if len(people) > 1 else "the student looks"
    words = (
        f"From the left: the face, and where {looks} (Grad-CAM: bright places speak for the network's own answer; "
        "few places make a coarse map). "
        f"{' '.join(note.rstrip('.') + '.' for note in found.notes)}"
    )
    wrong = (
        f"<h3>Most sure and wrong</h3><div class='faces'>{''.join(map(_face, found.wrong))}</div>"
        if found.wrong
        else ""
    )
    right = (
        f"<h3>Most sure and right, one of each class</h3><div class='faces'>{''.join(map(_face, found.right))}</div>"
        if found.right
        else ""
    )
    return f'<section><h2>Faces</h2><p class="soft small">{escape(words)}</p>{wrong}{right}</section>'


def _face(face: Face) -> str:
    pictures = [("the face", face.picture), *((f"where the {whose} looks", picture) for whose, picture in face.looks)]
    images = "".join(
        f'<img src="{uri}" alt="{words}" title="{words}" width="96" height="96">' for words, uri in pictures
    )
    own = _says("student", face.student, face.label)
    taught = f"; {_says('teacher', face.teacher, face.label)}" if face.teacher else ""
    return f'<figure class="face"><div>{images}</div><figcaption><b>{escape(face.label)}</b>: {own}{taught}</figcaption></figure>'


def _says(who: str, answer: tuple[str, float], label: str) -> str:
    name, probability = answer
    style = "" if name == label else ' class="wrong"'
    return f"{who} <span{style}>{escape(name)} {100 * probability:.0f} %</span>"
