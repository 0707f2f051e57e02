"""What a run says of its data, and what its training starts with and writes to, by the config."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import nn

from distill import build
from distill.config import schema as config
from distill.data.common.twins import told
from distill.evaluation.inference import PROBE, probe, refuse_other_answers
from distill.models.teacher import Teacher
from distill.runs.folder import RunFolder
from distill.system import distributed as parallel
from distill.system.console import TrainingProgress, console
from distill.system.files import digest
from distill.system.sync_batch import sync_batch_norm
from distill.system.weights import read_weights, save_weights
from distill.training.loggers import JsonLines, NoLines
from distill.types import Dataset, RunLogger

OF_BATCH_NORM = "Expected more than 1 value per channel when training"
FEW = 5  # training faces of a class; fewer are worth a warning


def weights_header(student: dict, data: Dataset) -> dict:
    """Return what the header of a run's weights says: classes, network, data and protocol."""
    network = {key: value for key, value in student.items() if key not in ("weights", *config.BESIDE_NETWORK)}
    return {"classes": list(data.classes), "network": network, "data": data.name, "protocol": data.protocol}


def keep_start(student: nn.Module, weights: str | None, folder: RunFolder, header: dict) -> dict:
    """Keep the weights as they are, of a teacher that is finished already; return what train does, best_epoch -1.

    Args:
        student: the network with its weights.
        weights: their file.
        folder: run folder; its best weights are written.
        header: of these.

    Raises:
        ValueError: no finished weights are there to keep, or the network answers otherwise than their file says.
    """
    if getattr(student, "start", None) != "weights":
        raise ValueError(
            "teacher.train.epochs=0 takes a finished teacher: give teacher.weights=FILE with its classifier."
        )
    metadata = read_weights(weights)[1]
    if PROBE in metadata:
        columns = [metadata["classes"].index(name) for name in header["classes"]]
        own = {PROBE: np.array(metadata[PROBE])[:, columns]}
        refuse_other_answers(student, own, Path(weights))
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
        for network in (student, teacher.network) if teacher and teacher.learns else (student,):
            sync_batch_norm(network)


@contextmanager
def training_output(who: str, epochs: int, folder: RunFolder, logger: RunLogger) -> Iterator[tuple]:
    """Yield what a training writes to: metrics.jsonl, (metrics, step) -> every logger, and the progress bar.

    Args:
        who: is trained.
        epochs: of the training.
        folder: its metrics.jsonl is continued.
        logger: mirrors the numbers.

    Raises:
        ValueError: in the words of the config where a batch is too small for BatchNorm.
    """
    lines = JsonLines(folder.metrics) if parallel.is_main() else NoLines()

    def log(metrics: dict, step: int) -> None:
        lines.log(metrics, step)
        logger.log(metrics, step)

    with TrainingProgress(who, epochs) as progress:
        try:
            yield lines, log, progress
        except ValueError as error:
            if not str(error).startswith(OF_BATCH_NORM):
                raise
            raise ValueError(
                f"train.batch_size: {who} normalizes maps of 1x1 (BatchNorm), for which it needs two "
                "faces a step. Give train.batch_size=2 or more (of a teacher, teacher.train.batch_size), or a larger size."
            ) from error
        finally:
            lines.finish({})


def tell(data: Dataset) -> None:
    """Say what a run must know of its data before it starts: what is left out, what its splits share, and few faces.

    Args:
        data: the packed data set of a run that is about to start.
    """
    for line in told(data):
        console.print(line)
    if data.extra is not None:
        console.print(
            f"data.extra: {len(data.extra):,} more training faces without labels, taught by the teacher alone"
        )
    if data.splits["train"].is_labelled:
        few_faces(data)


def few_faces(data: Dataset) -> None:
    """Warn in one line of classes without a face in a split, or with hardly any to learn from.

    Args:
        data: the packed data set of a run that is about to start.
    """
    counts = {name: np.bincount(split.label, minlength=len(data.classes)) for name, split in data.splits.items()}
    lacking = np.any([of_class == 0 for of_class in counts.values()], axis=0)
    few = np.flatnonzero(lacking | (counts["train"] < FEW))
    if not len(few):
        return
    told = (
        f"{data.classes[k]} ({', '.join(f'{name} {of_class[k]}' for name, of_class in counts.items())})" for k in few
    )
    console.print(
        f"*** FEW FACES of {', '.join(told)}. The mean-class accuracy of a split leaves out classes of which it has no face.",
        style="bold",
    )
