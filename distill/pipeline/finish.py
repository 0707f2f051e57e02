"""What a finished run leaves behind: numbers, predictions, pictures and result.json's contents."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill import build
from distill.config import schema as config
from distill.data.extra import about_extra
from distill.evaluation import cka, figures, inference
from distill.evaluation.calibration import calibration
from distill.evaluation.cost import profile, speed
from distill.evaluation.metrics import confusion_matrix, evaluate_likeness, evaluate_predictions
from distill.evaluation.robustness import evaluate_robustness, write_robustness
from distill.models.elastic import cut
from distill.models.teacher import Teacher
from distill.pipeline import completed
from distill.pipeline.teacher import cost_of, start_of
from distill.runs.config import EvalConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.weights import load_weights
from distill.types import Dataset, RunLogger


def evaluate_run(
    wanted: EvalConfig, folder: RunFolder, data: Dataset, student, teacher: Teacher | None, precision: torch.dtype
) -> RunResult:
    """Evaluate the best weights, test once, write the predictions and return what was measured.

    Several processes share out the faces; the main one computes the numbers, and writes.

    Args:
        wanted: what to measure.
        folder: run folder with the best weights.
        data: the packed data set.
        student: the network that was trained.
        teacher: its teacher, or None.
        precision: of the student's forward pass.

    Raises:
        ValueError: the best weights are gone or damaged.
    """
    parallel.barrier()  # the best weights are on the disk
    weights = completed.best_weights(folder.path)
    inference.refuse_changed_network(student, load_weights(student, weights, "best"), weights)
    inference.refuse_answers_by_batch(student, data.splits["valid"])
    student = cut(student)  # of several widths the first
    metrics, teacher_metrics, calibrated = measure(wanted, folder, data, student, teacher, precision)
    others = extra_test_splits(wanted, data, student, precision)
    corrupted = robustness(wanted, data, student, precision, folder.robustness)
    if corrupted and parallel.is_main():
        figures.robustness(corrupted, folder.figure("robustness"))
    similarity = parallel.broadcast_from_main(
        lambda: layer_similarity(wanted, folder, data, student, teacher, precision)
    )
    images = parallel.total(teacher.forward_images) if teacher else 0
    return parallel.broadcast_from_main(
        lambda: RunResult(
            status="complete",
            name=folder.name,
            folder=str(folder),
            data=data_facts(data),
            eval=vars(wanted),
            student={"metrics": metrics, **profile(student, student.input), **speed(student, student.input)},
            calibration=calibrated,
            extra_test_splits=others,
            robustness=corrupted,
            cka=similarity,
            teacher=teacher and {"metrics": teacher_metrics},
            start=getattr(student, "start", None),
            teacher_forward_images=images,
        )
    )


def data_facts(data: Dataset) -> dict:
    """Return what a reader needs to know which pictures and labels were seen."""
    return {
        "name": data.name,
        "protocol": data.protocol,
        "fingerprint": build.fingerprint(data),
        "classes": list(data.classes),
        "rows": {name: len(split) for name, split in data.splits.items()},
        "notes": data.notes,
        "extra": about_extra(data),
    }


def measure(
    wanted: EvalConfig, folder: RunFolder, data: Dataset, student, teacher, precision: torch.dtype
) -> tuple[dict, dict, dict]:
    """Return the student's and the teacher's metrics on valid and test, and the student's calibration; write predictions/.

    The calibration is of faces as packed, whatever eval.tta is: so an exported file sees them. Without labels there is none, and
    the metrics say how near the student comes to the teacher.
    """
    metrics, teacher_metrics, plain = dict[str, Any](), dict[str, Any](), {}
    device = next(student.parameters()).device
    for name in ("valid", "test"):
        split = data.splits[name]
        logits = inference.student_logits(student, split, wanted.tta, precision)
        as_packed = logits if wanted.tta == "plain" else inference.student_logits(student, split, "plain", precision)
        teacher_logits = None if teacher is None else inference.teacher_logits(teacher, split, device, wanted.tta)
        if not parallel.is_main():
            continue
        if split.is_labeled:
            numbers = evaluate_predictions(logits, split.label, data.classes, teacher_logits=teacher_logits)
        else:
            numbers = {} if teacher_logits is None else evaluate_likeness(logits, teacher_logits)
        metrics |= {f"{name}/{key}": value for key, value in numbers.items()}
        inference.write_predictions(folder.predictions(name), split, data.classes, logits, teacher_logits)
        if not split.is_labeled:
            continue
        plain[name] = (as_packed, split.label)
        if teacher_logits is not None:
            teacher_metrics |= {
                f"{name}/{k}": v for k, v in evaluate_predictions(teacher_logits, split.label, data.classes).items()
            }
    return metrics, teacher_metrics, calibration(plain) if plain else {}


def extra_test_splits(wanted: EvalConfig, data: Dataset, student, precision: torch.dtype) -> dict[str, dict]:
    """Return the student's metrics on the other selections of the test pictures; each picture is looked at once."""
    if not data.extra_test_splits or not data.splits["test"].is_labeled:
        return {}
    rows = np.unique(np.concatenate([split.rows for split in data.extra_test_splits.values()]))
    n = len(rows)  # labels, targets and names are no matter of prediction
    blank = {"target": np.zeros((n, len(data.classes)), np.float32), "label": np.zeros(n, np.int64), "ids": ("",) * n}
    union = replace(data.splits["test"], rows=rows, **blank)
    logits = inference.student_logits(student, union, wanted.tta, precision)
    by_split = {}
    for name, split in data.extra_test_splits.items():
        of_split = logits[np.searchsorted(rows, split.rows)]
        by_split[name] = {"rows": len(split), **evaluate_predictions(of_split, split.label, data.classes)}
    return by_split


def robustness(wanted: EvalConfig, data: Dataset, student, precision: torch.dtype, table: Path) -> dict:
    """Return the student's accuracy on corrupted test faces, and write the table of it."""
    if not wanted.robustness:
        return {}
    faces, kinds = data.splits["test"], (wanted.robustness, wanted.severities)
    result = evaluate_robustness(student, faces, data.classes, *kinds, precision, tta=wanted.tta)
    if parallel.is_main():
        write_robustness(table, result)
    return result


def layer_similarity(
    wanted: EvalConfig, folder: RunFolder, data: Dataset, student, teacher, precision: torch.dtype
) -> dict:
    """Return the linear CKA of the student's and the teacher's layers on validation pictures, and draw it."""
    if not wanted.cka or teacher is None:
        return {}
    similarities = cka.compare(student, teacher, data.splits["valid"], precision)
    if similarities:
        figures.similarity(similarities, folder.figure("cka"))
    return similarities


def teacher_facts(
    node: dict, plugins: list[str], teacher: Teacher, data: Dataset, teacher_weight_files: list[Path]
) -> dict:
    """Return the teacher's line of the table beside its metrics: its name, its start, and the size of its networks together.

    Of finished runs it says whether all of them saw this data, in these splits (saw_same_data).

    Args:
        node: the key teacher.
        plugins: packages that a published network may be from.
        teacher: made of it.
        data: the packed data set.
        teacher_weight_files: the weight file of each of its networks; none of a peer.
    """
    costs = [cost_of(weights, plugins) for weights in teacher_weight_files]
    if not costs:
        network = teacher.live_teacher().network
        costs = [profile(network, network.input) | speed(network, network.input)]
    sizes = {key: sum(cost[key] for cost in costs) for key in ("num_parameters", "macs", "bytes")}
    rates = [cost["images_per_second"] for cost in costs if cost.get("images_per_second")]
    sizes |= {"images_per_second": 1 / sum(1 / rate for rate in rates)} if len(rates) == len(costs) else {}
    facts = {"name": config.label(node), **sizes, "start": [start_of(weights) for weights in teacher_weight_files]}
    facts["weights"] = [str(weights) for weights in teacher_weight_files]
    if runs := [Path(member["run"]) for member in build.members(node) if "run" in member]:
        facts["saw_same_data"] = all(completed.data_fingerprint(run) == build.fingerprint(data) for run in runs)
    return facts


def summary_of(result: RunResult) -> dict:
    """Return what a tracker keeps of a run: the numbers of the chosen epoch, not of the last, and the rest of the result."""
    student = {key: value for key, value in result.student.items() if key != "metrics"}
    return result.student["metrics"] | result.to_dict() | {"student": student}


def log_artifacts(logger: RunLogger, folder: RunFolder, data: Dataset, result: RunResult) -> None:
    """Draw the pictures of a finished run and hand them, with the best weights, to the logger."""
    split, classes = data.splits["test"], list(data.classes)
    if split.is_labeled:
        probabilities, labels, _ = inference.read_predictions(folder.predictions("test"), classes)
        matrix = folder.figure("confusion_matrix")
        figures.confusion_matrix(confusion_matrix(probabilities, labels), classes, matrix)
        logger.confusion_matrix(labels, probabilities.argmax(1), classes, matrix)
        pictures = {name: folder.figure(name) for name in ("sample_predictions", *(["cka"] if result.cka else []))}
        faces = split.pixels[split.rows]
        figures.sample_predictions(faces, labels, probabilities, classes, pictures["sample_predictions"])
        logger.images(pictures)
    logger.artifact(folder.weights, f"{result.student['name']}-{folder.name[-8:]}")
