"""The teacher, asked once: every process answers its batches, the main one writes them down."""

from collections.abc import Callable
from contextlib import ExitStack
from itertools import compress

import numpy as np
import torch
from torch import Tensor, nn

from distill.data.loader import in_order, to
from distill.models.feature_hooks import Layer
from distill.system import distributed as parallel
from distill.system.errors import ConfigError
from distill.system.files import atomic
from distill.types import Batch
from teachers.output_store import OutputStore, seal, to_array


def fill(
    store: OutputStore,
    live: Callable[[], nn.Module],
    split: str,
    view_id: int,
    table: Tensor,
    layers: list[Layer],
    device: torch.device,
    batch_size: int,
    progress: Callable,
) -> None:
    """Compute what is missing of a view, in one pass of the teacher, while other processes wait.

    Args:
        store: what is stored, and where.
        live: returns the live teacher; it is called only if something is missing.
        split: name of the split.
        view_id: the view, 0 for pictures as packed.
        table: [M, P] its rows.
        layers: whose feature maps are needed beside the logits.
        device: where batches live.
        batch_size: pictures per teacher forward pass.
        progress: wraps an iterable of batches, (iterable, total, words) -> iterable.

    Raises:
        ValueError: the teacher's logits are not all finite.
    """
    with parallel.only_main(store.lock(split, view_id)):
        wanted = (None, *layers)
        missing = parallel.broadcast_from_main(
            lambda: [not store.path(split, view_id, layer).exists() for layer in wanted]
        )
        if any(missing):
            absent, part, several = list(compress(wanted, missing)), store.data.splits[split], parallel.world()
            words = f"teacher: {split} as packed" if view_id == 0 else f"teacher: {split} view {view_id}"
            batches = in_order(part, table, batch_size, slice(parallel.rank(), None, several))
            starts = range(0, len(part), batch_size * several)
            with ExitStack() as files:
                arrays: dict[Layer | None, np.memmap] = {}
                for start in progress(starts, len(starts), words):
                    outputs = _answer(live(), next(batches, None), f"{split} view {view_id}", absent, device)
                    rows = part.rows[start : start + batch_size * several]
                    sizes = [len(rows[batch_size * r : batch_size * (r + 1)]) for r in range(several)]
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
                for layer, array in arrays.items():
                    array.flush()
                    if layer is None:
                        seal(array.filename, array)
    parallel.barrier()  # what the main process wrote is there


def _answer(
    live: nn.Module, batch: Batch | None, where: str, layers: list[Layer | None], device: torch.device
) -> dict[Layer | None, Tensor | None]:
    """Return the live teacher's answers that are missing about a batch, where there is one."""
    if batch is None:
        return dict.fromkeys(layers)
    answer = live(to(batch, device))
    if not answer.logits.isfinite().all():
        raise ConfigError("teacher", f"its logits of {where} are not all finite. Try teacher.precision=fp32.")
    return {layer: answer.features[layer.name] if layer else answer.logits for layer in layers}
