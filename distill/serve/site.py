"""The page and all it needs as one mapping, name -> content: what is served, and what --write puts into a folder."""

import json
from collections.abc import Container
from importlib.resources import files
from pathlib import Path

from distill.export.runtimes import LIMITS
from distill.predict import blazeface
from distill.predict.boxes import MARGIN
from distill.predict.detector import SIZE, SMALL, SMALLEST, THRESHOLD, detector_graph
from distill.predict.student import open_whole
from distill.runs.published import ONNX
from distill.serve.engine import VERSION
from distill.serve.licenses import licenses

PAGE = ("index.html", "page.css", "page.js", "stage.js", "worker.js", "faces.js", "blazeface.js", "icon.svg")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
FINDING = {
    "margin": MARGIN,
    "threshold": THRESHOLD,
    "smallest": SMALLEST,
    "longest": SIZE,
    "small": SMALL,
    "near": {
        "growth": blazeface.GROWTH,
        "lift": blazeface.LIFT,
        "around": blazeface.AROUND,
        "search": blazeface.SEARCH,
    },
}
OPTIONAL = ("detector.onnx", "blazeface.onnx", "card.txt")
CARDS = ("model-card.md", "README.md")  # of an export, of a published folder


def site(student: Path, engine: dict[str, bytes], detector: Path | None, crops: bool = False) -> dict[str, bytes]:
    """Return the page's files.

    Args:
        student: an exported .onnx that takes pictures.
        engine: the files of onnxruntime-web.
        detector: CenterFace's .onnx, or None: then BlazeFace looks at large pictures, too.
        crops: no detector; a picture is taken as one face.

    Raises:
        ValueError: the student cannot be shown.
    """
    opened, _, _ = open_whole(student, 1)
    page = {name: files("distill.serve").joinpath(name).read_bytes() for name in PAGE}
    page["index.html"] = page["index.html"].replace(b"POLICY", POLICY.encode())
    page |= {f"ort/{name}": content for name, content in engine.items()}
    page["student.onnx"] = student.read_bytes()
    if not crops:
        page["blazeface.onnx"] = blazeface.FILE.read_bytes()
    if detector and not crops:
        page["detector.onnx"] = detector_graph(detector)
    page["licenses.txt"] = licenses(page).encode()
    card = next((path for path in (student.parent / name for name in CARDS) if path.is_file()), None)
    if card:
        page["card.txt"] = card.read_bytes()  # .txt: every browser shows it
    name = student.parent.name if student.name in ONNX else None
    try:
        page["facts.json"] = json.dumps(page_facts(opened.facts, page, name), indent=1).encode()
    except (KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{student}: its metadata are not those of an exported student ({why}). Export it again."
        ) from error
    return page


def page_facts(facts: dict[str, str], page: dict[str, bytes], name: str | None = None) -> dict:
    """Return what the page knows of its student.

    Args:
        facts: of the .onnx file.
        page: the page's files.
        name: of a published student; None shows the network's name, and the run's.
    """
    roles = {"student": "student.onnx", "detector": "detector.onnx", "blazeface": "blazeface.onnx", "card": "card.txt"}
    return {
        "classes": json.loads(facts["classes"]),
        "about": about(facts, len(page["student.onnx"]), name),
        "limits": facts.get("limits", LIMITS),
        "more": " ".join(_more(facts, page, name)),
        "files": {role: name if name in page else None for role, name in roles.items()},
        "picture": json.loads(facts["picture"]),
    } | FINDING


def about(facts: dict[str, str], size: int, name: str | None = None) -> str:
    """Return the line that says which student this is, and how good.

    Args:
        facts: of the .onnx file; what it lacks is left out.
        size: of the file in bytes.
        name: of a published student, as it is chosen; None takes the network's.
    """
    parts = [name or facts.get("student", "student")]
    if "num_parameters" in facts:
        parts.append(f"{int(facts['num_parameters']):,} parameters")
    parts.append(f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB")
    run_accuracy = facts.get("valid_top1_accuracy")
    accuracy = facts.get("file_top1_accuracy", run_accuracy)
    if accuracy is not None:
        low, high = json.loads(facts["valid_top1_accuracy_ci"]) if accuracy == run_accuracy else (None, None)
        interval = "" if low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
        rows = int(facts["valid_rows"])
        parts.append(
            f"top\u20111 {100 * float(accuracy):.1f}%{interval} on {rows:,} validation faces of {facts['dataset']}"
        )
    return " · ".join(parts)


def _more(facts: dict[str, str], page: Container[str], name: str | None) -> list[str]:
    teacher, known = facts.get("teacher", "null"), "run" in facts
    taken = "learned from labels alone" if teacher == "null" else f"distilled from the teacher {teacher}"
    lines = [f"{taken.capitalize()}." if name else f"Run {facts['run']}, {taken}."] if known else []
    lines += [f"Its data: {facts['license_of_the_data'].rstrip('.')}."] if "license_of_the_data" in facts else []
    names = {"blazeface.onnx": "BlazeFace (Apache-2.0)", "detector.onnx": "CenterFace (MIT)"}
    by = " and ".join(name for file, name in names.items() if file in page)
    lines += [f"Computed by onnxruntime-web {VERSION} (MIT){f', faces found by {by}' if by else ''}."]
    return lines
