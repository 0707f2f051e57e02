"""Hyperparameter schedules: a loss's weight or temperature as a function of the epoch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from distill.system.errors import ConfigError, expect
from distill.system.typed import as_typed

SHAPES = ("linear", "cosine", "exponential")


@dataclass(frozen=True)
class Ramp:
    """A number as a function of the epoch: `first` until `start`, `last` from `end` on, and a way between them.

    With u = (epoch - start) / (end - start) in [0, 1]:
    linear: first + u (last - first); cosine: the same with (1 - cos(pi u)) / 2 instead of u;
    exponential: first^(1 - u) last^u, both above 0.

    Args:
        first: number before start.
        last: number from end on.
        start: epoch, fractions allowed.
        end: epoch; equal to start it is a step.
        shape: linear, cosine or exponential.
    """

    first: float
    last: float
    start: float = 0.0
    end: float = 0.0
    shape: str = "linear"

    def __call__(self, epoch: float) -> float:
        if epoch >= self.end:
            return self.last
        if epoch <= self.start:
            return self.first
        u = (epoch - self.start) / (self.end - self.start)
        if self.shape == "exponential":
            return self.first ** (1 - u) * self.last**u
        return self.first + (self.last - self.first) * (
            u if self.shape == "linear" else (1 - math.cos(math.pi * u)) / 2
        )


def is_ramp(value: object) -> TypeGuard[Mapping]:
    """Say whether an option is written as a ramp, {from: ..., to: ...}, and not as a number."""
    return isinstance(value, Mapping)


def ramp(value: float | Mapping, key: str) -> Ramp:
    """Read a ramp: a number, or {from, to, start: 0, end: start, shape: linear}, epochs counted from 0.

    {from: 0, to: 0.9, end: 5} warms up over 5 epochs, {from: 0, to: 0.9, start: 5} is off for 5 epochs, then on.

    Args:
        value: as given in the config.
        key: its name, for error messages.

    Raises:
        ConfigError: an unknown or missing part, or numbers that make no ramp.
    """
    if not is_ramp(value):
        return Ramp(_number(value, key), _number(value, key))
    known = {"from", "to", "start", "end", "shape"}
    if value.keys() - known or not {"from", "to"} <= value.keys():
        raise ConfigError(
            key,
            "expected from and to, and perhaps start, end (epochs) and shape, as in "
            f"{{from: 0, to: 0.9, end: 5}}, got {dict(value)}.",
        )
    start = value.get("start", 0)
    parts = {"from": value["from"], "to": value["to"], "start": start, "end": value.get("end", start)}
    first, last, start, end = (_number(part, f"{key}.{name}") for name, part in parts.items())
    made = Ramp(first, last, start, end, value.get("shape", "linear"))
    expect(made.shape in SHAPES, f"{key}.shape", ", ".join(SHAPES), repr(made.shape))
    if not 0 <= made.start <= made.end:
        raise ConfigError(key, f"from epoch {made.start:g} to epoch {made.end:g}; give 0 <= start <= end.")
    if made.shape == "exponential" and min(made.first, made.last) <= 0:
        raise ConfigError(key, f"from {made.first:g} to {made.last:g}; an exponential ramp needs both above 0.")
    return made


def _number(value: object, key: str) -> float:
    expect(not isinstance(value, bool) and isinstance(value, int | float), key, "a number", as_typed(value))
    return float(value)
