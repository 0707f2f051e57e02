"""The model card of an exported student: what it is, how it is used, how good it is, what it is not for."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from distill.evaluation.calibration import FEW_VALID, scaled
from distill.evaluation.tables import BYTES, Scores, calibration, compact, corruptions, per_class, scores
from distill.export.card import text as words
from distill.report.number_format import plain
from distill.report.predictions import Predictions, run_predictions
from distill.runs.folder import RunFolder
from distill.runs.reading import Run, not_finished, read
from distill.system.cli import to_export
from distill.system.files import sha256
from teachers.peer import is_peer

NAME = "model-card.md"
SPLITS = {"valid": "validation", "test": "test"}
FEW = 50  # faces of a class below which its numbers say little
BINS = 10  # of confidence
METRICS = {  # of the header: ours -> the hub's type, and its name
    "top1_accuracy": ("accuracy", "top-1 accuracy"),
    "mean_class_accuracy": ("balanced_accuracy", "mean-class accuracy"),
    "expected_calibration_error": ("ece", "expected calibration error"),
    "nll": ("nll", "negative log-likelihood, nats"),
}


class Evidence(NamedTuple):
    """What a card is written from."""

    run: Run  # the finished run
    parity: dict  # export/parity.json
    answers: dict[str, Predictions]  # valid, test -> the predictions
    measured: list[dict]  # what python -m distill.measure left in measured/
    names: dict[str, str]  # file of the export -> its name beside the card; others are not mentioned

    @property
    def written(self) -> dict[str, dict]:
        """The exported files that passed the gate and lie beside the card: file -> numbers."""
        files, refused = self.parity["files"], self.parity["refused"]
        return {name: files[name] for name in files if name in self.names and name not in refused}


def card(
    folder: Path, names: dict[str, str] | None = None, rounded: dict | None = None, title: str | None = None
) -> str:
    """Return the model card of an exported run, in Markdown.

    Args:
        folder: the run folder.
        names: file of the export -> its name beside the card, of those that lie there; none means all, as they are called.
        rounded: numbers of the weights where those beside the card are rounded to float16, see job.rounded_weights.
        title: what a publication is called; None takes the run's name.

    Raises:
        ValueError: the run is not finished or not exported, or its predictions are damaged.
    """
    run, parity, recorded = exported(folder)
    answers = {split: run_predictions(run, split) for split in SPLITS}
    for split, predictions in answers.items():
        seen = float((predictions.probabilities.argmax(1) == predictions.labels).mean())
        recorded_top1 = run.result.student["metrics"].get(f"{split}/top1_accuracy", seen)
        few = 2 / len(predictions.labels) + 1e-3  # rounding may turn the answer of a face or two
        if abs(seen - recorded_top1) > few:
            raise ValueError(
                f"{folder}/predictions/{split}.csv: {seen:.2%} right, but result.json says {recorded_top1:.2%}. One of them is of "
                "another run or damaged: bring back the run folder as it was."
            )
    measured = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "measured").glob("*.json"))]
    measured = [other for other in measured if other.get("weights") == parity["facts"]["weights_sha256"]]
    evidence = Evidence(run, parity, answers, measured, {name: name for name in recorded} if names is None else names)
    if rounded:
        evidence.parity["files"]["student.safetensors"] = rounded
    page = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page.filters |= {"plain": plain, "compact": compact, "json": lambda value: json.dumps(value, ensure_ascii=False)}
    return page.get_template("card.md.j2").render(_context(evidence, title) | {"rounded": rounded, "title": title})


def escape(value: object) -> Markup:
    """Return a value as Markdown shows it, instead of jinja's escaping for HTML."""
    if isinstance(value, Markup):
        return value
    return Markup(re.sub(r"([\\`*<\[\]&|]|(?<!\w)_|_(?!\w))", r"\\\1", re.sub(r"\s*\n\s*", " ", str(value))))


def exported(folder: Path) -> tuple[Run, dict, dict[str, str]]:
    """Return a finished run, its export/parity.json, and the SHA-256 of each exported file as it was written.

    Raises:
        ValueError: the run is not finished, not exported, or has learned on since then.
    """
    run = read(folder)
    if run.status != "complete":
        raise ValueError(not_finished(folder, run.error) if folder.is_dir() else f"{folder}: no such folder.")
    again = to_export(folder)
    try:
        parity = json.loads((folder / "export" / "parity.json").read_text(encoding="utf-8"))
        passed = [file for name, file in parity["files"].items() if name not in parity["refused"]]
        recorded = {name: value for file in passed for name, value in file["sha256"].items()}
        weights = parity["facts"]["weights_sha256"]
    except FileNotFoundError:
        raise ValueError(f"{folder}: this run is not exported. {again}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder}/export/parity.json: damaged, or of an earlier version. {again}") from None
    best = RunFolder(folder).weights
    if best.is_file() and sha256(best) != weights:
        raise ValueError(f"{folder}: its weights are not those that were exported. {again}")
    return run, parity, recorded


def _context(evidence: Evidence, title: str | None) -> dict:
    """Return everything that the template shows."""
    run, parity, written = evidence.run, evidence.parity, evidence.written
    result, facts, data = run.result, parity["facts"], run.result.data
    starts = words.starts(run)
    counts = json.loads(facts.get("train_faces_per_class", "null")) or []
    widths, width = run.config.loss.get("inplace", {}).get("widths"), run.config.student.get("width")
    corrupted = {"the test faces": result.robustness}
    corrupted |= {other["data"]["name"]: other.get("robustness") for other in evidence.measured}
    config = run.folder / "export" / "config.json"
    is_timm = config.is_file() and "architecture" in json.loads(config.read_text(encoding="utf-8"))
    return {
        **{"result": result, "data": data, "student": result.student, "teacher": result.teacher},
        **{"cfg": run.config, "augmentation": vars(run.config.augment)},
        **{"env": {"processor": None, "gpu": None, "packages": None} | run.env, "facts": facts},
        **{"written": written, "names": evidence.names, "refused": parity["refused"]},
        **{"timm": is_timm, "splits": SPLITS},
        **{"bytes": BYTES, "kinds": words.KINDS, "forms": words.FORMS, "least": FEW},
        "front": _front(evidence, is_timm, title or run.result.name),
        **{"widths": widths, "width": width[0] if isinstance(width, list) else width},
        "onnx": next((name for name in ("student.onnx", "student.int8.onnx") if name in written), None),
        "picture": json.loads(facts["picture"]),
        "spec": json.loads(facts["network_input"]),
        "results": _results(evidence),
        **_by_labels(evidence),
        "corrupted": [(faces, corruptions(file)) for faces, file in corrupted.items() if file],
        "hashes": {evidence.names[name]: file["sha256"][name] for file in written.values() for name in file["sha256"]},
        "speed": run.exported_speed,
        "train_faces": list(zip(data["classes"], counts, strict=True)) if counts else [],
        "peer": is_peer(run.config.teacher),
        "teacher_members": words.members(run),
        "teacher_pretrained": not set(starts) <= {None, "scratch"},
        "command": run.env.get("command") and words.without_folders(run.env["command"]),
    }


def _by_labels(evidence: Evidence) -> dict:
    """Return what the labels of the faces say: each class, calibration; without labels nothing."""
    test = evidence.answers["test"]
    if test.labels.min() < 0:
        return {"labeled": False, "class_rows": {}, "few": [], "missed": [], "calibrated": {"temperature": 1}}
    names = evidence.run.result.data["classes"]
    classes = {s: per_class(a.probabilities, a.labels, names) for s, a in list(evidence.answers.items())[::-1]}
    calibrated = _calibrated(evidence)
    probabilities = scaled(test.probabilities, calibrated["temperature"])
    confidence, right = probabilities.max(1), probabilities.argmax(1) == test.labels
    return {
        "labeled": True,
        "class_rows": classes,
        "few": [row for row in classes["test"] if row.faces < FEW],
        "missed": [row for row in classes["test"] if row.faces and row.correct < row.faces / 5],
        "gap": confidence.mean() - right.mean(),
        "calibrated": calibrated,
        "bins": calibration(probabilities, test.labels, BINS),
    }


def _results(evidence: Evidence) -> dict[str, Scores]:
    """Return selection of faces -> numbers: validation, test, other selections of the test faces, other data sets."""
    data, metrics = evidence.run.result.data, evidence.run.result.student["metrics"]
    rows = {name: scores(metrics, f"{split}/", data["rows"][split]) for split, name in SPLITS.items()}
    subsets, test = evidence.run.result.test_subset, rows["test"]
    rows = {name: numbers for name, numbers in rows.items() if numbers.top1}
    for name, values in evidence.run.result.extra_test_splits.items():  # the protocol of test itself comes once
        numbers = scores(values)
        if (numbers.faces, numbers.top1, numbers.nll) != (test.faces, test.top1, test.nll):
            rows[f"test faces of {'list' if name in subsets else 'protocol'} {name}"] = numbers
    for other in evidence.measured:
        known = len(other["classes"]["compared"])
        rows[f"{other['data']['name']}, by {known} classes, measured afterwards"] = scores(other["test"])
    return rows


def _calibrated(evidence: Evidence) -> dict:
    """Return the temperature inside the files, and NLL and ECE of each split before and after it, as result.json has them."""
    few = {"few": FEW_VALID} if len(evidence.answers["valid"].labels) < FEW_VALID else {}
    if json.loads(evidence.parity["facts"]["temperature"]) == 1:
        return {"temperature": 1} | few
    return evidence.run.result.calibration | few


def _front(evidence: Evidence, is_timm: bool, name: str | None) -> str:
    """Return the header that a model hub reads, in YAML."""
    result, metrics = evidence.run.result, evidence.run.result.student["metrics"]
    data = result.data["name"]
    of = {"dataset_name": data, "dataset_type": data, "dataset_config": result.data["protocol"]}
    task = {"task_type": "image-classification", "task_name": "facial expression recognition"}
    results = [
        EvalResult(metric_type=kind, metric_name=name, metric_value=value, dataset_split=split, **of, **task)
        for split in SPLITS
        for key, (kind, name) in METRICS.items()
        if (value := metrics.get(f"{split}/{key}")) is not None
    ]
    tags = ["facial-expression-recognition", *(["knowledge-distillation"] if result.teacher else [])]
    return ModelCardData(
        license="other",
        license_name="see-the-section-license",
        library_name="timm" if is_timm else "fer-distill",
        pipeline_tag="image-classification",
        tags=tags + (["onnx"] if any(name.endswith(".onnx") for name in evidence.written) else []),
        datasets=[data],
        metrics=["accuracy", "balanced_accuracy"] if results else None,
        model_name=name,
        eval_results=results or None,
    ).to_yaml()
