"""Elastic width: what teaches the narrower widths of a student, and the students that are cut from it when it has learned."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill import build
from distill.augment.views import render
from distill.data.loader import batches, epoch_order, to
from distill.evaluation.inference import PROBE, probe
from distill.losses.base.logit_loss import cross_entropy, divergence
from distill.losses.base.objective import Loss
from distill.models.elastic import cut, feature
from distill.pipeline.prepare import weights_header
from distill.pipeline.reuse import write_config_and_env
from distill.runs.config import AugmentConfig, RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.errors import ConfigError, expect
from distill.system.hardware import autocast, pick_precision
from distill.system.weights import save_weights
from distill.types import Dataset, Outputs, Split
from teachers.peer import is_peer

TERM = "inplace"  # the loss that a run with an elastic student has beside its own
WITHOUT = "comes with student.width=elastic or a list of widths, such as [1,0.75,0.5], and not without."
BATCH, BATCHES = 128, 64  # of training faces that BatchNorm's statistics are estimated on


class InPlace(Loss):
    """In-place distillation: labels, and the answers of the widest width, teach the narrower ones of the same step.

    loss[b] = sum over the widths w of the step of labels CE(target, z_w) + (1 - labels) KL(softmax(z_widest) || softmax(z_w));
    labels is 0 for a face that has none, and no gradient reaches z_widest.

    Args:
        widths: of the student.
        random: how many widths a step draws beside the widest, the narrowest and the first.
        labels: share of the labels, in [0, 1]; 0 as published.

    Shape:
        student logits [B, K], features of the widths' logits [B, K] -> [B].

    Raises:
        ConfigError: a number out of range, or a student that does not have these widths.

    Reference: Yu and Huang, Universally Slimmable Networks, arXiv 1903.05134, sections 3.2 and 3.3. Deviation: they leave the
    labels to the widest, whose first answers say little.
    """

    term = TERM

    def __init__(self, widths: list, random: int = 1, labels: float = 0.5):
        super().__init__()
        expect(random >= 0, f"loss.{TERM}.random", "0 or more", random)
        expect(0 <= labels <= 1, f"loss.{TERM}.labels", "a share in [0, 1], such as 0.5", labels)
        self.widths, self.random, self.labels = tuple(widths), random, labels

    def check(self, student: nn.Module, num_classes: int) -> None:
        if getattr(student, "widths", None) != self.widths:
            raise ConfigError(f"loss.{TERM}", WITHOUT)

    def bind(self, student: nn.Module, teacher: object | None) -> None:
        self.sandwich = student.sandwich
        self.sandwich.step, self.sandwich.random = 0, self.random

    def get_extra_state(self) -> int:
        return self.sandwich.step

    def set_extra_state(self, state: int) -> None:
        self.sandwich.step = state

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        wide = student.logits.detach().float().log_softmax(-1)
        narrow = [student.features[feature(width)].float().log_softmax(-1) for width in self.sandwich.drawn()]
        self.sandwich.step += 1
        others = 1 - self.labels * target.sum(-1)  # the target of a face without a label is 0
        return sum(self.labels * cross_entropy(target, z) + others * divergence(wide, z) for z in narrow)


def with_inplace_loss(student: Any, losses: Any, phases: Any, plugins: list[str]) -> dict[str, Any]:
    """Return student, loss and phases of a run that trains an elastic student's narrower widths, by loss.inplace; others as they are.

    Args:
        student: its keys.
        losses: name -> keys.
        phases: of the training, or None.
        plugins: packages whose classes may be named.

    Raises:
        ConfigError: loss.inplace for a student of one width, or with widths of its own.
    """
    as_given = {"student": student, "loss": losses, "phases": phases}
    if not (isinstance(student, dict) and isinstance(losses, dict)):
        return as_given  # which has a message of its own
    width, given = student.get("width"), losses.get(TERM)
    known = getattr(build.target(student, plugins), "ELASTIC", None)
    if given is not None and not isinstance(given, dict):
        return as_given
    if known is None or not (width == "elastic" or isinstance(width, list)):
        if given is not None:
            raise ConfigError(f"loss.{TERM}", WITHOUT)
        return as_given
    if "widths" in (given or {}):
        raise ConfigError(f"loss.{TERM}.widths", "are those of student.width. Leave it out.")
    widths = list(known) if width == "elastic" else width
    node = {"_target_": "distill.pipeline.elastic.InPlace", "weight": 1.0} | (given or {})
    phases = with_losses(phases, lambda names: list(dict.fromkeys([*names, TERM])))
    return {
        "student": student | {"width": widths},
        "loss": losses | {TERM: node | {"widths": widths}},
        "phases": phases,
    }


def with_losses(phases: Any, change: Callable[[list], list]) -> Any:
    """Return phases whose lists of losses are changed; what is no phase, or has no such list, has a message of its own."""
    if not isinstance(phases, list):
        return phases
    return [
        phase | {"loss": change(phase["loss"])}
        if isinstance(phase, dict) and isinstance(phase.get("loss"), list)
        else phase
        for phase in phases
    ]


def check_elastic(cfg: RunConfig) -> None:
    """Refuse a loss or a teacher that an elastic student cannot learn by, and to compile it.

    Args:
        cfg: checked config.

    Raises:
        ConfigError: with what to type.
    """
    if TERM not in cfg.loss:
        return
    for attribute, what in (("needs_features", "reads feature maps"), ("changes_student", "changes the student")):
        if names := build.losses_with(attribute, cfg.loss, cfg.plugins):
            raise ConfigError(
                f"loss.{names[0]}",
                f"{what}, and a student of several widths is several networks. Choose losses on logits, such as "
                "loss=[ce,dist], or one width, such as student.width=M.",
            )
    if cfg.train.compile:
        raise ConfigError(
            "train.compile",
            "got true, but with several widths each step would be compiled anew, as other widths learn. Leave it out, or "
            "choose one width, such as student.width=M.",
        )
    if is_peer(cfg.teacher):
        raise ConfigError(
            "teacher",
            "a peer learns beside one network, and a student of several widths is several. Choose another teacher, or "
            "one width, such as student.width=M.",
        )


def as_cut(node: dict, student: nn.Module, width: float | None = None) -> tuple[dict, nn.Module]:
    """Return a student's config and network as those of one width, by default the first; of any other student as they are."""
    if not hasattr(student, "widths"):
        return node, student
    width = student.widths[0] if width is None else width
    return node | {"width": width}, cut(student, width)


@torch.no_grad()
def estimate_batch_norm(
    network: nn.Module, augment: AugmentConfig, seed: int, split: Split, precision: torch.dtype
) -> None:
    """Give BatchNorm the mean statistics of training faces in the run's first view; dropout stays off.

    Args:
        network: images -> Outputs, with an input: InputSpec.
        augment: of the run, whose first view is taken.
        seed: of the run, for the order.
        split: of training.
        precision: dtype of the forward pass.

    Reference: Yu and Huang, Universally Slimmable Networks, arXiv 1903.05134, section 3.4 (calibration of BatchNorm).
    """
    norms = [layer for layer in network.eval().modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None  # every batch counts alike
    device = next(network.parameters()).device
    views = build.augmentation(augment).table(augment.seed, 1, len(split.pixels))
    drawn = batches(split, views, BATCH, epoch_order(seed, 0, len(split)))
    for batch in islice(drawn, BATCHES):
        batch = to(batch, device)
        with autocast(device, precision):
            network(render(batch.pixels, batch.view, network.input).contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def cut_widths(
    cfg: RunConfig,
    folder: RunFolder,
    data: Dataset,
    student: nn.Module,
    first: RunResult,
    command: str | None,
    evaluate: Callable[[dict, RunFolder, nn.Module], RunResult],
) -> list[dict] | None:
    """Write a student of each further width as a run of its own, FOLDER/width-W, and return the front: a row for each width.

    Args:
        cfg: the run's config.
        folder: its run folder.
        data: the packed data set.
        student: the elastic network with the best weights.
        first: the result of the first width, which is the run's own.
        command: what was typed.
        evaluate: measures the network of a student's keys, whose weights lie in a run folder.

    Returns:
        The rows, or None for a student of one width.
    """
    if not hasattr(student, "widths"):
        return None
    rows = [_row(student.widths[0], first)]
    for width in student.widths[1:]:
        (node, network), where = as_cut(cfg.student, student, width), folder.width(width)
        one = replace(cfg, student=node)
        precision = pick_precision(cfg.train.precision, next(network.parameters()).device)
        estimate_batch_norm(network, cfg.augment, cfg.seed, data.splits["train"], precision)
        write_config_and_env(one, where, command)
        if parallel.is_main():
            where.result.unlink(missing_ok=True)
            header = weights_header(one.student, data) | {PROBE: probe(network)}
            header |= {"epoch": first.best_epoch, "cut_from": list(student.widths)}
            save_weights(where.weights, network, header)
        result = replace(evaluate(node, where, network), name=f"{folder.name}-{where.name}")
        parallel.broadcast_from_main(partial(result.write, where.result))
        rows.append(_row(width, result))
    return rows


def _row(width: float, result: RunResult) -> dict:
    student = result.student
    costs = {key: student.get(key) for key in ("num_parameters", "macs", "bytes", "latency_ms")}
    return {"width": width, "folder": result.folder, **costs, **student["metrics"]}
