"""The model card of an exported student: what it is, how it is used, how good it is, what it is not for."""

import json
from pathlib import Path

import yaml

from distill.export.card import tables
from distill.export.card import text as words
from distill.export.card.tables import SPLITS, Evidence
from distill.report.number_format import plain
from distill.report.predictions import of_run
from distill.runs.reading import Run, read
from distill.system.cli import to_export
from distill.system.files import atomic, sha256

NAME = "model-card.md"
ONNX = """\
import numpy, onnxruntime
from PIL import Image

classes = {classes}
face = numpy.asarray(Image.open("face.jpg").convert("RGB"))[None]  # uint8 [B, H, W, 3], of any size
logits, probabilities = onnxruntime.InferenceSession("{file}").run(["logits", "probabilities"], {{"image": face}})
print(dict(zip(classes, probabilities[0].tolist())))"""
TORCH = """\
import numpy, torch
from PIL import Image
from distill.export import export_module, load

student = load(".")  # this folder
face = torch.from_numpy(numpy.array(Image.open("face.jpg").convert("RGB"))[None])
print(dict(zip(student.classes, export_module.Deployed(student)(face)[1][0].tolist())))"""
TIMM = """\
import timm
network = timm.create_model("local-dir:.", pretrained=True).eval()  # takes what preparation leaves, float [B, C, S, S]"""


def write(folder: Path) -> Path:
    """Write RUN/export/model-card.md of an exported run, and return its path."""
    path = folder / "export" / NAME
    text = card(folder)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def card(folder: Path, names: dict[str, str] | None = None) -> str:
    """Return the model card of an exported run, in Markdown.

    Args:
        folder: the run folder.
        names: file of the export -> its name beside the card, of those that lie there; none means all, as they are called.

    Raises:
        ValueError: the run is not finished or not exported, or its predictions are damaged.
    """
    found = gather(folder, names)
    data, student = found.run.result["data"], found.run.result["student"]
    sections = {
        "Use": _use(found),
        "Results": _results(found),
        "Each class": _classes(found),
        "Calibration": _calibration(found),
        "Robustness": tables.robustness(found),
        "Exported files": _files(found),
        "Size and speed": tables.cost(found),
        "Training": words.training(found),
        "Intended use and limits": words.limits(found),
        "Licence": words.licence(found),
    }
    teacher = (found.run.result.get("teacher") or {}).get("name")
    sentence = (
        f"A network of {student['num_parameters']:,} parameters that gives the picture of one cropped face a probability for "
        f"each of {len(data['classes'])} expressions; learnt from {data['name']}"
        + (f", distilled from {teacher}." if teacher else " without a teacher.")
    )
    title = f"# {student['name']} on {data['name']}"
    warning = "**An expression on a face is not an emotion. Not for decisions about people.**"
    body = [f"## {heading}\n\n{text}" for heading, text in sections.items()]
    return "\n\n".join([f"---\n{_front(found)}---", title, sentence, warning, *body]) + "\n"


def exported(folder: Path) -> tuple[Run, dict, dict[str, str]]:
    """Return a finished run, its export/parity.json, and the SHA-256 of each exported file as it was written.

    Raises:
        ValueError: the run is not finished, not exported, or has learnt on since then.
    """
    run = read(folder)
    if run.status != "complete":
        raise ValueError(
            f"{folder}: no finished run is there ({run.error}). A run's own command, typed again, goes on with it."
            if folder.is_dir()
            else f"{folder}: no such folder."
        )
    again = to_export(folder)
    try:
        parity = json.loads((folder / "export" / "parity.json").read_text(encoding="utf-8"))
        passed = [own for name, own in parity["files"].items() if name not in parity["refused"]]
        recorded = {name: value for own in passed for name, value in own["sha256"].items()}
        weights = parity["facts"]["weights_sha256"]
    except FileNotFoundError:
        raise ValueError(f"{folder}: this run is not exported. {again}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder}/export/parity.json: damaged, or of an earlier version. {again}") from None
    best = folder / "checkpoints" / "best.safetensors"
    if best.is_file() and sha256(best) != weights:
        raise ValueError(f"{folder}: its weights are not those that were exported. {again}")
    return run, parity, recorded


def gather(folder: Path, names: dict[str, str] | None = None) -> Evidence:
    """Return what a card is written from.

    Args:
        folder: the run folder.
        names: names that the exported files have beside the card; None for their own.

    Raises:
        ValueError: the run is not finished or not exported, or its predictions are damaged or of another run.
    """
    run, parity, recorded = exported(folder)
    answers = {split: of_run(run, split) for split in SPLITS}
    for split, own in answers.items():
        seen = float((own.probabilities.argmax(1) == own.labels).mean())
        said = run.result["student"]["metrics"].get(f"{split}/top1_accuracy", seen)
        if abs(seen - said) > 2 / len(own.labels) + 1e-3:  # rounding may turn the answer of a face or two
            raise ValueError(
                f"{folder}/predictions/{split}.csv: {seen:.2%} right, but result.json says {said:.2%}. One of them is of "
                "another run or damaged: bring back the run folder as it was."
            )
    measured = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "measured").glob("*.json"))]
    measured = [other for other in measured if other.get("weights") == parity["facts"]["weights_sha256"]]
    return Evidence(run, parity, answers, measured, {name: name for name in recorded} if names is None else names)


def _front(found: Evidence) -> str:
    result, metrics = found.run.result, found.run.result["student"]["metrics"]
    data, timm = result["data"], _is_timm(found)
    wanted = {
        "top1_accuracy": ("accuracy", "top-1 accuracy"),
        "mean_class_accuracy": ("balanced_accuracy", "mean-class accuracy"),
        "expected_calibration_error": ("ece", "expected calibration error"),
        "nll": ("nll", "negative log-likelihood, nats"),
    }
    results = []
    for split in SPLITS:
        numbers = {key: metrics.get(f"{split}/{key}") for key in wanted}
        own = [{"type": wanted[k][0], "name": wanted[k][1], "value": v} for k, v in numbers.items() if v is not None]
        where = {"name": data["name"], "type": data["name"], "config": data["protocol"], "split": split}
        task = {"type": "image-classification", "name": "facial expression recognition"}
        results.append({"task": task, "dataset": where, "metrics": own})
    tags = ["facial-expression-recognition", *(["knowledge-distillation"] if result.get("teacher") else [])]
    tags += ["onnx"] if any(name.endswith(".onnx") for name in found.written) else []
    front = {
        "license": "other",
        "license_name": "see-the-section-licence",
        "library_name": "timm" if timm else "fer-distill",
        "pipeline_tag": "image-classification",
        "tags": tags,
        "datasets": [data["name"]],
        "metrics": ["accuracy", "balanced_accuracy"],
        "model-index": [{"name": result["name"], "results": results}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)


def _is_timm(found: Evidence) -> bool:
    config = found.run.folder / "export" / "config.json"
    return config.is_file() and "architecture" in json.loads(config.read_text(encoding="utf-8"))


def _use(found: Evidence) -> str:
    facts, classes = found.parity["facts"], found.run.result["data"]["classes"]
    spec, parts = json.loads(facts["network_input"]), []
    onnx = next((name for name in ("student.onnx", "student.int8.onnx") if name in found.written), None)
    if onnx:
        code = ONNX.format(classes=json.dumps(classes, ensure_ascii=False), file=found.names[onnx])
        parts.append(f"In this folder, after `pip install onnxruntime pillow`:\n\n```python\n{code}\n```")
    if "student.safetensors" in found.written:
        parts.append(
            f"{'or w' if onnx else 'W'}ith PyTorch, where fer-distill is installed:\n\n```python\n{TORCH}\n```"
        )
    if _is_timm(found):
        parts.append(f"or the bare network with timm alone:\n\n```python\n{TIMM}\n```")
    height, width = json.loads(facts["picture"])
    parts.append(
        "One face fills the picture, cropped as the data set crops it "
        f"(its pictures were stored at {height} x {width} pixels); finding the face is not a part of this network, and what a "
        "looser crop costs was not measured. Preparation is inside: averaging over whole blocks, bilinear interpolation to "
        f"{spec['size']} x {spec['size']}, {'grey' if spec['channels'] == 1 else 'RGB'}, (pixels / 255 - mean) / std with mean "
        f"{plain(spec['mean'])} and std {plain(spec['std'])}."
    )
    parts.append("Order of the classes: " + ", ".join(f"{k} {name}" for k, name in enumerate(found.classes)) + ".")
    return "\n\n".join(parts)


def _results(found: Evidence) -> str:
    result, facts = found.run.result, found.parity["facts"]
    counts = ", ".join(f"{n:,} {SPLITS.get(name, name)}" for name, n in result["data"]["rows"].items())
    exact = tables.percent(float(facts["valid_top1_accuracy"]))
    return (
        f"Protocol: {result['data']['name']}, {result['data']['protocol']}; faces: {counts}. The epoch was chosen by "
        f"{result['select']}, test was read once afterwards. **One run, seed {result['seed']}, n = 1**: intervals of top-1 are "
        "bootstraps over faces, those of mean-class accuracy are made of the classes' Wilson intervals; the spread over seeds is "
        "not known.\n\n"
        f"{tables.results(found)}\n\n"
        f"Evaluated by the run: views {result.get('eval', {}).get('views', 'plain')}, precision "
        f"{found.run.config['train'].get('precision', 'not recorded')} (auto is bfloat16 where the processor has it); in float32 "
        f"the PyTorch student has {exact} on validation."
    )


def _classes(found: Evidence) -> str:
    warnings = [f"**{sentence}**" for sentence in tables.weak_classes(found)]
    shown = [f"On {name}:\n\n{tables.per_class(found, split)}" for split, name in reversed(SPLITS.items())]
    note = "Intervals are Wilson's, over the faces that are of the class or are called so."
    return "\n\n".join([*warnings, *shown, note])


def _calibration(found: Evidence) -> str:
    return (
        "The probabilities are the softmax of the logits as they are: no temperature was fitted after training. ECE (15 bins "
        f"of equal width) and NLL are in the table of results. {tables.calibration(found)}"
    )


def _files(found: Evidence) -> str:
    tuned = found.parity.get("options", {}).get("int8") == "qat" and "student.int8.onnx" in found.written
    other = tuned and (
        f" `{found.names['student.int8.onnx']}` has weights of its own: they were fine-tuned with the rounding in place, on the "
        "training faces, taught by the unrounded student."
    )
    return (
        "Each file was run on the whole validation split, none on test; the last columns are the largest change of a "
        f"probability at another batch size and at another picture size.{other or ''}\n\n{tables.files(found)}\n\n"
        f"```\n{tables.hashes(found)}\n```"
    )
