"""What a finished run leaves behind: numbers, predictions, pictures and result.json's contents."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from distill import build
from distill.config import schema as config
from distill.data.common.test_subsets import asked_subsets
from distill.data.extra import about_extra
from distill.evaluation import cka, figures
from distill.evaluation import inference as evaluate
from distill.evaluation.calibration import calibration
from distill.evaluation.cost import profile, speed
from distill.evaluation.metrics import confusion_matrix, evaluate_predictions
from distill.evaluation.robustness import evaluate_robustness, write_robustness
from distill.models.teacher import Teacher
from distill.pipeline import completed as finished
from distill.pipeline.teacher import cost_of, start_of
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.hardware import pick_precision
from distill.system.weights import load_weights
from distill.types import Dataset, RunLogger


def evaluate_run(
    cfg: dict,
    folder: RunFolder,
    data: Dataset,
    student,
    teacher: Teacher | None,
    device,
    fit: dict,
    clock: dict,
    taught_by: list[Path],
) -> RunResult:
    """Evaluate the best weights, test once, write the predictions and return the result of the run.

    Several processes share out the faces; the main one computes the numbers, and writes.

    Args:
        cfg: the run's config.
        folder: run folder with the best weights.
        data: the packed data set.
        student: the network that was trained.
        teacher: its teacher, or None.
        device: where they are.
        fit: what train returned.
        clock: when the run started, had its teacher and was trained: start, teacher, train [s].
        taught_by: the weight files of the teachers.

    Raises:
        ValueError: the best weights are gone or damaged.
    """
    parallel.barrier()  # the best weights are on the disk
    weights = finished.best_weights(folder.path)
    evaluate.refuse_other_answers(student, load_weights(student, weights, "best"), weights)
    precision = pick_precision(cfg["train"]["precision"], device)
    metrics, taught, calibrated = measure(cfg["eval"], folder, data, student, teacher, device, precision)
    now = time.perf_counter()
    others = further(cfg["eval"], data, student, precision)
    spoilt = robustness(cfg["eval"], folder, data, student, precision)
    alike = parallel.broadcast_from_main(lambda: alignment(cfg["eval"], folder, data, student, teacher, precision))
    asked = parallel.total(teacher.forward_images) if teacher else 0
    return parallel.broadcast_from_main(
        lambda: RunResult(
            status="complete",
            name=folder.name,
            folder=str(folder),
            data=data_facts(data),
            eval=cfg["eval"],
            test_subset=asked_subsets(cfg["data"]),
            student={
                "name": config.label(cfg["student"]),
                "metrics": metrics,
                **profile(student, student.input),
                **speed(student, student.input),
            },
            calibration=calibrated,
            further=others,
            robustness=spoilt,
            cka=alike,
            teacher=teacher and teacher_facts(cfg, data, taught, taught_by),
            select=cfg["train"]["select"],
            epochs=cfg["train"]["epochs"],
            best_epoch=fit["best_epoch"],
            steps=fit["steps"],
            resumed_at_step=fit["resumed_at"],
            seed=cfg["seed"],
            start=getattr(student, "start", None),
            teacher_forward_images=asked,
            seconds={
                "teacher": clock["teacher"] - clock["start"],
                "train": fit["seconds"],
                "total": now - clock["start"] - (clock["train"] - clock["teacher"]) + fit["seconds"],
            },
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
    asked: dict, folder: RunFolder, data: Dataset, student, teacher, device: torch.device, precision: torch.dtype
) -> tuple[dict, dict, dict]:
    """Return the student's and the teacher's metrics on valid and test, and the student's calibration; write predictions/.

    The calibration is of faces as packed, whatever eval.views are: so an exported file sees them.
    """
    metrics, taught, plain = {}, {}, {}
    for name in ("valid", "test"):
        split = data.splits[name]
        logits = evaluate.answers(student, split, asked["views"], precision)
        as_packed = logits if asked["views"] == "plain" else evaluate.answers(student, split, "plain", precision)
        answers = None if teacher is None else evaluate.teacher_answers(teacher, split, device, asked["views"])
        if not parallel.is_main():
            continue
        own = evaluate_predictions(logits, split.label, data.classes, teacher_logits=answers)
        metrics |= {f"{name}/{key}": value for key, value in own.items()}
        plain[name] = (as_packed, split.label)
        if answers is not None:
            taught |= {f"{name}/{k}": v for k, v in evaluate_predictions(answers, split.label, data.classes).items()}
        evaluate.write_predictions(folder.predictions(name), split, data.classes, logits, answers)
    return metrics, taught, calibration(plain) if plain else {}


def further(asked: dict, data: Dataset, student, precision: torch.dtype) -> dict[str, dict]:
    """Return the student's metrics on the other selections of the test pictures; each picture is looked at once."""
    if not data.further:
        return {}
    rows = np.unique(np.concatenate([split.rows for split in data.further.values()]))
    logits = evaluate.answers(
        student, replace(data.splits["test"], rows=rows, **_blank(rows, data)), asked["views"], precision
    )
    found = {}
    for name, split in data.further.items():
        own = logits[np.searchsorted(rows, split.rows)]
        found[name] = {"rows": len(split), **evaluate_predictions(own, split.label, data.classes)}
    return found


def _blank(rows: np.ndarray, data: Dataset) -> dict:
    """Return the fields that prediction does not look at."""
    return {
        "target": np.zeros((len(rows), len(data.classes)), np.float32),
        "label": np.zeros(len(rows), np.int64),
        "ids": ("",) * len(rows),
    }


def robustness(asked: dict, folder: RunFolder, data: Dataset, student, precision: torch.dtype) -> dict:
    """Return the student's accuracy on corrupted test faces, and write robustness.csv and its curves."""
    if not asked["robustness"]:
        return {}
    found = evaluate_robustness(
        student,
        data.splits["test"],
        data.classes,
        asked["robustness"],
        asked["severities"],
        precision,
        views=asked["views"],
    )
    if parallel.is_main():
        write_robustness(folder.robustness, found)
        folder.figure("robustness").parent.mkdir(exist_ok=True)
        figures.robustness(found, folder.figure("robustness"))
    return found


def alignment(asked: dict, folder: RunFolder, data: Dataset, student, teacher, precision: torch.dtype) -> dict:
    """Return how alike the layers of student and teacher are on validation pictures, and draw it."""
    if not asked.get("cka") or teacher is None:
        return {}
    found = cka.compare(student, teacher, data.splits["valid"], precision)
    if found:
        cka.write(found, folder.figure("cka"))
    return found


def teacher_facts(cfg: dict, data: Dataset, metrics: dict, taught_by: list[Path]) -> dict:
    """Return the teacher's line of the table: its metrics on this data, and the size of its networks together.

    Of finished runs it says whether all of them saw this data, in these splits (saw_same_data).
    """
    node = cfg["teacher"]
    members = list(node["members"].values()) if "members" in node else [node]
    costs = [cost_of(weights, cfg["plugins"]) for weights in taught_by] or [cost_of_peer(cfg, data)]
    sizes = {key: sum(cost[key] for cost in costs) for key in ("num_parameters", "macs", "bytes")}
    rates = [cost.get("images_per_second") for cost in costs]
    sizes |= {"images_per_second": 1 / sum(1 / rate for rate in rates)} if all(rates) else {}
    starts = {"start": [start_of(weights) for weights in taught_by], "weights": [str(weights) for weights in taught_by]}
    runs = [Path(member["run"]) for member in members if "run" in member]
    seen = {"saw_same_data": all(finished.saw(run) == build.fingerprint(data) for run in runs)} if runs else {}
    return {"name": config.label(node), "metrics": metrics, **sizes, **starts, **seen}


def cost_of_peer(cfg: dict, data: Dataset) -> dict:
    """Return what profile() and speed() say of the peer's network, which has no run of its own."""
    network = build.bare_teacher(cfg, cfg["teacher"], data)
    return profile(network, network.input) | speed(network, network.input)


def summary_of(result: RunResult) -> dict:
    """Return what a tracker keeps of a run: the numbers of the chosen epoch, not of the last, and the rest of the result."""
    student = {key: value for key, value in result.student.items() if key != "metrics"}
    return result.student["metrics"] | result.to_dict() | {"student": student}


def log_artifacts(logger: RunLogger, folder: RunFolder, data: Dataset, result: RunResult) -> None:
    """Draw the pictures of a finished run and hand them, with the best weights, to the logger."""
    probabilities, labels, _ = evaluate.read_predictions(folder.predictions("test"), data.classes)
    split, classes = data.splits["test"], list(data.classes)
    names = ("confusion_matrix", "sample_predictions", *(["cka"] if result.cka else []))
    pictures = {name: folder.figure(name) for name in names}
    pictures["confusion_matrix"].parent.mkdir(exist_ok=True)
    figures.confusion_matrix(confusion_matrix(probabilities, labels), classes, pictures["confusion_matrix"])
    logger.confusion_matrix(labels, probabilities.argmax(1), classes, pictures.pop("confusion_matrix"))
    figures.sample_predictions(split.pixels[split.rows], labels, probabilities, classes, pictures["sample_predictions"])
    logger.images(pictures)
    logger.artifact(folder.weights, f"{result.student['name']}-{folder.name[-8:]}")
