"""What comes before a training: what a run says of its data, how long it trains, what it starts with and writes to."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from distill import build
from distill.config import schema as config
from distill.config.naming import default_of
from distill.data.common.twins import start_messages
from distill.data.loader import steps_per_epoch
from distill.evaluation.calibration import FEW_VALID
from distill.evaluation.inference import PROBE, probe, refuse_changed_network
from distill.evaluation.tables import count
from distill.models.teacher import Teacher
from distill.runs.config import TrainConfig
from distill.runs.folder import RunFolder
from distill.system import distributed as parallel
from distill.system.console import TrainingProgress, console
from distill.system.errors import ConfigError
from distill.system.files import digest
from distill.system.sync_batch import sync_batch_norm
from distill.system.weights import WITHOUT_CLASSIFIER, read_weights, save_weights
from distill.training.loggers import JsonLines, NoLines
from distill.training.loop import TrainOutput
from distill.types import Dataset, RunLogger

OF_BATCH_NORM = "Expected more than 1 value per channel when training"
BLOCK = 4096  # pictures looked at together
RARE = 5  # training faces of a class; fewer are worth a warning
MIN_STEPS = 1000  # see conf/train/default.yaml


def weights_header(student: dict, data: Dataset) -> dict:
    """Return what the header of a run's weights says: classes, network, data and protocol."""
    network = {key: value for key, value in student.items() if key not in ("weights", *config.BESIDE_NETWORK)}
    return {"classes": list(data.classes), "network": network, "data": data.name, "protocol": data.protocol}


def tell_start(network: nn.Module, node: dict, classes: tuple[str, ...]) -> None:
    """Say that a network which starts from a weight file gets a new classifier, where it does.

    Args:
        network: that is about to be trained.
        node: its keys in the config.
        classes: of the data.
    """
    if getattr(network, "start", None) == WITHOUT_CLASSIFIER:
        known = read_weights(node["weights"])[1].get("classes")
        of = f"knows {', '.join(map(str, known))}" if known else f"has no classifier of {len(classes)} classes"
        name, file = config.label(node), node["weights"]
        console.print(f"{name}: {file} {of}; the classifier starts anew, for {', '.join(classes)}")


def keep_start(student: nn.Module, weights: str | None, folder: RunFolder, header: dict) -> dict:
    """Keep the weights as they are, of a teacher that is finished already; return what train does, best_epoch -1.

    Args:
        student: the network with its weights.
        weights: their file.
        folder: run folder; its best weights are written.
        header: of these.

    Raises:
        ConfigError: the network answers otherwise than the file of its weights says.
        ValueError: no finished weights are there to keep.
    """
    if getattr(student, "start", None) != "weights":
        raise ValueError(
            "teacher.train.epochs=0 takes a finished teacher: give teacher.weights=FILE with its classifier."
        )
    metadata = read_weights(weights)[1]
    if PROBE in metadata:
        columns = [metadata["classes"].index(name) for name in header["classes"]]
        expected = {PROBE: np.array(metadata[PROBE])[:, columns]}
        refuse_changed_network(student, expected, Path(weights))
    if parallel.is_main():
        save_weights(folder.weights, student, header | {PROBE: probe(student)})
    parallel.barrier()
    return {"best_epoch": -1, "best": {}, "seconds": 0.0, "steps": 0, "resumed_at": 0}


def state_id(name: str, student: nn.Module, data: Dataset) -> str:
    """Return what a checkpoint is told by: the student's name, and a digest of its shapes and of the data."""
    shapes = {name: list(value.shape) for name, value in student.state_dict().items()}
    return f"{name}-{digest([shapes, build.fingerprint(data)])[:12]}"


def share_batch_norm(student: nn.Module, teacher: Teacher | None) -> None:
    """Let BatchNorm of what learns see the faces of all processes; SyncBatchNorm knows no CPU."""
    if parallel.world() > 1 and next(student.parameters()).device.type == "cuda":
        for network in (student, teacher.live_teacher().network) if teacher and teacher.learns else (student,):
            sync_batch_norm(network)


@contextmanager
def training_output(who: str, epochs: int, folder: RunFolder, logger: RunLogger) -> Iterator[TrainOutput]:
    """Yield what a training writes to.

    Args:
        who: is trained.
        epochs: of the training.
        folder: its metrics.jsonl is continued.
        logger: mirrors the numbers.

    Raises:
        ConfigError: in the words of the config where a batch is too small for BatchNorm.
    """
    lines = JsonLines(folder.metrics) if parallel.is_main() else NoLines()

    def log(metrics: dict, step: int) -> None:
        lines.log(metrics, step)
        logger.log(metrics, step)

    with TrainingProgress(who, epochs) as progress:
        try:
            yield TrainOutput(lines, log, progress)
        except ValueError as error:
            if not str(error).startswith(OF_BATCH_NORM):
                raise
            raise ConfigError(
                "train.batch_size",
                f"{who} normalizes maps of 1x1 (BatchNorm), for which it needs two "
                "faces a step. Give train.batch_size=2 or more (of a teacher, teacher.train.batch_size), or a larger size.",
            ) from error
        finally:
            lines.finish({})


def least_steps(train: TrainConfig) -> int:
    """Return for how many steps a network is trained at least, by the keys under train."""
    if train.min_steps is not None:
        return train.min_steps
    return MIN_STEPS if train.epochs == default_of("train", "epochs") else 0


def enough_epochs(train: TrainConfig, faces: int) -> int:
    """Return for how many epochs a network is trained: train.epochs, or as many more as train.min_steps takes of few faces.

    Args:
        train: the keys under train.
        faces: of the training split.
    """
    if not train.epochs:  # a finished teacher
        return 0
    return max(train.epochs, math.ceil(least_steps(train) / steps_per_epoch(faces, train.batch_size)))


def with_enough_epochs(
    train: TrainConfig, name: str, faces: int, in_phases: bool, views: int, warmup: float = 0
) -> TrainConfig:
    """Return how a student is trained, with as many epochs as it needs, and say what is trained on what, and for how long.

    Args:
        train: the keys under train.
        name: of the student.
        faces: of the training split.
        in_phases: phases have epochs of their own, of which there are not more.
        views: of each face; 0 is a new one every epoch.
        warmup: epochs of the schedule.
    """
    epochs = train.epochs if in_phases else enough_epochs(train, faces)
    steps = steps_per_epoch(faces, train.batch_size)
    if epochs:
        few = f"; few faces are seen more often than train.epochs={train.epochs} times, see train.min_steps"
        console.print(
            f"{name}: {count(faces, 'training face')} in batches of {train.batch_size}: {count(steps, 'step')} "
            f"an epoch, {count(epochs, 'epoch')}, {count(epochs * steps, 'step')}, "
            f"{count(views, 'view') + ' of each face' if views else 'a new view of each face every epoch'}"
            f"{few if epochs > train.epochs else ''}"
        )
        if warmup > epochs:
            warning = f"*** schedule.warmup={warmup:g} is longer than {count(epochs, 'epoch')}: optimizer.lr is never reached."
            console.print(f"{warning} Give a smaller one.", style="bold")
    return replace(train, epochs=epochs, min_steps=least_steps(train))


def tell(data: Dataset) -> None:
    """Say what a run must know of its data before it starts: what is left out, what its splits share, blank and few faces.

    Args:
        data: the packed data set of a run that is about to start.
    """
    for line in start_messages(data):
        console.print(line)
    counts = [f"{len(split):,} {name}" for name, split in data.splits.items()]
    console.print(f"{data.name}: {', '.join(counts)} faces of {len(data.classes)} classes: {', '.join(data.classes)}")
    warn_blank(data)
    if not data.splits["train"].is_labeled:
        return
    warn_rare_classes(data)
    if (faces := len(data.splits["valid"])) < FEW_VALID:
        console.print(
            f"*** FEW VALIDATION FACES: {faces}. Each is {100 / faces:.1f} points of valid top-1, by which the best epoch is chosen: "
            "differences of a few faces are chance. Collect more, or hold out more of train.",
            style="bold",
        )


def warn_blank(data: Dataset) -> None:
    """Warn in one line of pictures of one color: a single pixel that was enlarged, a layer that is transparent, a broken copy.

    Args:
        data: the packed data set of a run that is about to start.
    """
    blank = []
    for name, split in data.splits.items():
        for first in range(0, len(split), BLOCK):
            pixels = split.pixels[split.rows[first : first + BLOCK]]
            flat = np.ptp(pixels.reshape(len(pixels), -1), axis=1) == 0
            blank += [f"{name} {split.ids[first + k]}" for k in np.flatnonzero(flat)]
    if blank:
        named = ", ".join(blank[:3]) + (f" and {len(blank) - 3:,} more" if len(blank) > 3 else "")
        console.print(
            f"*** BLANK PICTURES: {count(len(blank), 'face')} of one color, {named}. There is nothing to learn from them. "
            "Delete them, or copy them again.",
            style="bold",
        )


def warn_rare_classes(data: Dataset) -> None:
    """Warn in one line of classes without a face in a split, or with fewer than RARE in train.

    Args:
        data: the packed data set of a run that is about to start.
    """
    counts = {name: np.bincount(split.label, minlength=len(data.classes)) for name, split in data.splits.items()}
    lacking = np.any([of_class == 0 for of_class in counts.values()], axis=0)
    few = np.flatnonzero(lacking | (counts["train"] < RARE))
    if not len(few):
        return
    rare = (
        f"{data.classes[k]} ({', '.join(f'{name} {of_class[k]}' for name, of_class in counts.items())})" for k in few
    )
    console.print(
        f"*** Warning: few training samples for class {', '.join(rare)}. "
        "The mean-class accuracy of a split leaves out classes of which it has no face.",
        style="bold",
    )
