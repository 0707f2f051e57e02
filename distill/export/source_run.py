"""A finished run as what an export needs: its network, its validation faces, and the facts that go into every file."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from distill import build
from distill.config.ranges import check_plugins
from distill.evaluation import inference
from distill.evaluation.cost import macs, num_parameters
from distill.export.runtimes import LIMITS
from distill.pipeline import completed
from distill.pipeline.elastic import as_cut
from distill.runs import provenance
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system.errors import ConfigError
from distill.system.files import sha256
from distill.system.typed import as_yaml
from distill.system.weights import load_weights, read_weights
from distill.types import Dataset

LICENSES = {"procedural": "drawn by fer-distill: MIT"}  # of data that do not bring theirs
UNKNOWN = "not known: see the data set's own terms"
TAKEN = ("data.root", "paths.store", "plugins")


class SourceRun(NamedTuple):
    """A finished run: its folder, config, result, network in eval mode, class names, and what its files divide logits by."""

    folder: Path
    cfg: RunConfig
    result: RunResult
    student: nn.Module
    classes: tuple[str, ...]
    temperature: float = 1.0


def read_run(folder: Path, words: list[str]) -> SourceRun:
    """Return a finished run and its student, in eval mode.

    Args:
        folder: the run folder.
        words: KEY=VALUE where the data or the store have moved: data.root, paths.store, plugins.

    Raises:
        ValueError: no finished run, or another key.
    """
    weights = completed.weights(folder, f", or type best of {folder}")
    cfg = RunConfig.read(RunFolder(folder).config)
    for word in words:
        key, equals, text = word.partition("=")
        if key not in TAKEN or not equals:
            raise ValueError(
                f"{word}: cannot be asked of an export. Type export.KEY=VALUE, or {', '.join(f'{k}=...' for k in TAKEN)}."
            )
        if key == "data.root":
            cfg.data["root"] = text
        elif key == "paths.store":
            cfg.paths.store = text
        else:
            cfg.plugins = as_yaml(key, text)
            check_plugins(cfg.plugins)
    provenance.warn_if_code_changed(RunFolder(folder))
    tensors, metadata = read_weights(weights)
    if "classes" not in metadata:
        raise ValueError(f"{weights}: its header does not name the classes. Train this student again.")
    classes = tuple(metadata["classes"])
    student = completed.rebuild(cfg.student, classes, cfg.plugins, tensors)
    inference.refuse_changed_network(student, load_weights(student, weights, str(folder)), weights)
    cfg.student, student = as_cut(cfg.student, student)
    return SourceRun(folder, cfg, RunResult.read(RunFolder(folder).result), student.eval(), classes)


def of_width(folder: Path, width: float | None) -> Path:
    """Return the run folder of the student of a width, of a run of several widths; without a width the run's own.

    Raises:
        ValueError: the run is not finished, or has no student of this width.
    """
    if width is None:
        return folder
    completed.weights(folder)
    rows = RunResult.read(RunFolder(folder).result).widths or []
    widths = [row["width"] for row in rows]
    if width not in widths:
        known = f"There are {', '.join(f'{one:g}' for one in widths)}." if widths else "It is a run of one width."
        raise ValueError(f"--width: {folder} has no student of width {width!r}. {known}")
    return folder if width == widths[0] else RunFolder(folder).width(width).path


def faces(run: SourceRun) -> Dataset:
    """Return the data that the run saw.

    Raises:
        ConfigError: the data are gone, or they are not those that the run saw.
    """
    data = build.dataset(run.cfg.data, run.cfg.paths.store, run.cfg.plugins, needed=("valid",))
    fingerprint, seen = build.fingerprint(data), run.result.data.get("fingerprint")
    if fingerprint != seen or data.classes != run.classes:
        raise ConfigError(
            "data",
            f"the faces that this config finds (fingerprint {fingerprint[:12]}) are not those that the run saw "
            f"({str(seen)[:12]}). Give the same data: data.root=DIR.",
        )
    return data


def recorded(run: SourceRun, data: Dataset, split: str = "valid") -> np.ndarray:
    """Return the probabilities [N, K] that the run itself has written of the faces of a split.

    Raises:
        ValueError: they are missing, damaged, or of other faces.
    """
    path = RunFolder(run.folder).predictions(split)
    probabilities, _, ids = inference.read_predictions(path, run.classes)
    if ids != tuple(data.splits[split].ids):
        raise ValueError(f"{path}: is of other faces than those that the run saw. Delete it. {inference.AGAIN}")
    return probabilities


def license_of(data: Dataset) -> str:
    """Return the license of a data set, in words."""
    return data.notes.get("license") or LICENSES.get(data.name, UNKNOWN)


def facts(run: SourceRun, data: Dataset, accuracy: tuple[float, tuple[float, float]] | None) -> dict[str, str]:
    """Return name -> text of what a reader of a file should know; numbers and lists are JSON.

    Args:
        run: the finished run.
        data: its data.
        accuracy: of the PyTorch student on the validation faces, in [0, 1], and its interval; None where they have no labels.
    """
    split, train, spec = data.splits["valid"], data.splits.get("train"), run.student.input
    faces = accuracy and train and np.bincount(train.label, minlength=len(run.classes)).tolist()
    agreement = run.result.student["metrics"].get("valid/agreement")
    measured = {"valid_agreement_with_the_teacher": agreement}
    if accuracy is not None:
        measured = {"valid_top1_accuracy": accuracy[0], "valid_top1_accuracy_ci": list(accuracy[1])}
    seen = run.result.data
    known = {
        "classes": list(run.classes),
        "dataset": seen["name"],
        "protocol": seen["protocol"],
        "train_faces_per_class": faces,
        "valid_rows": len(split),
        **measured,
        "temperature": run.temperature,
        "weights_sha256": sha256(RunFolder(run.folder).weights),
        "data_fingerprint": seen.get("fingerprint"),
        "run": run.result.name or run.folder.name,
        "student": run.result.student["name"],
        "teacher": (run.result.teacher or {}).get("name"),
        "num_parameters": num_parameters(run.student),
        "macs": macs(run.student, spec),
        "network_input": {"size": spec.size, "channels": spec.channels, "mean": spec.mean, "std": spec.std},
        "picture": list(split.pixels.shape[2:]),
        "license_of_the_data": license_of(data),
        "license_of_the_code": "MIT; weights carry what the data set and the teacher's start allow",
        "limits": f"{LIMITS} Measured on the named data set alone.",
        "made_by": "fer-distill",
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}
