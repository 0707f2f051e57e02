"""Where the weights of a run's teacher come from: the store, its own fine-tuning, or a finished run."""

from collections.abc import Callable
from pathlib import Path

from distill import build
from distill.config import schema as config
from distill.pipeline import completed as finished
from distill.pipeline.reuse import refuse_other_teacher
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.provenance import tell_changed
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.files import digest
from distill.types import Dataset
from teachers.peer import is_peer
from teachers.store import find_or_train


def teacher_weights(cfg: RunConfig, data: Dataset, train: Callable[[RunConfig, RunFolder], object]) -> list[Path]:
    """Return the weight file of the teacher, or of each member of an ensemble; none without one, and of a peer.

    Args:
        cfg: the run's config.
        data: the packed data set.
        train: fine-tunes a teacher by its config, in its run folder.

    Raises:
        ValueError: a weight file that is not there, or no finished run.
    """
    if cfg.teacher["_target_"] is None or is_peer(cfg.teacher):
        return []
    return [
        _finished_run(member, data)
        if "run" in member
        else prepare_teacher(config.teacher_run(cfg, member), member, data, train)
        for member in build.members(cfg.teacher)
    ]


def prepare_teacher(
    inner: RunConfig, member: dict, data: Dataset, train: Callable[[RunConfig, RunFolder], object]
) -> Path:
    """Return the weight file of one teacher, found in the store by its fingerprint or trained as a run of its own.

    Args:
        inner: the config of its fine-tuning.
        member: the key teacher, or that of a member of an ensemble.
        data: the packed data set.
        train: see teacher_weights.

    Raises:
        ValueError: a weight file that is not there.
    """
    if (file := member.get("weights")) and not Path(file).expanduser().is_file():
        raise ValueError(f"teacher.weights: {file}: no such weight file. Give the path of a .safetensors file.")
    key = digest([config.learning(inner), build.fingerprint(data)])
    store = Path(inner.paths.store).expanduser() / "teachers"
    folder = RunFolder(store / f"{config.label(member)}-{key[:12]}")
    refuse_other_teacher(inner, folder)
    found = parallel.broadcast_from_main(folder.is_complete)
    new = "is fine-tuned once, then found again," if inner.train.epochs or not file else f"is {file}, kept"
    console.print(f"teacher {config.label(member)}: {'found' if found else new} in {folder}")
    tell_changed(folder)
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
    tell_changed(RunFolder(folder))
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
