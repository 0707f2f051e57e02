"""The teacher of a run: a finished run, or a network that is fine-tuned once and found again in the store."""

from collections.abc import Callable
from pathlib import Path

from distill import build
from distill.config import schema as config
from distill.pipeline import completed as finished
from distill.pipeline.finish import start_of
from distill.pipeline.reuse import refuse_other_teacher
from distill.runs.layout import is_complete
from distill.runs.provenance import tell_changed
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.files import digest
from distill.types import Dataset
from teachers.store import find_or_train


def prepare_teacher(cfg: dict, member: dict, data: Dataset, train: Callable[[dict, Path], dict]) -> Path:
    """Return the weight file of a fine-tuned teacher, found in the store by its fingerprint or trained by the same job.

    Args:
        cfg: the run's config.
        member: the teacher's part of it, or that of a member of an ensemble.
        data: the packed data set.
        train: config and run folder of a teacher's own run -> its result.json; does that run.

    Raises:
        ValueError: a weight file that is not there, or no finished run.
    """
    if "run" in member:
        return _finished_teacher(member, data)
    inner = config.teacher_run(cfg, member)
    if (file := member.get("weights")) and not Path(file).expanduser().is_file():
        raise ValueError(f"teacher.weights: {file}: no such weight file. Give the path of a .safetensors file.")
    key = digest([config.learning(inner), build.fingerprint(data)])
    folder = Path(cfg["paths"]["store"]).expanduser() / "teachers" / f"{config.label(member)}-{key[:12]}"
    refuse_other_teacher(inner, folder)
    found = parallel.broadcast_from_main(lambda: is_complete(folder))
    new = "is fine-tuned once, then found again," if member["train"]["epochs"] or not file else f"is {file}, kept"
    console.print(f"teacher {config.label(member)}: {'found' if found else new} in {folder}")
    tell_changed(inner, folder)
    weights = find_or_train(folder, lambda: train(inner, folder))
    if found and start_of(weights) == "scratch" and member.get("pretrained", False) is None:
        console.print(
            "*** It was trained FROM SCRATCH, because its pretrained weights were out of reach then. "
            "teacher.pretrained=true trains it from them.",
            style="bold",
        )
    return weights


def _finished_teacher(member: dict, data: Dataset) -> Path:
    """Return the weight file of a teacher that is a finished run, and say so if it saw other data than this run."""
    folder = Path(member["run"])
    console.print(f"teacher {config.label(member)}: the finished run {folder}")
    tell_changed(config.written(folder), folder)
    if finished.saw(folder) != build.fingerprint(data):
        console.print(
            "*** It learned from other pictures, labels or splits than this run: make sure that it saw no test face of this one.",
            style="bold",
        )
    return finished.weights(folder)
