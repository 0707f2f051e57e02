"""The numbers of a model card as Markdown: each is read from the run folder, and what is missing there is said to be missing."""

import re
from typing import NamedTuple

import numpy as np

from distill.evaluation.metrics import binned, confusion_matrix, wilson
from distill.report.number_format import compact
from distill.report.predictions import Answers
from distill.runs.reading import Run

SPLITS = {"valid": "validation", "test": "test"}
FEW = 50  # faces of a class below which its numbers say little
BINS = 10  # of confidence
BYTES = (" B", " kB", " MB", " GB")
FORMS = {
    ".safetensors": "PyTorch weights",
    ".onnx": "ONNX, float32",
    ".int8.onnx": "ONNX, int8 inside",
    ".pt2": "torch.export program",
    ".xml": "OpenVINO, with its .bin",
    ".pte": "ExecuTorch, one picture at a time",
}


class Evidence(NamedTuple):
    """What a card is written from.

    Args:
        run: the finished run.
        parity: export/parity.json.
        answers: valid, test -> the predictions.
        measured: what python -m distill.measure left in measured/.
        names: file of the export -> its name beside the card; others are not mentioned.
    """

    run: Run
    parity: dict
    answers: dict[str, Answers]
    measured: list[dict]
    names: dict[str, str]

    @property
    def written(self) -> dict[str, dict]:
        """The exported files that passed the gate and lie beside the card: file -> numbers."""
        files, refused = self.parity["files"], self.parity["refused"]
        return {name: files[name] for name in files if name in self.names and name not in refused}

    @property
    def classes(self) -> list[str]:
        """The class names, as Markdown shows them."""
        return [re.sub(r"([\\`*<\[\]&])", r"\\\1", name) for name in self.run.result["data"]["classes"]]


def table(head: str, rows: list[list[str]]) -> str:
    """Return a Markdown table; every column but the first is aligned right."""
    titles = head.split("|")
    lines = [
        titles,
        [":--", *["--:"] * (len(titles) - 1)],
        *([cell.replace("|", r"\|") for cell in row] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def results(found: Evidence) -> str:
    """Return the accuracy on validation and test, and on other selections of the test faces."""
    rows, student = found.run.result["data"]["rows"], found.run.result["student"]
    metrics = {
        words: {
            key.removeprefix(f"{split}/"): value for key, value in student["metrics"].items() if key.startswith(split)
        }
        | {"rows": rows[split]}
        for split, words in SPLITS.items()
    }
    subsets = found.run.result.get("test_subset") or {}
    for name, values in found.run.result.get("further", {}).items():  # the protocol of test itself comes once
        if all(values[key] == metrics["test"].get(key) for key in ("rows", "top1_accuracy", "nll")):
            continue
        metrics[f"test faces of {'list' if name in subsets else 'protocol'} {name}"] = values
    for other in found.measured:
        known = len(other["classes"]["compared"])
        metrics[f"{other['data']['name']}, by {known} classes, measured afterwards"] = other["test"]
    return table(
        "faces of|number|top-1 (95 %)|mean-class (95 %)|ECE|NLL, nats|agrees with teacher",
        [[name, *_scores(values)] for name, values in metrics.items()],
    )


def _scores(values: dict) -> list[str]:
    shares = [_share(values, key) for key in ("top1_accuracy", "mean_class_accuracy")]
    error, nll, agreement = (values.get(key) for key in ("expected_calibration_error", "nll", "agreement"))
    plain = ["-" if value is None else form.format(value) for value, form in ((error, "{:.3f}"), (nll, "{:.3f}"))]
    return [f"{values['rows']:,}", *shares, *plain, "-" if agreement is None else percent(agreement)]


def percent(share: float) -> str:
    """Return a share with two digits."""
    return f"{100 * share:.2f} %"


def _share(values: dict, key: str) -> str:
    if values.get(key) is None:
        return "missing"
    low, high = values.get(f"{key}_ci") or (None, None)
    return percent(values[key]) + ("" if low is None else f" ({100 * low:.1f} to {100 * high:.1f})")


def per_class(found: Evidence, split: str) -> str:
    """Return support, precision and recall with their intervals, and F1 of each class, and what it is mistaken for most."""
    classes, own = found.classes, found.answers[split]
    counts = confusion_matrix(own.probabilities, own.labels)
    rows = [[name, *_class(counts, k, classes)] for k, name in enumerate(classes)]
    return table("class|faces|precision (95 %)|recall (95 %)|F1|mistaken most often for", rows)


def _class(counts: np.ndarray, k: int, classes: list[str]) -> list[str]:
    right, n, named = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
    precision = _interval(right, named) if named else "never named"
    if not n:
        return ["0", precision, "no face", "-", "-"]
    wrong = np.where(np.arange(len(classes)) == k, 0, counts[k])
    worst = f"{classes[wrong.argmax()]}, {100 * wrong.max() / n:.0f} %" if wrong.any() else "-"
    return [f"{n:,}", precision, _interval(right, n), f"{200 * right / (n + named):.1f} %", worst]


def _interval(part: int, whole: int) -> str:
    low, high = wilson(part, whole)
    return f"{100 * part / whole:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def weak_classes(found: Evidence) -> list[str]:
    """Return sentences about classes that are few among the test faces, or hardly found."""
    classes, own = found.classes, found.answers["test"]
    counts = confusion_matrix(own.probabilities, own.labels)
    faces = dict(zip(classes, counts.sum(1).tolist(), strict=True))
    hits = dict(zip(classes, counts.diagonal().tolist(), strict=True))
    few = [f"{name} ({n})" for name, n in faces.items() if n < FEW]
    missed = [f"{name} ({hits[name]} of {n})" for name, n in faces.items() if n and hits[name] < n / 5]
    said = [f"Hardly found, less than one test face in five: {', '.join(missed)}."] if missed else []
    if few:
        said.append(
            f"Too few test faces to say much (less than {FEW}): {', '.join(few)}. In a mean over classes they weigh as much as the others."
        )
    return said


def calibration(found: Evidence) -> str:
    """Return accuracy against confidence on test, and how far apart they are."""
    own = found.answers["test"]
    confidence, right = own.probabilities.max(1), own.probabilities.argmax(1) == own.labels
    which = binned(confidence, BINS)
    rows = []
    for k in np.unique(which):
        chosen = which == k
        shares = (confidence[chosen].mean(), right[chosen].mean())
        span = f"{100 * k / BINS:.0f} to {100 * (k + 1) / BINS:.0f} %"
        rows.append([span, f"{chosen.sum():,}", *(f"{100 * share:.1f} %" for share in shares)])
    gap = 100 * (confidence.mean() - right.mean())
    way = "less sure than it is right" if gap < 0 else "surer than it is right"
    words = f"On test it is {abs(gap):.1f} points {way}, on average."
    return f"{words}\n\n{table('confidence|test faces|mean confidence|right', rows)}"


def robustness(found: Evidence) -> str:
    """Return top-1 on spoilt test faces, or how to measure it."""
    parts = [_spoilt("the test faces", found.run.result.get("robustness") or {})]
    parts += [_spoilt(other["data"]["name"], other.get("robustness") or {}) for other in found.measured]
    return "\n\n".join(filter(None, parts)) or (
        "Not measured. The command that made this run with `eval.robustness=[mask,sunglasses,hand,patch,blur,noise,dark,rotate]` "
        "behind it measures it, without training again."
    )


def _spoilt(faces: str, values: dict) -> str:
    if not values:
        return ""
    keys = [*map(str, values["severities"]), "mean"]
    rows = [[name, *(percent(by[key]["top1_accuracy"]) for key in keys)] for name, by in values["corruptions"].items()]
    head = "|".join(["spoilt by", *(f"severity {key}" for key in keys[:-1]), "mean"])
    words = (
        f"Top-1 on {faces} ({values['rows']:,}), spoilt on purpose; unspoilt {percent(values['clean']['top1_accuracy'])}, "
        f"mean over all below {percent(values['mean']['top1_accuracy'])}:"
    )
    return f"{words}\n\n{table(head, rows)}"


def files(found: Evidence) -> str:
    """Return how near each exported file comes to the PyTorch student on the validation split."""
    rows = []
    for name, own in found.written.items():
        shares = [percent(own["agreement"]), _share({"top1": own["accuracy"], "top1_ci": own["accuracy_ci"]}, "top1")]
        other = [f"{own['other_batch']:.1e}", f"{own['other_size']:.1e}" if own.get("other_sizes", 1) else "-"]
        form = FORMS.get(name[name.index(".") :], "-")
        rows.append(
            [f"`{found.names[name]}`", form, f"{own['bytes']:,}", *shares, f"{100 * own['difference']:+.2f}", *other]
        )
    head = "file|form|bytes|same answer as PyTorch|validation top-1 (95 %)|change, points|batch|size"
    refused = [f"- `{name}` was refused: {sentence}" for name, sentence in found.parity["refused"].items()]
    return "\n".join([table(head, rows), *([""] if refused else []), *refused])


def cost(found: Evidence) -> str:
    """Return parameters, multiply-accumulates, bytes and, where they were timed, milliseconds."""
    student, env = found.run.result["student"], found.run.env
    sizes = f"{student['num_parameters']:,} parameters, {compact(student['macs'])} multiply-accumulates per face, "
    sizes += f"{compact(student['bytes'], BYTES)} of float32 weights."
    if student.get("latency_ms") is None:
        return f"{sizes} Its speed was not measured in this run; `python -m distill.bench` times the files on your machine."
    many = (
        f", {student['images_per_second']:,.0f} faces/s in batches of {student['speed_batch']}"
        if "speed_batch" in student
        else ""
    )
    where = env.get("processor") or "a processor that is not recorded"
    return (
        f"{sizes} The network alone, float32 in PyTorch, on one thread of {where}: {student['latency_ms']:.2f} ms a face{many}. "
        "`python -m distill.bench` times the files on your machine."
    )


def hashes(found: Evidence) -> str:
    """Return the SHA-256 of the exported files as they were written, for sha256sum -c."""
    recorded = {name: value for own in found.written.values() for name, value in own["sha256"].items()}
    return "\n".join(f"{value}  {found.names[name]}" for name, value in recorded.items())
