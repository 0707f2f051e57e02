"""What losses on logits share: softening, class priors, and one value per sample from several heads and one teacher."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.objective import Loss, check_heads, reduce_heads, select_heads
from distill.system.errors import ConfigError, expect
from distill.types import Outputs


class LogitLoss(Loss, ABC):
    """A loss on the logits of each student head, most often against the teacher's fused logits.

    A child says in per_head what one head costs; the selection, the teacher's checks and the reduction are here.

    Args:
        apply_to: heads (each against the teacher's fused logits), or logits (the fused prediction).
        head_reduction: sum or mean; a relational loss always takes the mean over heads.
        teacher_adjustment: tau, at least 0: tau * log prior is subtracted from the teacher's logits.
        class_priors: K numbers above 0, or None where tau is 0.

    Shape:
        student heads [B, H, K] or logits [B, K], teacher logits [B, K] -> [B], or a scalar if relational.

    Raises:
        ConfigError: for a choice that does not exist, an option out of range, or a teacher of another number of classes.
    """

    needs_teacher = True
    relational = False  # True if a sample's value depends on the others of its batch

    def __init__(
        self,
        apply_to: str = "heads",
        head_reduction: str = "mean",
        teacher_adjustment: float = 0.0,
        class_priors: Sequence[float] | None = None,
    ):
        super().__init__()
        check_heads(self.term, apply_to, head_reduction)
        self.apply_to, self.head_reduction, self.teacher_adjustment = apply_to, head_reduction, teacher_adjustment
        priors = log_priors(self.term, class_priors, teacher_adjustment=teacher_adjustment)
        self.register_buffer("log_priors", priors, persistent=False)

    def check(self, student: nn.Module, num_classes: int) -> None:
        check_length(self.term, "class_priors", self.log_priors, num_classes)

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        z_s = select_heads(student, self.apply_to)
        z_t = select_heads(teacher, "logits").detach() if self.needs_teacher else None
        if z_t is not None and z_t.shape[-1] != z_s.shape[-1]:
            raise ConfigError(
                f"loss.{self.term}",
                f"the teacher knows {z_t.shape[-1]} classes, the student {z_s.shape[-1]}. "
                "Choose a teacher of the same classes.",
            )
        if self.teacher_adjustment:
            z_t = z_t - self.teacher_adjustment * self.log_priors.to(z_t)
        with torch.autocast(z_s.device.type, enabled=False):  # autocast would round the products of relational losses
            values = self.per_head(z_s, z_t, target)
        return values.mean() if self.relational else reduce_heads(values, self.head_reduction)

    @abstractmethod
    def per_head(self, z_s: Tensor, z_t: Any, target: Tensor) -> Tensor:
        """Return [B, H] values, or [H] if relational, from z_s [B, H, K], z_t [B, 1, K] or None and target [B, K]."""


def standardize(z: Tensor) -> Tensor:
    """Return (z - mean) / (std + 1e-7) over the classes, std with K - 1; 0, without a gradient, where std is below 1e-3.

    Reference: Sun et al., Logit Standardization in Knowledge Distillation, arXiv 2403.01427, algorithm 1. Deviation: logits
    that hardly vary are left out as said (there their gradient grows without bound, up to 1e7 times).
    """
    std = z.std(dim=-1, keepdim=True)
    return ((z - z.mean(dim=-1, keepdim=True)) / (std + 1e-7)).masked_fill(std < 1e-3, 0.0)


def soft(z: Tensor, temperature: float, standardized: bool = False) -> Tensor:
    """Return log softmax(z / temperature), of standardized logits if asked."""
    return F.log_softmax((standardize(z) if standardized else z) / temperature, dim=-1)


def divergence(log_t: Tensor, log_s: Tensor) -> Tensor:
    """Return KL(t || s), summed over the classes."""
    return (log_t.exp() * (log_t - log_s)).sum(dim=-1)


def cross_entropy(t: Tensor, log_s: Tensor) -> Tensor:
    """Return H(t, s) = -sum_k t_k log s_k."""
    return -(t * log_s).sum(dim=-1)


def hard_label(distribution: Tensor) -> Tensor:
    """Return the largest entry (the first of equals) of [B, K] as one-hot [B, 1, K], True or False."""
    return F.one_hot(distribution.argmax(dim=1), distribution.shape[1]).bool()[:, None]


def log_others(z: Tensor, is_label: Tensor) -> Tensor:
    """Return log softmax over the classes that are not the label; 0 at the label, so that sums pass it over.

    Never the logarithm of a softmax, which is -inf where the softmax rounds to 0.
    """
    return F.log_softmax(z.masked_fill(is_label, float("-inf")), dim=-1).masked_fill(is_label, 0.0)


def check_numbers(term: str, **chosen: tuple[object, bool, str]) -> None:
    """Check every key=(value, whether it will do, what would).

    Raises:
        ConfigError: naming the config key, the value and what to give instead.
    """
    for key, (value, will_do, wanted) in chosen.items():
        expect(will_do, f"loss.{term}.{key}", wanted, value)


def check_temperature(term: str, temperature: float) -> None:
    """Check that a temperature is above 0; see check_numbers."""
    check_numbers(term, temperature=(temperature, temperature > 0, "a number above 0, such as 2"))


def check_length(term: str, key: str, values: Sequence | None, num_classes: int) -> None:
    """Check that there is one value per class, or none at all.

    Raises:
        ConfigError: naming the config key and both numbers.
    """
    if values is not None and len(values) != num_classes:
        raise ConfigError(f"loss.{term}.{key}", f"{len(values)} numbers for {num_classes} classes.")


def log_priors(term: str, priors: Sequence[float] | None, **tau: float) -> Tensor | None:
    """Return the logarithms of class priors, [K] in float64, or None where none are given.

    Args:
        term: the loss's name in the config.
        priors: numbers above 0; their sum does not matter.
        tau: option=its value, the priors' factor.

    Raises:
        ValueError: a factor below 0, one above 0 without priors, or priors that are not above 0.
    """
    ((option, factor),) = tau.items()
    check_numbers(term, **{option: (factor, 0 <= factor < math.inf, "0 or more, such as 1")})
    usable = factor == 0 if priors is None else len(priors) > 0 and all(0 < prior < math.inf for prior in priors)
    check_numbers(term, class_priors=(priors, usable, "one number above 0 per class"))
    return None if priors is None else torch.tensor(priors, dtype=torch.float64).log()
