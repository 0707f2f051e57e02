"""The teacher, asked once: its logits for every (view, picture) on disk, so that later runs do no teacher forward at all."""

import json
import math
import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from distill.augment.views import VERSION, ViewRecipe
from distill.data.loader import in_order, to
from distill.models.feature_hooks import Layer, Survey
from distill.system import distributed as parallel
from distill.system.files import atomic, digest, write_json
from distill.types import Batch, Dataset, MixedBatch, Outputs

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

    One array [M, K] float32 per split and view, rows that the protocol leaves out are NaN. With features, the layers that a
    loss asks for lie beside it, each an array [M, ...] per training view in the type in which the teacher answers
    (bfloat16 as its bits), so that they equal those of the live teacher.

    Args:
        folder: where this teacher's logits on this data set lie.
        expected: manifest() of what is needed; the folder's own must be equal.
        make: makes the live teacher, called only if a view must be computed.
        data: the packed data set.
        device: where batches live.
        batch_size: pictures per teacher forward pass.
        features: store inner layers, too; without it a loss that asks for them is refused.
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
        features: bool = False,
        progress: Callable = lambda items, total, words: items,
    ):
        self.folder, self.expected, self.make, self.data = folder, expected, make, data
        self.device, self.batch_size, self.features, self.progress = device, batch_size, features, progress
        self.layers: list[Layer] = []
        self.classes = tuple(data.classes)
        self.live: nn.Module | None = None
        self.current: Tensor | None = None
        self.maps: dict[str, np.ndarray] = {}
        self._claim()

    @property
    def forward_images(self) -> int:
        """Pictures that went through the live teacher in this process."""
        return self.live.forward_images if self.live else 0

    def _claim(self) -> None:
        path = self.folder / "manifest.json"
        with parallel.only_main(FileLock(f"{self.folder}.lock")):
            if parallel.broadcast_from_main(lambda: not path.exists()):
                if parallel.is_main():
                    write_json(path, self.expected)
                return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: damaged ({error}). Delete the folder; the logits are computed again.") from error
        for field in [*self.expected, *found]:
            if found.get(field) != self.expected.get(field):
                raise ValueError(
                    f"teacher cache {self.folder}: its {field!r} is {found.get(field)}, this run needs "
                    f"{self.expected.get(field)}. Delete the folder, or use teacher.cache=true for one of its own."
                )

    @property
    def bytes_per_view(self) -> int:
        """Disk space of one training view's feature maps."""
        return sum(map(self._bytes, self.layers))

    def _bytes(self, layer: Layer) -> int:
        width = 2 if self.expected["precision"] == "torch.bfloat16" else 4
        return len(self.data.splits["train"].pixels) * width * math.prod(layer.shape)

    def refuse_too_large(self, views: Collection[int]) -> None:
        """Refuse feature maps that will not fit on the disk, before the first of them is computed.

        Args:
            views: the training views whose maps will be read, those stored already among them.

        Raises:
            ValueError: what is missing of them is larger than what is free.
        """
        places = ((layer, self._path("train", view, layer)) for view in views for layer in self.layers)
        needed = sum(self._bytes(layer) for layer, path in places if not path.exists())
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise ValueError(
                f"teacher.cache: features was asked for; the feature maps of {len(views)} training views need {needed / 1e9:.2f} GB "
                f"more in {self.folder}, where {free / 1e9:.2f} GB are free. Type views.cached=N for fewer views (0 is one for "
                "each epoch), paths.store=DIR on another disk, or teacher.cache=false to run the teacher at every step."
            )

    def input_size(self) -> int:
        return self.awake().input_size()

    def survey(self) -> Survey:
        """Return the layers that a loss can ask for.

        Raises:
            ValueError: the cache keeps logits alone.
        """
        if not self.features:
            raise ValueError(
                "teacher: stored logits have no feature maps. Type teacher.cache=features or teacher.cache=false."
            )
        return self.awake().survey()

    def tap(self, layers: list[Layer]) -> None:
        """Store and answer these layers' outputs, too, from now on."""
        self.awake().tap(layers)
        self.layers += [layer for layer in layers if layer not in self.layers]

    def live_network(self) -> nn.Module:
        """Return the live teacher's network, whose classifier a loss may read."""
        return self.awake().live_network()

    def open(self, split: str, view_id: int, table: Tensor, maps: bool = True) -> None:
        """Make a view's logits the ones that are answered; compute and store them if they are not there.

        Args:
            split: name of the split.
            view_id: the view, 0 for pictures as packed.
            table: [M, P] its rows.
            maps: with the layers that a loss asked for, in the train split; evaluation compares logits.
        """
        layers = self.layers if maps and split == "train" else []
        self._fill(split, view_id, table, layers)
        self.current = torch.from_numpy(self._read(self._path(split, view_id), split)).to(self.device)
        self.maps = {layer.name: self._read(self._path(split, view_id, layer), split, layer) for layer in layers}

    def __call__(self, batch: Batch) -> Outputs:
        assert self.current is not None, "open() a view first"
        assert not isinstance(batch, MixedBatch), "a cache knows faces, not their mixtures"
        logits, rows = self.current[batch.index], batch.index.cpu().numpy()
        features = {name: _tensor(array[rows]).to(self.device) for name, array in self.maps.items()}
        return Outputs(logits, logits[:, None], features)

    def _path(self, split: str, view_id: int, layer: Layer | None = None) -> Path:
        return self.folder / f"{split}-view{view_id}{f'-{layer.name}'.replace(':', '_') if layer else ''}.npy"

    def _fill(self, split: str, view_id: int, table: Tensor, layers: list[Layer]) -> None:
        """Compute what is missing of a view, in one pass of the teacher, while other processes wait."""
        with parallel.only_main(FileLock(f"{self._path(split, view_id)}.lock")):
            wanted = (None, *layers)
            missing = parallel.broadcast_from_main(
                lambda: [not self._path(split, view_id, layer).exists() for layer in wanted]
            )
            if any(missing):
                self._compute(split, view_id, table, list(compress(wanted, missing)))
        parallel.barrier()  # what the main process wrote is there

    def _read(self, path: Path, split: str, layer: Layer | None = None) -> np.ndarray:
        """Return a stored array: logits in memory, a layer's maps mapped from disk."""
        shape = (len(self.data.splits[split].pixels), *(layer.shape if layer else [len(self.classes)]))
        try:
            array = np.load(path, mmap_mode="r" if layer else None)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: damaged ({error}). Delete it; it is computed again.") from error
        bits = layer is not None and self.expected["precision"] == "torch.bfloat16"
        if array.shape != shape or not (array.dtype == np.float32 or (bits and array.dtype == np.uint16)):
            raise ValueError(f"{path}: holds {array.dtype} {array.shape}, not float32 {shape}. Delete it.")
        return array

    def awake(self) -> nn.Module:
        """Return the live teacher; it is made now if nothing has asked for it yet."""
        if self.live is None:
            with torch.random.fork_rng(devices=[]):  # the network's start draws numbers that dropout counts on
                self.live = self.make()
        return self.live

    def _compute(self, split: str, view_id: int, table: Tensor, missing: list[Layer | None]) -> None:
        """Answer a batch per process and round; the main process writes them, so that one file has one writer."""
        part, size, several = self.data.splits[split], self.batch_size, parallel.world()
        words = f"teacher: {split} as packed" if view_id == 0 else f"teacher: {split} view {view_id}"
        own = in_order(part, table, size, slice(parallel.rank(), None, several))
        starts = range(0, len(part), size * several)
        with ExitStack() as files:
            arrays: dict[Layer | None, np.ndarray] = {}
            for start in self.progress(starts, len(starts), words):
                found = self._answer(next(own, None), f"{split} view {view_id}", missing)
                rows = part.rows[start : start + size * several]
                sizes = [len(rows[size * r : size * (r + 1)]) for r in range(several)]
                for layer in missing:
                    values = parallel.gather(found[layer], sizes, everywhere=False)
                    if values is None:
                        continue
                    if layer not in arrays:
                        path = files.enter_context(atomic(self._path(split, view_id, layer)))
                        shape = (len(part.pixels), *values.shape[1:])
                        arrays[layer] = np.lib.format.open_memmap(path, "w+", _array(values).dtype, shape)
                        if layer is None:
                            arrays[layer][:] = np.nan
                    arrays[layer][rows] = _array(values)
            for array in arrays.values():
                array.flush()

    def _answer(
        self, batch: Batch | None, where: str, missing: list[Layer | None]
    ) -> dict[Layer | None, Tensor | None]:
        """Return the live teacher's answers that are missing about a batch, where there is one."""
        live = self.awake()
        if batch is None:
            return dict.fromkeys(missing)
        answer = live(to(batch, self.device))
        if not answer.logits.isfinite().all():
            raise ValueError(f"teacher: its logits of {where} are not all finite. Try teacher.precision=fp32.")
        return {layer: answer.features[layer.name] if layer else answer.logits for layer in missing}


def _array(x: Tensor) -> np.ndarray:
    """Return a tensor's numbers; NumPy has no bfloat16, so its bits."""
    x = x.detach().cpu().contiguous()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _tensor(array: np.ndarray) -> Tensor:
    x = torch.from_numpy(array)
    return x.view(torch.bfloat16) if x.dtype == torch.uint16 else x
