"""Where the weights of a run's teacher come from: the store, its own fine-tuning, or a finished run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from distill import build
from distill.config import schema as config
from distill.evaluation.cost import profile, speed
from distill.evaluation.printed import chance_warning
from distill.pipeline import completed
from distill.pipeline.prepare import enough_epochs, least_steps
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.runs.provenance import warn_if_code_changed
from distill.runs.published import published_weights
from distill.runs.result import RunResult
from distill.runs.result_schema import RESULT, unlike
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.errors import ConfigError
from distill.system.files import digest
from distill.system.processes import locked
from distill.system.weights import intact, read_weights
from distill.types import Dataset
from teachers.peer import is_peer


def check_classes(cfg: RunConfig, data: Dataset) -> None:
    """Refuse a teacher that learns nothing any more and does not know a class of the data.

    Raises:
        ConfigError: with the classes that it does not know.
    """
    for key, member in build.named_members(cfg.teacher).items():
        if "run" in member:
            file, key = completed.weights(Path(member["run"])), f"{key}.run"
            advice = (
                "a teacher that is fine-tuned, such as teacher=resnet50, or start a student of the same kind from this one: "
                f"student.weights={file}"
            )
        elif member.get("weights") and member["train"]["epochs"] == 0:
            file, key, advice = member["weights"], f"{key}.weights", f"{key}.train.epochs=10 to have it learn them"
        else:
            continue
        known = read_weights(file)[1].get("classes") or data.classes
        if unknown := [name for name in data.classes if name not in known]:
            raise ConfigError(
                key,
                f"{file} knows {', '.join(known)}; the classes of {data.name} are {', '.join(data.classes)}. Without fine-tuning "
                f"it teaches no {', '.join(unknown)}. Choose {advice}; or leave such faces out.",
            )


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
    files = []
    for member in build.members(cfg.teacher):
        if "run" in member:
            files.append(_finished_run(member, data))
            continue
        inner = config.teacher_run(cfg, member)
        as_run = replace(inner.train, min_steps=least_steps(cfg.train))
        # of few faces its least number of steps, where it has none, is the run's
        if inner.train.min_steps is None and enough_epochs(as_run, len(data.splits["train"])) > as_run.epochs:
            inner = replace(inner, train=as_run)
        files.append(_stored(inner, member, data, train, trial=bool(cfg.debug)))
    return files


def _stored(
    inner: RunConfig, member: dict, data: Dataset, train: Callable[[RunConfig, RunFolder], object], trial: bool
) -> Path:
    """Return the weight file of one teacher, found in the store by its fingerprint or trained as a run of its own."""
    learning = config.learning(inner)
    key = digest([learning, build.fingerprint(data)])
    store = Path(inner.paths.store).expanduser() / "teachers"
    folder = RunFolder(store / f"{config.label(member)}-{key[:12]}")
    if folder.config.exists() and config.learning(RunConfig.read(folder.config)) != learning:
        raise ValueError(
            f"{folder}: holds a teacher of another recipe: a default has changed since it was trained. Delete the folder; the "
            "teacher is trained again."
        )
    complete = parallel.broadcast_from_main(folder.is_complete)
    start = member.get("weights") or "without weights"
    new = "is fine-tuned once, then found again," if inner.train.epochs else f"is {start}, kept"
    console.print(f"teacher {config.label(member)}: {'found' if complete else new} in {folder}")
    warn_if_code_changed(folder, "paths.store")
    weights = find_or_train(folder, lambda: train(inner, folder))
    result = _intact_result(folder)
    if not trial and (warning := chance_warning(result.data, "teacher", result.student)):
        console.print(warning, style="bold")
    if complete and start_of(weights) == "scratch" and member.get("pretrained", False) is None:
        console.print(
            "*** It was trained FROM SCRATCH, because its pretrained weights were out of reach then. "
            "teacher.pretrained=true trains it from them.",
            style="bold",
        )
    return weights


def _intact_result(folder: RunFolder) -> RunResult:
    """Return the result of a stored teacher, refusing one whose parts are not of the types that a run writes."""
    result = RunResult.read(folder.result)
    if unlike(vars(result), RESULT):
        raise ValueError(f"{folder.result}: is damaged. Delete the folder {folder}; the teacher is trained again.")
    return result


def find_or_train(folder: RunFolder, train: Callable[[], object]) -> Path:
    """Return the weights of a fine-tuned teacher, training it first where its run folder is not complete.

    Other processes that need the same teacher wait under the lock; a training that was killed goes on from its checkpoint.
    """
    if not parallel.broadcast_from_main(folder.is_complete):
        with parallel.only_main(locked(Path(f"{folder}.lock"))):
            if not parallel.broadcast_from_main(folder.is_complete):
                train()
    return intact(folder.weights, f"Delete the folder {folder}; it is trained again.")


def _finished_run(member: dict, data: Dataset) -> Path:
    """Return the weight file of a teacher that is a finished run, and say so if it saw other data than this run."""
    folder = Path(member["run"])
    what = "the published network" if published_weights(folder) else "the finished run"
    console.print(f"teacher {config.label(member)}: {what} {folder}")
    weights = completed.weights(folder)
    if not published_weights(folder):
        warn_if_code_changed(RunFolder(folder))
    if completed.data_fingerprint(folder) != build.fingerprint(data):
        console.print(
            "*** It learned from other pictures, labels or splits than this run: make sure that it saw no test face of this one.",
            style="bold",
        )
    return weights


def start_of(weights: Path) -> str | None:
    """Return what a stored teacher's fine-tuning started from: pretrained, weights or scratch."""
    if published_weights(weights.parent):
        return None
    return RunResult.read(RunFolder.of_weights(weights).result).start


def cost_of(weights: Path, plugins: Sequence[str]) -> dict:
    """Return what profile() and speed() say of a teacher, of a run what they said then: its network is not made again.

    Args:
        weights: its weight file.
        plugins: packages that a published network may be from.
    """
    if not published_weights(weights.parent):
        return RunResult.read(RunFolder.of_weights(weights).result).student
    tensors, metadata = read_weights(weights)
    network = completed.rebuild(metadata["network"], tuple(metadata["classes"]), plugins, tensors)
    return profile(network, network.input) | speed(network, network.input)
