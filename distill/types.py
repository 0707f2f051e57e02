"""The types that cross module borders: what a batch, a model's answer, an input and a data set are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch as packed: pixels are not augmented yet, the view says how to.

    Shape:
        pixels: [B, C, H, W] uint8, C = 1 or 3.
        view:   [B, P] float32, rows of an augmentation table, or the identity row.
        target: [B, K] float32 label distribution, rows sum to 1.
        label:  [B] int64 majority class, for metrics only.
        index:  [B] int64 row in the packed data set.
    """

    pixels: Tensor
    view: Tensor
    target: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name


class MixedBatch(NamedTuple):
    """A mini-batch of which every picture is mixed with another one: share * own + (1 - share) * partner's.

    Shape:
        pixels, view, label, index: as in Batch, of each picture itself; of a share of a batch, pixels and view are followed by
                 those of the other pictures that are not in the share.
        target:  [B, K] float32, mixed already.
        partner: [B] int64, the other picture's place in pixels.
        share:   [B] float32 in [0, 1].
    """

    pixels: Tensor
    view: Tensor
    target: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name
    partner: Tensor
    share: Tensor


class Outputs(NamedTuple):
    """What a student or a teacher answers.

    Shape:
        logits:   [B, K], the prediction; for a network of several heads their fused mean.
        heads:    [B, H, K], the supervised heads, H = 1 for ordinary networks.
        features: name -> Tensor, only what a bound loss asked for.
        index:    [B] int64 rows in the packed data set, given by the training step to losses that remember pictures.
    """

    logits: Tensor
    heads: Tensor
    features: dict[str, Tensor]
    index: Tensor | None = None  # type: ignore[assignment]


@dataclass(frozen=True)
class InputSpec:
    """What a network wants to see: images = (pixels / 255 - mean) / std, [B, channels, size, size].

    Args:
        size: height and width in pixels.
        channels: 1 (gray) or 3 (RGB; a gray picture is repeated).
        mean: one number per channel, or one for all, in units of pixels / 255.
        std: likewise; std = 1 / 255 with mean 0 gives the raw 0..255 range.
    """

    size: int
    channels: int = 1
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, given in (("mean", self.mean), ("std", self.std)):
            numbers = (given,) if isinstance(given, int | float) else given
            object.__setattr__(self, name, tuple(float(number) for number in numbers))
        if not 1 <= self.size <= 4096:
            raise ValueError(f"input.size: expected 1 to 4096 pixels, got {self.size}.")
        if self.channels not in (1, 3):
            raise ValueError(f"input.channels: expected 1 (gray) or 3 (RGB), got {self.channels}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                each = "" if self.channels == 1 else f" or {self.channels}"
                raise ValueError(f"input.{name}: {len(values)} numbers for {self.channels} channels; give 1{each}.")
        if min(self.std) <= 0:
            raise ValueError(f"input.std: expected numbers above 0, got {list(self.std)}.")


@dataclass(frozen=True)
class Split:
    """One split of a packed data set under a protocol.

    Shape:
        pixels: [M, C, H, W] uint8, memory-mapped: every packed picture.
        rows:   [N] int64, ascending: the packed rows that the protocol keeps.
        target: [N, K] float32 label distribution.
        label:  [N] int64 majority class.
        ids:    [N] names of the source pictures.
        content: [M] uint64, hash of every packed picture's pixels: equal for exact copies, in any pack of this size.
        photo:  [M] int64, equal for packed pictures of the pack that are one photograph up to crop, watermark or contrast;
            None where no photographs are packed.
    """

    name: str
    pixels: np.ndarray
    rows: np.ndarray
    target: np.ndarray
    label: np.ndarray
    ids: tuple[str, ...]
    sha256: str
    content: np.ndarray | None = None
    photo: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_labeled(self) -> bool:
        """Whether anybody has said what its faces show; else each label is -1 and each target 0."""
        return len(self.label) == 0 or bool(self.label[0] >= 0)


@dataclass(frozen=True)
class Dataset:
    """Train, valid and test splits with one class order.

    Args:
        name: the data set's name, e.g. ferplus.
        classes: the class names; their order is the order of every [.., K] array.
        protocol: the rule that selected rows and targets, in words a table can show.
        splits: train, valid, test.
        notes: facts worth printing and recording (counts under other protocols, license).
        extra_test_splits: other selections of the test split's pictures by name (other protocols), measured beside it.
        extra: faces without labels, label -1 and target 0, that the teacher alone says something of; see distill.data.extra.
    """

    name: str
    classes: tuple[str, ...]
    protocol: str
    splits: dict[str, Split]
    notes: dict[str, object] = field(default_factory=dict)
    extra_test_splits: dict[str, Split] = field(default_factory=dict)
    extra: Split | None = None


class RunLogger(Protocol):
    """Mirrors a run beside its folder's metrics.jsonl."""

    def log(self, metrics: dict[str, float], step: int) -> None: ...
    def images(self, pictures: dict[str, Path]) -> None: ...
    def confusion_matrix(
        self, labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str], picture: Path
    ) -> None: ...
    def artifact(self, path: Path, name: str) -> None: ...
    def finish(self, result: dict, exit_code: int = 0) -> None: ...


class Progress(Protocol):
    """Shows a training: every step, the loss terms of the last ones, and an epoch's metrics with the best epoch so far."""

    def step(self, epoch: int, done: int, steps: int) -> None: ...
    def terms(self, terms: dict[str, float]) -> None: ...
    def epoch(self, epoch: int, metrics: dict[str, float], best: dict) -> None: ...
