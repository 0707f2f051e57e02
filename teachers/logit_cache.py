"""The teacher, asked once: its logits for every (view, picture) on disk, so that later runs do no teacher forward at all."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.data.loader import copied, upload
from distill.models.feature_hooks import FeatureInfo, Layer
from distill.models.teacher import LiveTeacher
from distill.system.console import console
from distill.system.errors import ConfigError
from distill.system.hardware import fits
from distill.types import Batch, Dataset, MixedBatch, Outputs
from teachers.output_fill import fill
from teachers.output_store import OutputStore, to_tensor


class LogitCache:
    """Answers batches from stored logits; a view that is not there yet is computed once, in large batches.

    Args:
        folder: where this teacher's logits on this data set lie, see OutputStore.
        expected: manifest() of what is needed; the folder's own must be equal.
        make: makes the live teacher, called only if a view must be computed.
        data: the packed data set.
        device: where batches live.
        batch_size: pictures per teacher forward pass.
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
        batch_size: int = 256,
        features: bool = False,
        progress: Callable = lambda items, total, words: items,
    ):
        self.store, self.make, self.classes = OutputStore(folder, expected, data), make, tuple(data.classes)
        self.device, self.batch_size, self.features, self.progress = device, batch_size, features, progress
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
        """
        layers, store = self.layers if features and split == "train" else [], self.store
        fill(store, self.live_teacher, split, view_id, table, layers, self.device, self.batch_size, self.progress)
        self.current = torch.from_numpy(store.read(split, view_id)).to(self.device)
        self.maps = {layer.name: store.read(split, view_id, layer) for layer in layers}
        if layers and fits(sum(map(store.bytes_of, layers)), self.device):
            self.maps = {name: to_tensor(copied(array, self.device)) for name, array in self.maps.items()}

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
