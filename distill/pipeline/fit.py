"""From a config's numbers to the training loop."""

from pathlib import Path

import numpy as np
import torch

from distill import build
from distill.config import schema as config
from distill.data.common.twins import told
from distill.evaluation.inference import PROBE, probe
from distill.system import distributed as parallel
from distill.system.console import TrainingProgress, console
from distill.system.files import digest, save_weights
from distill.system.hardware import pick_precision
from distill.system.sync_batch import sync_batch_norm
from distill.training.loggers import JsonLines, NoLines
from distill.training.loop import Learner, Settings, train
from distill.training.optim import Average
from distill.types import Dataset

OF_BATCH_NORM = "Expected more than 1 value per channel when training"
FEW = 5  # training faces of a class; fewer are worth a warning


def fit_student(
    cfg: dict, folder: Path, data: Dataset, student, objective, teacher, logger, device: torch.device
) -> dict:
    """Train, or keep the weights as they are where no epoch is asked for (a teacher that is finished already).

    Args:
        cfg: the run's config.
        folder: run folder, see train.
        data: the packed data set.
        student: the network to train.
        objective: its losses, bound.
        teacher: Batch -> Outputs, or None.
        logger: has log(metrics, step), beside metrics.jsonl.
        device: where they are.

    Returns:
        What train returns; where no epoch is asked for, best_epoch is -1 and best is empty.

    Raises:
        ValueError: no epoch is asked for, and no finished weights are there to keep.
    """
    numbers = cfg["train"]
    network = {key: value for key, value in cfg["student"].items() if key not in ("weights", *config.BESIDE_NETWORK)}
    metadata = {"classes": list(data.classes), "network": network, "data": data.name, "protocol": data.protocol}
    if numbers["epochs"] == 0:
        if getattr(student, "start", None) != "weights":
            raise ValueError(
                "teacher.train.epochs=0 takes a finished teacher: give teacher.weights=FILE with its classifier."
            )
        if parallel.is_main():
            metadata |= {PROBE: probe(student)}
            save_weights(folder / "checkpoints" / "best.safetensors", student, metadata)
        parallel.barrier()
        return {"best_epoch": -1, "best": {}, "seconds": 0.0, "steps": 0, "resumed_at": 0}
    if parallel.world() > 1 and device.type == "cuda":  # SyncBatchNorm knows no CPU
        for network in (student, teacher.network) if getattr(teacher, "learns", False) else (student,):
            sync_batch_norm(network)
    recipe, view_seed, cached = build.recipe(cfg["views"])
    names = ("epochs", "batch_size", "select", "clip", "average", "log_every", "balance", "mixup")
    own = {key: numbers[key] for key in names}
    settings = Settings(
        **own,
        seed=cfg["seed"],
        view_seed=view_seed,
        cached_views=cached,
        precision=pick_precision(numbers["precision"], device),
        save_every=cfg["checkpoint"]["every_steps"],
        phases=build.phases(cfg),
    )
    average = Average(student, numbers["average"]) if numbers["average"] else None
    optimizer = build.optimiser(cfg, [student, objective])
    shapes = {name: list(value.shape) for name, value in student.state_dict().items()}
    who = f"{config.label(cfg['student'])}-{digest([shapes, build.fingerprint(data)])[:12]}"
    learner = Learner(student, objective, optimizer, build.schedule(cfg), average, who)
    lines = JsonLines(folder / "metrics.jsonl") if parallel.is_main() else NoLines()

    def log(metrics: dict, step: int) -> None:
        lines.log(metrics, step)
        logger.log(metrics, step)

    with TrainingProgress(config.label(cfg["student"]), numbers["epochs"]) as progress:
        try:
            return train(learner, teacher, data, recipe, settings, folder, lines, log, progress, metadata)
        except ValueError as error:
            if not str(error).startswith(OF_BATCH_NORM):
                raise
            raise ValueError(
                f"train.batch_size: {config.label(cfg['student'])} normalizes maps of 1x1 (BatchNorm), for which it needs two "
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
