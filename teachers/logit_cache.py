"""The teacher, asked once: its logits for every (view, picture) on disk, so that later runs do no teacher forward at all."""

import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.data.loader import copied, in_order, to, upload
from distill.models.feature_hooks import FeatureInfo, Layer
from distill.models.teacher import LiveTeacher
from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.errors import ConfigError
from distill.system.files import atomic
from distill.system.hardware import faces_per_pass, fits
from distill.types import Batch, Dataset, MixedBatch, Outputs
from teachers.output_store import OutputStore, seal, to_array, to_tensor


class LogitCache:
    """Answers batches from stored logits; a view that is not there yet is computed once, in large batches.

    Args:
        folder: where this teacher's logits on this data set lie, see OutputStore.
        expected: manifest() of what is needed; the folder's own must be equal.
        make: makes the live teacher, called only if a view must be computed.
        data: the packed data set.
        device: where batches live.
        batch_size: pictures per teacher forward pass; none is as many as suit the device.
        features: store feature maps, too; without it a loss that asks for them is refused.
        progress: wraps an iterable of batches, (iterable, total, words) -> iterable.

    Raises:
        ValueError: the folder holds logits of something else, or is damaged.
    """

    learns = False

    def __init__(
        self,
        folder: Path,
        expected: dict,
        make: Callable[[], LiveTeacher],
        data: Dataset,
        device: torch.device,
        batch_size: int | None = None,
        features: bool = False,
        progress: Callable = lambda items, total, words: items,
    ):
        self.store, self.make, self.classes = OutputStore(folder, expected, data), make, tuple(data.classes)
        self.device, self.batch_size = device, batch_size or faces_per_pass(device)
        self.features, self.progress = features, progress
        self.layers: list[Layer] = []
        self.live: LiveTeacher | None = None
        self.current: Tensor | None = None
        self.maps: dict[str, np.ndarray | Tensor] = {}

    @property
    def forward_images(self) -> int:
        """Pictures that went through the live teacher in this process."""
        return self.live.forward_images if self.live else 0

    def live_teacher(self) -> LiveTeacher:
        """Return the live teacher; it is made now if nothing has asked for it yet."""
        if self.live is None:
            with torch.random.fork_rng(devices=[]):  # the network's start draws numbers that dropout counts on
                self.live = self.make()
        return self.live

    def input_size(self) -> int:
        return self.live_teacher().input_size()

    def inspect_layers(self) -> FeatureInfo:
        """Return the layers that a loss can ask for.

        Raises:
            ConfigError: the cache keeps logits alone.
        """
        if not self.features:
            raise ConfigError(
                "teacher", "stored logits have no feature maps. Type teacher.cache=features or teacher.cache=false."
            )
        return self.live_teacher().inspect_layers()

    def attach_hooks(self, layers: list[Layer]) -> None:
        """Store and answer these layers' outputs, too, from now on."""
        self.live_teacher().attach_hooks(layers)
        self.layers += [layer for layer in layers if layer not in self.layers]

    def reserve(self, views: Collection[int]) -> None:
        """Say how large the feature maps are, and refuse those that will not fit on the disk before the first is computed.

        Args:
            views: the training views whose maps will be read, those stored already among them.

        Raises:
            ConfigError: what is missing of them is larger than what is free.
        """
        if not self.layers:
            return
        folder, size = self.store.folder, sum(map(self.store.bytes_of, self.layers))
        console.print(
            f"teacher: the maps that losses ask for take {size / 1e9:.2f} GB per view, {len(views) * size / 1e9:.2f} GB for "
            f"the {len(views)} of this run, in {folder}"
        )
        paths = ((layer, self.store.path("train", view, layer)) for view in views for layer in self.layers)
        needed = sum(self.store.bytes_of(layer) for layer, path in paths if not path.exists())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ConfigError(
                "teacher.cache",
                f"the feature maps of {len(views)} training views need {needed / 1e9:.2f} GB "
                f"more in {folder}, where {free / 1e9:.2f} GB are free. Type augment.num_views=N for fewer views (0 is one for "
                "each epoch), paths.store=DIR on another disk, or teacher.cache=false to run the teacher at every step.",
            )

    def open(self, split: str, view_id: int, table: Tensor, features: bool = True) -> None:
        """Make a view's logits the ones that are answered; compute and store them if they are not there.

        Args:
            split: name of the split.
            view_id: the view, 0 for pictures as packed.
            table: [M, P] its rows.
            features: with the layers that a loss asked for, in the train split; evaluation compares logits.

        Raises:
            ConfigError: the teacher's logits are not all finite.
        """
        layers, store = self.layers if features and split == "train" else [], self.store
        self._fill(split, view_id, table, layers)
        self.current = torch.from_numpy(store.read(split, view_id)).to(self.device)
        self.maps = {layer.name: store.read(split, view_id, layer) for layer in layers}
        if layers and fits(sum(map(store.bytes_of, layers)), self.device):
            self.maps = {name: to_tensor(copied(array, self.device)) for name, array in self.maps.items()}

    def _fill(self, split: str, view_id: int, table: Tensor, layers: list[Layer]) -> None:
        """Compute what is missing of a view in one pass of the teacher: every process answers its batches, the main one writes."""
        store, size, wanted = self.store, self.batch_size, (None, *layers)

        def find_missing() -> list[bool]:
            return [not store.path(split, view_id, layer).exists() for layer in wanted]

        if not any(parallel.broadcast_from_main(find_missing)):
            return
        with parallel.only_main(store.lock(split, view_id)):  # other processes wait
            if any(missing := parallel.broadcast_from_main(find_missing)):
                absent, part, several = list(compress(wanted, missing)), store.data.splits[split], parallel.world()
                where = f"{split} view {view_id}"
                words = f"teacher: {split} as packed" if view_id == 0 else f"teacher: {where}"
                batches = in_order(part, table, size, slice(parallel.rank(), None, several))
                starts = range(0, len(part), size * several)
                with ExitStack() as files:
                    arrays: dict[Layer | None, np.memmap] = {}
                    for start in self.progress(starts, len(starts), words):
                        outputs = self._ask(next(batches, None), where, absent)
                        rows = part.rows[start : start + size * several]
                        sizes = [len(rows[size * r : size * (r + 1)]) for r in range(several)]
                        for layer in absent:
                            values = parallel.gather(outputs[layer], sizes, everywhere=False)
                            if values is None:
                                continue
                            if layer not in arrays:
                                path = files.enter_context(atomic(store.path(split, view_id, layer)))
                                shape = (len(part.pixels), *values.shape[1:])
                                arrays[layer] = np.lib.format.open_memmap(path, "w+", to_array(values).dtype, shape)
                                if layer is None:
                                    arrays[layer][:] = np.nan
                            arrays[layer][rows] = to_array(values)
                    for array in arrays.values():
                        array.flush()
                        seal(array.filename, array)
        parallel.barrier()  # what the main process wrote is there

    def _ask(self, batch: Batch | None, where: str, layers: list[Layer | None]) -> dict[Layer | None, Tensor | None]:
        """Return the live teacher's answers that are missing about a batch, where there is one."""
        if batch is None:
            return dict.fromkeys(layers)
        answer = self.live_teacher()(to(batch, self.device))
        if not answer.logits.isfinite().all():
            raise ConfigError("teacher", f"its logits of {where} are not all finite. Try teacher.precision=fp32.")
        return {layer: answer.features[layer.name] if layer else answer.logits for layer in layers}

    def __call__(self, batch: Batch) -> Outputs:
        assert self.current is not None, "open() a view first"
        assert not isinstance(batch, MixedBatch), "a cache knows faces, not their mixtures"
        logits = self.current[batch.index]
        features = {name: self._rows(maps, batch.index) for name, maps in self.maps.items()}
        return Outputs(logits, logits[:, None], features)

    def _rows(self, maps: np.ndarray | Tensor, index: Tensor) -> Tensor:
        if isinstance(maps, Tensor):
            return maps[index]
        return upload(to_tensor(maps[index.cpu().numpy()]), self.device)  # on disk: the GPU is waited for
