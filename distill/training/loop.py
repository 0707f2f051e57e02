"""The training loop and the step: a teacher is fine-tuned and a student distilled by the same ten lines of maths."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill.augment.views import ViewRecipe
from distill.data.loader import balanced_chances, batches, epoch_order, mixup, steps_per_epoch, to
from distill.evaluation.inference import PROBE, predict, probe, teacher_answers
from distill.evaluation.likeness import evaluate_likeness
from distill.evaluation.metrics import evaluate_predictions
from distill.losses.base.objective import Objective
from distill.models.teacher import Teacher
from distill.runs.config import TrainConfig, ViewsConfig
from distill.runs.folder import RunFolder
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.weights import save_weights
from distill.training.loggers import JsonLines, NoLines
from distill.training.meter import Ledger
from distill.training.optim import clip
from distill.training.resume import Standing
from distill.training.state import Learner, averaged
from distill.types import Batch, Dataset, MixedBatch, Progress


class Phase(NamedTuple):
    """A stretch of epochs with losses of its own; the learning-rate schedule and the optimiser start afresh in each.

    Args:
        start: its first epoch.
        epochs: their number.
        losses: the terms that count in it, None for all.
        lr: factor of the learning rate.
    """

    start: int
    epochs: int
    losses: tuple[str, ...] | None = None
    lr: float = 1.0


@dataclass(frozen=True)
class Settings:
    """The numbers of a training run.

    Args:
        train: the keys under train.
        views: the keys under views.
        seed: of the order of the pictures and of dropout.
        precision: dtype of the forward pass.
        save_every: steps between checkpoints within an epoch; 0 means at epochs' ends only.
        phases: stretches of epochs that make up the run; none is one phase of all epochs. The best epoch is one of the last.
    """

    train: TrainConfig
    views: ViewsConfig
    seed: int
    precision: torch.dtype
    save_every: int
    phases: tuple[Phase, ...] = ()

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch is in."""
        return next((p for p in reversed(self.phases) if p.start <= epoch), Phase(0, self.train.epochs))


def train_step(
    batch: Batch | MixedBatch,
    teacher: Teacher | None,
    learner: Learner,
    precision: torch.dtype,
    max_norm: float | None = None,
) -> dict[str, Tensor]:
    """Render, answer, compare, step.

    Args:
        batch: one mini-batch, the whole of it, on the student's device.
        teacher: Batch -> Outputs or None.
        learner: student, objective, optimiser and average.
        precision: dtype of the student's forward pass.
        max_norm: largest joint gradient norm.

    Returns:
        {name: scalar}: the total loss and each term, detached and not read back, so that no step waits for the device.

    Raises:
        ValueError: the student does not answer Outputs.
    """
    learner.optimizer.zero_grad(set_to_none=True)
    with parallel.watch_peers():
        total, terms = learner.loss(batch, teacher, precision)
        total.backward()
    clip([p for group in learner.optimizer.param_groups for p in group["params"]], max_norm)
    learner.optimizer.step()
    if learner.average:
        learner.average.update(learner.student)
    return {"loss": total.detach(), **terms}


def view_of(epoch: int, cached_views: int) -> int:
    """Return the view id of an epoch: 1, 2, ... and again from 1 after cached_views (0: never again)."""
    return 1 + (epoch % cached_views if cached_views else epoch)


def score(metrics: dict[str, float], select: str) -> float:
    """Return the selection metric, larger is better: -valid/nll is the negative of valid/nll.

    Raises:
        ValueError: it was not measured.
    """
    name = select.removeprefix("-")
    if name not in metrics:
        raise ValueError(f"train.select: {name} is not measured. Choose one of {', '.join(sorted(metrics))}.")
    return -metrics[name] if select.startswith("-") else metrics[name]


def train(
    learner: Learner,
    teacher: Teacher | None,
    data: Dataset,
    recipe: ViewRecipe,
    settings: Settings,
    folder: RunFolder,
    lines: JsonLines | NoLines,
    log: Callable[[dict, int], None],
    progress: Progress,
    metadata: dict,
) -> dict:
    """Train to the last epoch, or go on from the folder's last checkpoint, and keep the best epoch's weights.

    Args:
        learner: student, objective, optimiser, schedule and average.
        teacher: Batch -> Outputs or None, with open(split, view id, table, maps); epochs whose losses do not read it do without.
        data: train and valid splits are read; test is not.
        recipe: the ranges of augmentation.
        settings: the numbers of the run.
        folder: run folder; checkpoints/last.pt and checkpoints/best.safetensors are written in it.
        lines: metrics.jsonl, with position() and truncate().
        log: takes (metrics, step), writes to every logger.
        progress: shows how far it is.
        metadata: written into the best weights' header.

    Returns:
        {"best_epoch", "best_score", "best": {metric: value}, "seconds" (of all processes), "steps", "resumed_at"}.

    Raises:
        ValueError: batches too small for the processes, a checkpoint that is none, or no epoch with a metric to compare.
    """
    split, numbers = data.splits["train"], settings.train
    steps, ledger = steps_per_epoch(len(split), numbers.batch_size), Ledger(numbers.log_every)
    device, chances = next(learner.student.parameters()).device, balanced_chances(split.label, numbers.balance)
    refuse_idle_processes(len(split), numbers.batch_size)
    valid = data.splits["valid"]
    taught = None if valid.is_labelled or teacher is None else teacher_answers(teacher, valid, device)
    standing = Standing(folder.checkpoint, learner, ledger, lines)
    at = standing.at
    resumed_at = at["epoch"] * steps + at["step"]
    if 0 < resumed_at < numbers.epochs * steps:
        console.print(f"resuming from epoch {at['epoch'] + 1}, step {at['step']}")
    for epoch in range(at["epoch"], numbers.epochs):
        view = view_of(epoch, settings.views.cached)
        table = recipe.table(settings.views.seed, view, len(split.pixels))
        phase = settings.phase(epoch)
        learner.objective.at(epoch, phase.losses)
        asked = teacher_of(learner.objective, teacher)
        if asked is not None:
            asked.open("train", view, table, maps=learner.objective.reads("needs_features"))
        if epoch == phase.start > 0 and at["step"] == 0:
            learner.restart()
        order = epoch_order(settings.seed, epoch, len(split), chances)
        learner.student.train()
        start = at["step"]
        batch: Batch | MixedBatch
        for step, batch in enumerate(batches(split, table, numbers.batch_size, order, start), start):
            done = epoch * steps + step + 1
            now = epoch + step / steps
            factor = learner.schedule.apply(learner.optimizer, now - phase.start, phase.epochs, phase.lr)
            learner.objective.at(now, phase.losses)
            if numbers.mixup:
                batch = mixup(batch, numbers.mixup, settings.seed, epoch, step)
            ledger.add(train_step(to(batch, device), asked, learner, settings.precision, numbers.clip))
            progress.step(epoch, step + 1, steps)
            if ledger.full() or step + 1 == steps:
                terms = ledger.flush()
                log({"epoch": epoch, "train/lr_factor": factor, **terms, **ramps(learner)}, done)
                progress.terms(terms)
            if settings.save_every and done % settings.save_every == 0 and step + 1 < steps:
                standing.save(epoch, step + 1)
        metrics = validate(learner, data, settings, taught)
        value = score(metrics, numbers.select)
        learner.schedule.observe(value)
        if value > at["best_score"] and phase.start + phase.epochs == numbers.epochs:
            at.update(best_epoch=epoch, best_score=value, best=metrics)
            keep(learner, folder.weights, metadata | {"epoch": epoch} | metrics)
        log({"epoch": epoch, **metrics}, done)
        standing.save(epoch + 1, 0)
        progress.epoch(epoch, metrics, at)
    if at["best_epoch"] < 0:
        raise ValueError("train: no epoch gave a comparable validation metric; nothing was kept. Lower optimizer.lr.")
    return {key: at[key] for key in ("best_epoch", "best_score", "best", "seconds")} | {
        "steps": numbers.epochs * steps,
        "resumed_at": resumed_at,
    }


def refuse_idle_processes(faces: int, batch_size: int) -> None:
    """Refuse to train in more processes than a batch has faces.

    Raises:
        ValueError: with what to type.
    """
    if min(batch_size, faces) < parallel.world():
        raise ValueError(
            f"train: {faces} faces in batches of {batch_size} are not one for each of {parallel.world()} processes. "
            "Start fewer with torchrun --nproc-per-node=N."
        )


def teacher_of(objective: Objective, teacher: Teacher | None) -> Teacher | None:
    """Return the teacher where a loss of this epoch reads it, or it learns itself, else None: nobody waits for its answers."""
    return teacher if teacher and (teacher.learns or objective.reads("needs_teacher")) else None


def views_with_maps(objective: Objective, phases: tuple[Phase, ...], epochs: int, cached_views: int) -> set[int]:
    """Return the training views of those epochs of a run in which a loss reads feature maps."""
    views = set()
    for phase in phases or (Phase(0, epochs),):
        for epoch in range(phase.start, phase.start + phase.epochs):
            objective.at(epoch, phase.losses)
            if objective.reads("needs_features"):
                views.add(view_of(epoch, cached_views))
    return views


def ramps(learner: Learner) -> dict[str, float]:
    """Return train/weight_NAME and the like of whatever changes with the epoch."""
    return {f"train/{name}": value for name, value in learner.objective.changing().items()}


def keep(learner: Learner, path: Path, metadata: dict) -> None:
    """Write the weights of which validate() spoke; of several processes the main one does."""
    if parallel.is_main():
        with averaged(learner):
            save_weights(path, learner.student, metadata | {PROBE: probe(learner.student)})


def validate(learner: Learner, data: Dataset, settings: Settings, taught: Tensor | None = None) -> dict[str, float]:
    """Return valid/... metrics of the averaged weights where there is an average, else of the student as it is.

    Args:
        learner: the student and its average.
        data: its valid split is asked about.
        settings: the precision.
        taught: [N, K] the teacher's logits about these faces where nobody else has said what they show.
    """
    split = data.splits["valid"]
    with averaged(learner):
        parallel.broadcast_parameters(learner.student, learner.objective)  # each has BatchNorm statistics of its own
        logits = predict(learner.student, split, precision=settings.precision)

    def values() -> dict:
        if taught is not None:
            return evaluate_likeness(logits, taught)
        return evaluate_predictions(logits.numpy(), split.label, data.classes)

    measured = parallel.broadcast_from_main(values)
    return {f"valid/{name}": value for name, value in measured.items() if np.isscalar(value)}  # type: ignore[misc]
