"""Where the weights of a run's teacher come from: the store, its own fine-tuning, or a finished run."""

from collections.abc import Callable
from pathlib import Path

from distill import build
from distill.config import schema as config
from distill.pipeline import completed as finished
from distill.pipeline.reuse import refuse_other_teacher
from distill.runs.folder import RunFolder
from distill.runs.provenance import tell_changed
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.files import digest
from distill.types import Dataset
from teachers.peer import is_peer
from teachers.store import find_or_train


def teacher_weights(cfg: dict, data: Dataset, train: Callable[[dict, RunFolder], object]) -> list[Path]:
    """Return the weight file of the teacher, or of each member of an ensemble; none without one, and of a peer.

    Args:
        cfg: the run's config.
        data: the packed data set.
        train: fine-tunes a teacher by its config, in its run folder.

    Raises:
        ValueError: a weight file that is not there, or no finished run.
    """
    node = cfg["teacher"]
    if node["_target_"] is None or is_peer(node):
        return []
    return [prepare_teacher(cfg, member, data, train) for member in build.members(node)]


def prepare_teacher(cfg: dict, member: dict, data: Dataset, train: Callable[[dict, RunFolder], object]) -> Path:
    """Return the weight file of one teacher, found in the store by its fingerprint or trained as a run of its own.

    Args:
        cfg: the run's config.
        member: the teacher's part of it, or that of a member of an ensemble.
        data: the packed data set.
        train: see teacher_weights.

    Raises:
        ValueError: a weight file that is not there, or no finished run.
    """
    if "run" in member:
        return _finished_run(member, data)
    inner = config.teacher_run(cfg, member)
    if (file := member.get("weights")) and not Path(file).expanduser().is_file():
        raise ValueError(f"teacher.weights: {file}: no such weight file. Give the path of a .safetensors file.")
    key = digest([config.learning(inner), build.fingerprint(data)])
    store = Path(cfg["paths"]["store"]).expanduser() / "teachers"
    folder = RunFolder(store / f"{config.label(member)}-{key[:12]}")
    refuse_other_teacher(inner, folder)
    found = parallel.broadcast_from_main(folder.is_complete)
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


def _finished_run(member: dict, data: Dataset) -> Path:
    """Return the weight file of a teacher that is a finished run, and say so if it saw other data than this run."""
    folder = Path(member["run"])
    console.print(f"teacher {config.label(member)}: the finished run {folder}")
    tell_changed(config.written(folder), RunFolder(folder))
    if finished.saw(folder) != build.fingerprint(data):
        console.print(
            "*** It learned from other pictures, labels or splits than this run: make sure that it saw no test face of this one.",
            style="bold",
        )
    return finished.weights(folder)


def start_of(weights: Path) -> str | None:
    """Return what a stored teacher's fine-tuning started from: pretrained, weights or scratch."""
    return RunResult.read(RunFolder.of_weights(weights).result).start


def cost_of(weights: Path) -> dict[str, int]:
    """Return what profile() said of a teacher when it was trained: its network is not made again to be counted."""
    return RunResult.read(RunFolder.of_weights(weights).result).student
