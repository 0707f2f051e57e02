"""The training loop and the step: a teacher is fine-tuned and a student distilled by the same ten lines."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill.augment.views import ViewRecipe
from distill.data.loader import batches, class_balanced_weights, epoch_order, mixup, resident, steps_per_epoch, to
from distill.evaluation.inference import PROBE, predict, probe, teacher_logits
from distill.evaluation.metrics import evaluate_likeness, evaluate_predictions
from distill.losses.base.objective import Objective
from distill.models.teacher import Teacher
from distill.runs.config import AugmentConfig, TrainConfig
from distill.runs.folder import RunFolder
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.errors import ConfigError
from distill.system.weights import intact, save_weights
from distill.training.loggers import JsonLines, NoLines
from distill.training.meter import LossMeter
from distill.training.resume import TrainProgress
from distill.training.state import TrainState, ema_weights
from distill.types import Batch, Dataset, MixedBatch, Progress


class Phase(NamedTuple):
    """A stretch of epochs with losses of its own; the learning-rate schedule and the optimizer start afresh in each."""

    start: int  # its first epoch
    epochs: int  # their number
    losses: tuple[str, ...] | None = None  # the terms that count in it, None for all
    lr: float = 1.0  # factor of the learning rate


@dataclass(frozen=True)
class Settings:
    """The numbers of a training run."""

    train: TrainConfig  # the keys under train
    augment: AugmentConfig  # the keys under augment
    seed: int  # of the order of the pictures and of dropout
    precision: torch.dtype  # of the forward pass
    save_every: int  # steps between checkpoints within an epoch; 0 means at epochs' ends only
    phases: tuple[Phase, ...] = ()  # none is one phase of all epochs; the best epoch is one of the last phase

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch is in."""
        return next((p for p in reversed(self.phases) if p.start <= epoch), Phase(0, self.train.epochs))


class TrainOutput(NamedTuple):
    """What a training writes to."""

    lines: JsonLines | NoLines  # metrics.jsonl, with position() and truncate()
    log: Callable[[dict, int], None]  # takes (metrics, step), writes to every logger
    progress: Progress  # shows how far it is


def train_step(
    batch: Batch | MixedBatch,
    teacher: Teacher | None,
    train_state: TrainState,
    precision: torch.dtype,
    max_norm: float | None = None,
) -> dict[str, Tensor]:
    """Do one step: augmentation, forward, loss, backward, clip, optimizer, moving average.

    Args:
        batch: one mini-batch, the whole of it, on the student's device.
        teacher: Batch -> Outputs or None.
        train_state: student, objective, optimizer and average.
        precision: dtype of the student's forward pass.
        max_norm: largest joint gradient norm.

    Returns:
        {name: scalar}: the total loss and each term, detached and not read back, so that no step waits for the device.

    Raises:
        ValueError: the student does not answer Outputs.
    """
    train_state.optimizer.zero_grad(set_to_none=True)
    with parallel.watch_peers():
        total, terms = train_state.loss(batch, teacher, precision)
        total.backward()
    if max_norm:
        groups = train_state.optimizer.param_groups
        torch.nn.utils.clip_grad_norm_([parameter for group in groups for parameter in group["params"]], max_norm)
    train_state.optimizer.step()
    if train_state.ema:
        train_state.ema.update(train_state.student)
    return {"loss": total.detach(), **terms}


def view_of(epoch: int, num_views: int) -> int:
    """Return the view id of an epoch: 1, 2, ... and again from 1 after num_views (0: never again)."""
    return 1 + (epoch % num_views if num_views else epoch)


def score(metrics: dict[str, float], monitor: str) -> float:
    """Return the selection metric, larger is better: -valid/nll is the negative of valid/nll.

    Raises:
        ConfigError: it was not measured.
    """
    name = monitor.removeprefix("-")
    if name not in metrics:
        raise ConfigError("train.monitor", f"{name} is not measured. Choose one of {', '.join(sorted(metrics))}.")
    return -metrics[name] if monitor.startswith("-") else metrics[name]


def train(
    train_state: TrainState,
    teacher: Teacher | None,
    data: Dataset,
    recipe: ViewRecipe,
    settings: Settings,
    folder: RunFolder,
    output: TrainOutput,
    metadata: dict,
) -> dict:
    """Train to the last epoch, or go on from the folder's last checkpoint, and keep the best epoch's weights.

    Args:
        train_state: student, objective, optimizer, schedule and average.
        teacher: Batch -> Outputs or None, with open(split, view id, table, features); epochs whose losses do not read it do without.
        data: train and valid splits are read; test is not.
        recipe: the ranges of augmentation.
        settings: the numbers of the run.
        folder: run folder; checkpoints/last.pt and checkpoints/best.safetensors are written in it.
        output: takes the numbers.
        metadata: written into the best weights' header.

    Returns:
        {"best_epoch", "best_score", "best": {metric: value}, "seconds" (of all processes), "steps", "resumed_at"}.

    Raises:
        ConfigError: batches too small for the processes, a checkpoint that is none, or no epoch with a metric to compare.
    """
    split, numbers = data.splits["train"], settings.train
    steps, meter = steps_per_epoch(len(split), numbers.batch_size), LossMeter(numbers.log_every_n_steps)
    device = next(train_state.student.parameters()).device
    sampling_weights = class_balanced_weights(split.label, numbers.class_balance_power)
    if min(numbers.batch_size, len(split)) < parallel.world():
        raise ConfigError(
            "train",
            f"{len(split)} faces in batches of {numbers.batch_size} are not one for each of {parallel.world()} processes. "
            "Start fewer with torchrun --nproc-per-node=N.",
        )
    faces = resident(split, device)
    valid = data.splits["valid"]
    teacher_outputs = None if valid.is_labeled or teacher is None else teacher_logits(teacher, valid, device)
    train_progress = TrainProgress(folder.checkpoint, train_state, meter, output.lines)
    at = train_progress.progress
    resumed_at = at["epoch"] * steps + at["step"]
    if at["best_epoch"] >= 0:
        intact(folder.weights, f"Delete the folder {folder} and start its command again.")
    if 0 < resumed_at < numbers.epochs * steps:
        console.print(f"resuming from epoch {at['epoch'] + 1}, step {at['step']}")
    for epoch in range(at["epoch"], numbers.epochs):
        view = view_of(epoch, settings.augment.num_views)
        table = recipe.table(settings.augment.seed, view, len(split.pixels))
        phase = settings.phase(epoch)
        train_state.objective.at(epoch, phase.losses)
        # an epoch whose losses do not read the teacher does not wait for its answers
        live = teacher if teacher and (teacher.learns or train_state.objective.reads("needs_teacher")) else None
        if live is not None:
            live.open("train", view, table, features=train_state.objective.reads("needs_features"))
        if epoch == phase.start > 0 and at["step"] == 0:
            train_state.restart()
        order = epoch_order(settings.seed, epoch, len(split), sampling_weights)
        train_state.student.train()
        start = at["step"]
        batch: Batch | MixedBatch
        for step, batch in enumerate(batches(faces, table, numbers.batch_size, order, start), start):
            done = epoch * steps + step + 1
            now = epoch + step / steps
            factor = train_state.schedule.apply(train_state.optimizer, now - phase.start, phase.epochs, phase.lr)
            train_state.objective.at(now, phase.losses)
            if numbers.mixup:
                batch = mixup(batch, numbers.mixup, settings.seed, epoch, step)
            meter.add(train_step(to(batch, device), live, train_state, settings.precision, numbers.max_grad_norm))
            output.progress.step(epoch, step + 1, steps)
            if meter.full() or step + 1 == steps:
                terms = meter.flush()
                ramps = {f"train/{name}": value for name, value in train_state.objective.changing().items()}
                output.log({"epoch": epoch, "train/lr_factor": factor, **terms, **ramps}, done)
                output.progress.terms(terms)
            if settings.save_every and done % settings.save_every == 0 and step + 1 < steps:
                train_progress.save(epoch, step + 1)
        metrics = validate(train_state, data, settings, teacher_outputs)
        value = score(metrics, numbers.monitor)
        train_state.schedule.observe(value)
        if value > at["best_score"] and phase.start + phase.epochs == numbers.epochs:
            at.update(best_epoch=epoch, best_score=value, best=metrics)
            save_best(train_state, folder.weights, metadata | {"epoch": epoch} | metrics)
        output.log({"epoch": epoch, **metrics}, done)
        train_progress.save(epoch + 1, 0)
        output.progress.epoch(epoch, metrics, at)
    if at["best_epoch"] < 0:
        raise ConfigError(
            "train", "no epoch gave a comparable validation metric; nothing was kept. Lower optimizer.lr."
        )
    kept = {key: at[key] for key in ("best_epoch", "best_score", "best", "seconds")}
    return kept | {"steps": numbers.epochs * steps, "resumed_at": resumed_at}


def views_with_features(objective: Objective, phases: tuple[Phase, ...], epochs: int, num_views: int) -> set[int]:
    """Return the training views of those epochs of a run in which a loss reads feature maps."""
    views = set()
    for phase in phases or (Phase(0, epochs),):
        for epoch in range(phase.start, phase.start + phase.epochs):
            objective.at(epoch, phase.losses)
            if objective.reads("needs_features"):
                views.add(view_of(epoch, num_views))
    return views


def save_best(train_state: TrainState, path: Path, metadata: dict) -> None:
    """Write the weights of which validate() spoke; of several processes the main one does."""
    if parallel.is_main():
        with ema_weights(train_state):
            save_weights(path, train_state.student, metadata | {PROBE: probe(train_state.student)})


def validate(
    train_state: TrainState, data: Dataset, settings: Settings, teacher_outputs: Tensor | None = None
) -> dict[str, float]:
    """Return valid/... metrics of the averaged weights where there is an average, else of the student as it is.

    Args:
        train_state: the student and its average.
        data: its valid split is asked about.
        settings: the precision.
        teacher_outputs: [N, K] the teacher's logits about these faces where nobody else has said what they show.
    """
    split = data.splits["valid"]
    with ema_weights(train_state):
        # each process has BatchNorm statistics of its own
        parallel.broadcast_parameters(train_state.student, train_state.objective)
        logits = predict(train_state.student, split, precision=settings.precision)

    def values() -> dict:
        if teacher_outputs is not None:
            return evaluate_likeness(logits, teacher_outputs)
        return evaluate_predictions(logits.numpy(), split.label, data.classes)

    measured = parallel.broadcast_from_main(values)
    return {f"valid/{name}": value for name, value in measured.items() if np.isscalar(value)}  # type: ignore[misc]
