"""A finished run as what an export needs: its network, its validation faces, and the facts that go into every file."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from distill import build
from distill.config import schema as config
from distill.config.ranges import check_plugins
from distill.evaluation import inference as evaluate
from distill.evaluation.calibration import as_logits, fit_temperature
from distill.evaluation.cost import macs, num_parameters
from distill.export.runtimes import LIMITS
from distill.pipeline import completed as finished
from distill.runs import provenance
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system.files import sha256
from distill.system.typed import as_yaml
from distill.system.weights import load_weights, read_weights
from distill.types import Dataset

LICENCES = {"procedural": "drawn by fer-distill: MIT"}  # of data that do not bring theirs
UNKNOWN = "not known: see the data set's own terms"
TAKEN = ("data.root", "paths.store", "plugins")


class Finished(NamedTuple):
    """A finished run: its folder, config, result, network in eval mode, class names, and what its files divide logits by."""

    folder: Path
    cfg: dict
    result: RunResult
    student: nn.Module
    classes: tuple[str, ...]
    temperature: float = 1.0


def read_run(folder: Path, words: list[str]) -> Finished:
    """Return a finished run and its student, in eval mode.

    Args:
        folder: the run folder.
        words: KEY=VALUE where the data or the store have moved: data.root, paths.store, plugins.

    Raises:
        ValueError: no finished run, or another key.
    """
    weights = finished.weights(folder, f", or type best of {folder}")
    cfg = _with(config.written(folder), words)
    provenance.tell_changed(cfg, RunFolder(folder))
    tensors, metadata = read_weights(weights)
    if "classes" not in metadata:
        raise ValueError(f"{weights}: its header does not name the classes. Train this student again.")
    classes = tuple(metadata["classes"])
    student = finished.rebuild(cfg["student"], classes, cfg["plugins"], tensors)
    evaluate.refuse_other_answers(student, load_weights(student, weights, str(folder)), weights)
    return Finished(folder, cfg, RunResult.read(RunFolder(folder).result), student.eval(), classes)


def _with(cfg: dict, words: list[str]) -> dict:
    for word in words:
        key, equals, text = word.partition("=")
        if key not in TAKEN or not equals:
            raise ValueError(
                f"{word}: cannot be asked of an export. Type export.KEY=VALUE, or {', '.join(f'{k}=...' for k in TAKEN)}."
            )
        group, _, name = key.partition(".")
        cfg[group] = cfg[group] | {name: text} if name else as_yaml(group, text)
    check_plugins(cfg.setdefault("plugins", []))
    return cfg


def faces(run: Finished) -> Dataset:
    """Return the data that the run saw.

    Raises:
        ValueError: the data are gone, or they are not those that the run saw.
    """
    data = build.dataset(run.cfg, needed=("valid",))
    found, seen = build.fingerprint(data), run.result.data.get("fingerprint")
    if found != seen or data.classes != run.classes:
        raise ValueError(
            f"data: the faces that this config finds (fingerprint {found[:12]}) are not those that the run saw "
            f"({str(seen)[:12]}). Give the same data: data.root=DIR."
        )
    return data


def recorded(run: Finished, data: Dataset) -> np.ndarray:
    """Return the probabilities [N, K] of the validation faces that the run itself has written.

    Raises:
        ValueError: they are missing, damaged, or of other faces.
    """
    path = RunFolder(run.folder).predictions("valid")
    again = f"Delete {RunFolder(run.folder).result} and type the run's command again: it is measured anew."
    try:
        probabilities, _, ids = evaluate.read_predictions(path, run.classes)
    except ValueError as error:
        raise ValueError(f"{error}: an export is compared with it. {again}") from error
    if ids != tuple(data.splits["valid"].ids):
        raise ValueError(f"{path}: is of other faces than those that the run saw. {again}")
    return probabilities


def calibrated(run: Finished, recorded: np.ndarray, labels: np.ndarray) -> Finished:
    """Return the run with the temperature of its result.json; of one made before there was any, fitted on its predictions.

    Args:
        run: the finished run.
        recorded: [N, K] probabilities of the validation faces that it has written.
        labels: [N] of these faces.
    """
    known = (run.result.calibration or {}).get("temperature")
    return run._replace(temperature=fit_temperature(as_logits(recorded), labels) if known is None else float(known))


def facts(run: Finished, data: Dataset, accuracy: float, interval: tuple[float, float]) -> dict[str, str]:
    """Return name -> text of what a reader of a file should know; numbers and lists are JSON.

    Args:
        run: the finished run.
        data: its data.
        accuracy: of the PyTorch student on the validation faces, in [0, 1].
        interval: of the accuracy.
    """
    split, train, spec = data.splits["valid"], data.splits.get("train"), run.student.input
    faces = train and np.bincount(train.label, minlength=len(run.classes)).tolist()
    data = run.result.data
    known = {
        "classes": list(run.classes),
        "dataset": data["name"],
        "protocol": data["protocol"],
        "train_faces_per_class": faces,
        "valid_rows": len(split),
        "valid_top1_accuracy": accuracy,
        "valid_top1_accuracy_ci": list(interval),
        "temperature": run.temperature,
        "weights_sha256": sha256(RunFolder(run.folder).weights),
        "data_fingerprint": data.get("fingerprint"),
        "run": run.result.name or run.folder.name,
        "student": run.result.student["name"],
        "teacher": (run.result.teacher or {}).get("name"),
        "num_parameters": num_parameters(run.student),
        "macs": macs(run.student, spec),
        "network_input": {"size": spec.size, "channels": spec.channels, "mean": spec.mean, "std": spec.std},
        "picture": list(split.pixels.shape[2:]),
        "licence_of_the_data": data.get("notes", {}).get("licence") or LICENCES.get(data["name"], UNKNOWN),
        "licence_of_the_code": "MIT; weights carry what the data set and the teacher's start allow",
        "limits": f"{LIMITS} Measured on the named data set alone.",
        "made_by": "fer-distill",
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}
