"""What training minimises: a weighted sum of named losses."""

import math
from collections.abc import Mapping

from torch import Tensor, nn

from distill.types import Outputs


class Loss(nn.Module):
    """One term of an objective: loss(student, teacher, target) -> [B] per sample, or a scalar.

    Attributes:
        needs_teacher: True if the loss reads the teacher's outputs.
    """

    needs_teacher = False

    def bind(self, student: nn.Module, teacher: object | None) -> None:
        """Meet both networks once, before the optimiser is made; a loss with learned parts makes them here."""


class Objective(nn.Module):
    """total = sum over terms of weight * mean over the batch of the loss.

    Args:
        losses: term name -> loss.
        weights: term name -> weight, at least 0.

    Raises:
        ValueError: for no loss at all, or a weight that is negative or not finite.
    """

    def __init__(self, losses: Mapping[str, Loss], weights: Mapping[str, float]):
        super().__init__()
        if not losses:
            raise ValueError("loss: none was chosen, so there is nothing to learn. Choose loss=[ce] or loss=[ce,kd].")
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"loss.{name}.weight: {weight} was asked for; give a finite number of at least 0.")
        assert losses.keys() == weights.keys()
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def bind(self, student: nn.Module, teacher: object | None) -> None:
        """Let every loss meet both networks.

        Raises:
            ValueError: if a loss needs a teacher and there is none.
        """
        for name, loss in self.losses.items():
            if loss.needs_teacher and teacher is None:
                raise ValueError(
                    f"loss.{name}: needs a teacher, but teacher=none was chosen. Choose teacher=resnet50, or loss=[ce]."
                )
            loss.bind(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total, a scalar to differentiate, and every term's mean, unweighted and detached.

        Args:
            student, teacher: their outputs on the same batch; teacher None if no loss needs one.
            target: [B, K] label distributions.
        """
        terms = {name: loss(student, teacher, target).mean() for name, loss in self.losses.items()}
        total = sum(self.weights[name] * value for name, value in terms.items())
        return total, {name: value.detach() for name, value in terms.items()}


def select_heads(outputs: Outputs, apply_to: str) -> Tensor:
    """Return what a loss applies to, in float32: heads [B, H, K], or the fused logits as one head [B, 1, K]."""
    return (outputs.heads if apply_to == "heads" else outputs.logits[:, None]).float()


def reduce_heads(values: Tensor, head_reduction: str) -> Tensor:
    """Return the sum or the mean over heads: [B, H] -> [B]."""
    return values.sum(dim=1) if head_reduction == "sum" else values.mean(dim=1)


def check_choices(term: str, **chosen: tuple[str, tuple[str, ...]]) -> None:
    """Check every key=(value, choices).

    Raises:
        ValueError: naming the config key, the value and what to type instead.
    """
    for key, (value, choices) in chosen.items():
        if value not in choices:
            raise ValueError(f"loss.{term}.{key}: {value!r} was asked for. Choose {' or '.join(choices)}.")
