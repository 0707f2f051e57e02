"""A teacher's answers on disk: arrays by split, view and layer, and the manifest that says of what they are."""

import hashlib
import json
import math
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.augment.views import VERSION, ViewRecipe
from distill.models.feature_hooks import Layer
from distill.system import distributed as parallel
from distill.system.files import digest, write_json
from distill.system.processes import locked
from distill.types import Dataset

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


class OutputStore:
    """One array [M, ...] per split, view and layer, M being all packed pictures; a layer of None is the logits.

    Logits are float32 [M, K], NaN for the rows that the protocol leaves out; feature maps have the type in which the teacher
    answers (bfloat16 as its bits), so that they equal those of the live teacher.

    Args:
        folder: where this teacher's answers about this data set lie.
        expected: manifest() of what is needed; the folder's own must be equal.
        data: the packed data set.

    Raises:
        ValueError: the folder holds answers of something else, or is damaged.
    """

    def __init__(self, folder: Path, expected: dict, data: Dataset):
        self.folder, self.data, self.compared = folder, data, set[Path]()
        self.is_bfloat16 = expected["precision"] == "torch.bfloat16"
        path = folder / "manifest.json"
        if not parallel.broadcast_from_main(path.exists):
            with parallel.only_main(locked(Path(f"{folder}.lock"))):
                if parallel.is_main() and not path.exists():
                    write_json(path, expected)
            parallel.barrier()  # what the main process wrote is there
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: damaged ({error}). Delete the folder; the logits are computed again.") from error
        for field in [*expected, *stored]:
            if stored.get(field) != expected.get(field):
                raise ValueError(
                    f"teacher cache {folder}: its {field!r} is {stored.get(field)}, this run needs "
                    f"{expected.get(field)}. Delete the folder, or use teacher.cache=true for one of its own."
                )

    def path(self, split: str, view_id: int, layer: Layer | None = None) -> Path:
        """Return the file of an array."""
        return self.folder / f"{split}-view{view_id}{f'-{layer.name}'.replace(':', '_') if layer else ''}.npy"

    def lock(self, split: str, view_id: int) -> AbstractContextManager:
        """Return what holds off other processes that would compute the same view."""
        return locked(Path(f"{self.path(split, view_id)}.lock"))

    def bytes_of(self, layer: Layer) -> int:
        """Return the disk space of a layer's feature maps of one training view."""
        return len(self.data.splits["train"].pixels) * (2 if self.is_bfloat16 else 4) * math.prod(layer.shape)

    def read(self, split: str, view_id: int, layer: Layer | None = None) -> np.ndarray:
        """Return a stored array: logits in memory, a layer's maps mapped from disk.

        Raises:
            ValueError: it is damaged, or not of these shapes.
        """
        path = self.path(split, view_id, layer)
        shape = (len(self.data.splits[split].pixels), *(layer.shape if layer else [len(self.data.classes)]))
        try:
            array = np.load(path, mmap_mode="r")
            with open(path, "rb") as file:
                file.seek(array.offset + array.nbytes)
                sha256 = file.read()  # none: of an earlier version
            if path not in self.compared and sha256 and sha256 != hashlib.sha256(array).digest():
                raise ValueError("its content does not have the SHA-256 behind it")
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: damaged ({error}). Delete it; it is computed again.") from error
        bits = layer is not None and self.is_bfloat16
        if array.shape != shape or not (array.dtype == np.float32 or (bits and array.dtype == np.uint16)):
            raise ValueError(f"{path}: holds {array.dtype} {array.shape}, not float32 {shape}. Delete it.")
        if layer is None:
            return np.array(array)
        self.compared.add(path)  # half a gigabyte a second: once is enough
        return array


def seal(path: Path, array: np.ndarray) -> None:
    """Write the SHA-256 of an array behind it in its file: a block of zeros that a power cut left would be taken for answers."""
    with open(path, "ab") as file:
        file.write(hashlib.sha256(array).digest())


def to_array(x: Tensor) -> np.ndarray:
    """Return a tensor's numbers; NumPy has no bfloat16, so its bits."""
    x = x.detach().cpu().contiguous()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def to_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Return the tensor that to_array() was given, of what it gave or a copy of that on a device."""
    x = array if isinstance(array, Tensor) else torch.from_numpy(array)
    return x.view(torch.bfloat16) if x.dtype == torch.uint16 else x
