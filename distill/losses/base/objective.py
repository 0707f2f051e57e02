"""What training minimizes: a weighted sum of named losses."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from distill.losses.base.ramps import Ramp, ramp
from distill.system.errors import ConfigError, expect
from distill.types import Outputs


class Loss(nn.Module):
    """One term of an objective: loss(student, teacher, target) -> [B] per sample, or a scalar.

    Attributes:
        term: its name in the config, for error messages; the objective sets it.
        needs_teacher: True if the loss reads the teacher's outputs.
        needs_features: True if it reads feature maps.
        needs_memory: True if it remembers pictures by their index.
        needs_label: True if it takes the largest entry of the target for the class, whatever its options.
        needs_every_label: True if it cannot do with a face without a label, whose target is 0; any that needs_label neither.
        also_needs: what else it needs of the networks, in words, for docs/losses.md.
        changes_student: True if bind() changes the student; such a loss is bound before the others.
    """

    term = ""
    needs_teacher = False
    needs_features = False
    needs_memory = False
    needs_label = False
    needs_every_label = False
    also_needs = ""
    changes_student = False

    def check(self, student: nn.Module, num_classes: int) -> None:
        """Refuse a student, or a number of classes, that this loss does not fit: known before any teacher is trained.

        Raises:
            ValueError: a message with the loss's key.
        """

    def bind(self, student: nn.Module, teacher: Any) -> None:
        """See both networks once, before the optimizer is made; a loss with learned parts makes them here."""

    def learned_numbers(self) -> dict[str, float]:
        """Return what it learned that is worth a line in the log, by name."""
        return {}


class Objective(nn.Module):
    """total = sum over terms of weight * mean over the batch of the loss.

    A weight, or any number among a loss's options, may follow a ramp over the epochs; at() sets it. A loss whose weight is 0
    for a whole epoch is not computed in it, unless all are 0: then all are computed, and the total is 0.

    Args:
        losses: term name -> loss.
        weights: term name -> weight, at least 0, or its ramp.
        options: term name -> {name of a loss's attribute: its ramp}.

    Raises:
        ConfigError: for no loss at all, no weight above 0, or one that is negative or not finite.
    """

    def __init__(
        self,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float | Mapping],
        options: Mapping[str, Mapping[str, Ramp]] | None = None,
    ):
        super().__init__()
        if not losses:
            raise ConfigError(
                "loss", "none was chosen, so there is nothing to learn. Choose loss=[ce] or loss=[ce,kd]."
            )
        assert losses.keys() == weights.keys()
        self.ramps = {name: ramp(weight, f"loss.{name}.weight") for name, weight in weights.items()}
        for name, weight in self.ramps.items():
            for value in (weight.first, weight.last):
                if not (math.isfinite(value) and value >= 0):
                    raise ConfigError(f"loss.{name}.weight", f"expected a finite number of at least 0, got {value}.")
        if all(weight.first == weight.last == 0 for weight in self.ramps.values()):
            raise ConfigError(
                "loss",
                f"the weight of {', '.join(losses)} is 0, so there is nothing to learn. Type loss.{min(losses)}.weight=1.",
            )
        self.losses, self.options = nn.ModuleDict(losses), dict(options or {})
        for name, loss in self.losses.items():
            loss.term = name
        self.at(0.0)

    def at(self, epoch: float, only: tuple[str, ...] | None = None) -> None:
        """Set every weight and option to its value at an epoch, fractions included.

        Args:
            epoch: epochs done.
            only: the terms of this phase; None means all.
        """
        self.weights = {name: weight(epoch) for name, weight in self.ramps.items()}
        now, end = math.floor(epoch), math.nextafter(math.floor(epoch) + 1, 0)
        self.active = [
            name for name, w in self.ramps.items() if (only is None or name in only) and (w(now) > 0 or w(end) > 0)
        ] or list(only or self.losses)
        for name, ramps in self.options.items():
            for option, value in ramps.items():
                setattr(self.losses[name], option, value(epoch))

    def reads(self, attribute: str) -> bool:
        """Say whether a loss that counts now has an attribute, such as needs_teacher or needs_features."""
        return any(getattr(self.losses[name], attribute) for name in self.active)

    def changing(self) -> dict[str, float]:
        """Return what follows a ramp or is learned, as it is now, for the log: {weight_kd: ..., temperature_kd: ...}."""
        now = {f"weight_{name}": self.weights[name] for name, c in self.ramps.items() if c.first != c.last}
        now |= {
            f"{option}_{name}": getattr(self.losses[name], option)
            for name, ramps in self.options.items()
            for option in ramps
        }
        return now | {
            f"{number}_{name}": value
            for name, loss in self.losses.items()
            for number, value in loss.learned_numbers().items()
        }

    def check(self, student: nn.Module, num_classes: int) -> None:
        """Let every loss refuse the student; one on feature maps only if no other loss changes the student until it sees them."""
        changed = any(loss.changes_student for loss in self.losses.values())
        for loss in self.losses.values():
            if loss.changes_student or not (changed and loss.needs_features):
                loss.check(student, num_classes)

    def bind(self, student: nn.Module, teacher: object | None) -> None:
        """Let every loss see both networks, those that change the student first: the others then find it as it answers.

        Raises:
            ConfigError: if a loss needs a teacher and there is none.
        """
        for name, loss in sorted(self.losses.items(), key=lambda item: not item[1].changes_student):
            if loss.needs_teacher and teacher is None:
                raise ConfigError(
                    f"loss.{name}",
                    "needs a teacher, but teacher=none was chosen. Choose teacher=resnet50, or loss=[ce].",
                )
            loss.bind(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, a scalar to differentiate, and every active term's mean, unweighted and detached.

        Args:
            student, teacher: their outputs on the same batch; teacher None if no loss needs one.
            target: [B, K] label distributions.
        """
        terms = {name: self.losses[name](student, teacher, target).mean() for name in self.active}
        total = sum(self.weights[name] * value for name, value in terms.items())
        return total, {name: value.detach() for name, value in terms.items()}


def select_heads(outputs: Outputs, apply_to: str) -> Tensor:
    """Return what a loss applies to, in float32: heads [B, H, K], or the fused logits as one head [B, 1, K]."""
    return (outputs.heads if apply_to == "heads" else outputs.logits[:, None]).float()


def reduce_heads(values: Tensor, head_reduction: str) -> Tensor:
    """Return the sum or the mean over heads: [B, H] -> [B]."""
    return values.sum(dim=1) if head_reduction == "sum" else values.mean(dim=1)


def check_heads(term: str, apply_to: str, head_reduction: str) -> None:
    """Check what select_heads and reduce_heads take; see check_choices."""
    check_choices(term, apply_to=(apply_to, ("heads", "logits")), head_reduction=(head_reduction, ("sum", "mean")))


def check_choices(term: str, **chosen: tuple[str, tuple[str, ...]]) -> None:
    """Check every key=(value, choices).

    Raises:
        ConfigError: naming the config key, the value and what to type instead.
    """
    for key, (value, choices) in chosen.items():
        expect(value in choices, f"loss.{term}.{key}", " or ".join(choices), repr(value))
