"""The teacher, asked once: its logits for every (view, picture) on disk, so that later runs do no teacher forward at all."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from distill.batches import in_order, to
from distill.checkpoint import atomic, digest, write_json
from distill.types import Batch, Dataset, MixedBatch, Outputs
from distill.views import VERSION, ViewRecipe

FORMAT = 1


def manifest(
    data: Dataset, fingerprint: str, inputs: list[list], recipe: ViewRecipe, view_seed: int, precision: str
) -> dict:
    """Return everything that cached logits depend on, as a JSON-able dict.

    Args:
        data: the packed data set.
        fingerprint: SHA-256 of the teacher's weights.
        inputs: [size, channels, mean, std] of each network in it.
        recipe: ranges of the views.
        view_seed: their seed.
        precision: dtype of the teacher's forward pass.
    """
    return {
        "format": FORMAT,
        "data": {name: split.sha256 for name, split in data.splits.items()},
        "rows": {name: digest(split.rows.tolist()) for name, split in data.splits.items()},
        "classes": list(data.classes),
        "teacher": fingerprint,
        "inputs": inputs,
        "views": recipe.numbers(),
        "view_version": VERSION,
        "view_seed": view_seed,
        "precision": precision,
        "dtype": "float32",
    }


class LogitCache:
    """Answers batches from stored logits; a view that is not there yet is computed once, in large batches.

    One array [M, K] float32 per split and view, rows that the protocol leaves out are NaN.

    Args:
        folder: where this teacher's logits on this data set lie.
        expected: manifest() of what is needed; the folder's own must be equal.
        make: makes the live teacher, called only if a view must be computed.
        data: the packed data set.
        device: where batches live.
        batch_size: pictures per teacher forward pass.
        progress: wraps an iterable of batches, (iterable, total, words) -> iterable.

    Raises:
        ValueError: the folder holds logits of something else, or is damaged.
    """

    def __init__(
        self,
        folder: Path,
        expected: dict,
        make: Callable[[], nn.Module],
        data: Dataset,
        device: torch.device,
        batch_size: int = 256,
        progress: Callable = lambda items, total, words: items,
    ):
        self.folder, self.expected, self.make, self.data = folder, expected, make, data
        self.device, self.batch_size, self.progress = device, batch_size, progress
        self.classes = tuple(data.classes)
        self.live: nn.Module | None = None
        self.current: Tensor | None = None
        self._claim()

    @property
    def forward_images(self) -> int:
        """Pictures that went through the live teacher in this process."""
        return self.live.forward_images if self.live else 0

    def _claim(self) -> None:
        path = self.folder / "manifest.json"
        with FileLock(f"{self.folder}.lock"):
            if not path.exists():
                write_json(path, self.expected)
                return
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: damaged ({error}). Delete the folder; the logits are computed again.") from error
        for field in [*self.expected, *found]:
            if found.get(field) != self.expected.get(field):
                raise ValueError(
                    f"teacher cache {self.folder}: its {field!r} is {found.get(field)}, this run needs "
                    f"{self.expected.get(field)}. Delete the folder, or use teacher.cache=true for one of its own."
                )

    def open(self, split: str, view_id: int, table: Tensor) -> None:
        """Make a view's logits the ones that are answered; compute and store them if they are not there.

        Args:
            split: name of the split.
            view_id: the view, 0 for pictures as packed.
            table: [M, P] its rows.
        """
        self.current = torch.from_numpy(self._load(split, view_id, table)).to(self.device)

    def __call__(self, batch: Batch) -> Outputs:
        assert self.current is not None, "open() a view first"
        assert not isinstance(batch, MixedBatch), "a cache knows faces, not their mixtures"
        logits = self.current[batch.index]
        return Outputs(logits, logits[:, None], {})

    def _load(self, split: str, view_id: int, table: Tensor) -> np.ndarray:
        path = self.folder / f"{split}-view{view_id}.npy"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                self._store(path, self._compute(split, view_id, table))
        shape = (len(self.data.splits[split].pixels), len(self.classes))
        try:
            array = np.load(path)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: damaged ({error}). Delete it; the logits are computed again.") from error
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{path}: holds {array.dtype} {array.shape}, not float32 {shape}. Delete it.")
        return array

    def _compute(self, split: str, view_id: int, table: Tensor) -> np.ndarray:
        if self.live is None:
            with torch.random.fork_rng(
                devices=[]
            ):  # making a network draws numbers that the student's dropout counts on
                self.live = self.make()
        part = self.data.splits[split]
        array = np.full((len(part.pixels), len(self.classes)), np.nan, np.float32)
        words = f"teacher: {split} as packed" if view_id == 0 else f"teacher: {split} view {view_id}"
        for batch in self.progress(in_order(part, table, self.batch_size), -(-len(part) // self.batch_size), words):
            array[batch.index.numpy()] = self.live(to(batch, self.device)).logits.cpu().numpy()
        if not np.isfinite(array[part.rows]).all():
            raise ValueError(
                f"teacher: its logits of {split} view {view_id} are not all finite. Try teacher.precision=fp32."
            )
        return array

    @staticmethod
    def _store(path: Path, array: np.ndarray) -> None:
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array)
