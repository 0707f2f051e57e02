"""Several processes that do one job, as torchrun starts them: who this one is, and how they broadcast, gather and fail.

With one process everything here does nothing and returns what it was given.
"""

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill.system.cli import format_error
from distill.system.errors import ConfigError

T = TypeVar("T")
# the others wait while one packs, downloads, or waits for a lock; torchrun ends them if it dies
PATIENCE = timedelta(days=2)
NEEDED = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_job: dict[str, Any] = {"store": None, "first": None}


class PeerLost(ValueError):
    """Another process of this job is gone; what there is to say, it has said."""


def expected_world_size() -> int:
    """Return how many processes torchrun started for this job, before they have met."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in NEEDED) else 1


def world() -> int:
    """Return how many processes do this job."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this one is, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_main() -> bool:
    """Say whether this process writes, prints and locks."""
    return rank() == 0


def init_process_group() -> None:
    """Meet the other processes that torchrun started, each with a GPU of its own where there are any; only the main one prints.

    Raises:
        ValueError: they did not meet.
    """
    if expected_world_size() == 1 or world() > 1:
        return
    if os.environ["RANK"] != "0":
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, for as long as the process lives
        warnings.showwarning = lambda *ignored, **more: None
    gpus = torch.cuda.device_count() if dist.is_nccl_available() else 0
    local = int(os.environ["LOCAL_RANK"])
    if local < gpus:
        torch.cuda.set_device(local)
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(minutes=30)))
        store.set_timeout(PATIENCE)
        _job["store"] = dist.PrefixStore("fer-distill", store)
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        group = dist.PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=PATIENCE)
    except RuntimeError as error:
        raise ValueError(
            f"torchrun: the {expected_world_size()} processes of this job did not meet ({format_error(error, inside=True)})."
        ) from error


def check_device(name: str) -> None:
    """Refuse devices that several processes cannot have, each one of its own.

    Args:
        name: cpu, cuda or cuda:N.

    Raises:
        ConfigError: the same GPU for all, or fewer GPUs than processes on this machine.
    """
    gpus, here = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if name.startswith("cuda:"):
        raise ConfigError(
            "train.device", f"{name} is one GPU for {world()} processes. Type train.device=cuda: each takes its own."
        )
    if name == "cuda" and here > gpus:
        raise ConfigError(
            "train.device",
            f"{here} processes on this machine, which has {gpus} GPUs. Start torchrun --nproc-per-node={gpus}, "
            "or type train.device=cpu.",
        )


def destroy_process_group() -> None:
    """Part from the other processes."""
    if world() > 1:
        dist.destroy_process_group()


def is_first_failure() -> bool:
    """Say whether this process is the first of its job to fail; the others have nothing to add."""
    if _job["first"] is None:
        first = os.environ.get("RANK", "0") == "0" if expected_world_size() > 1 else True
        if _job["store"] is not None:
            with suppress(RuntimeError):  # the machine that counted is gone
                first = _job["store"].add("failed", 1) == 1
        _job["first"] = first
    return _job["first"]


@contextmanager
def watch_peers() -> Iterator[None]:
    """Within, what torch raises because another process is gone becomes PeerLost; all else stays as it is.

    Raises:
        PeerLost: instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise PeerLost(
            f"another process of this job is gone ({format_error(error, inside=True)}); the same command goes on from the last checkpoint"
        ) from error


def broadcast_from_main(work: Callable[[], T]) -> T:
    """Return on every process what the main one gets by doing this; the others wait for it."""
    if world() == 1:
        return work()
    box: list[Any] = [work() if is_main() else None]
    with watch_peers():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def main_first(work: Callable[[], T]) -> T:
    """Do this on the main process, and then, when what it leaves on the disk is there, on all others."""
    if not is_main():
        barrier()
        return work()
    made = work()
    barrier()
    return made


def only_main(held: AbstractContextManager) -> AbstractContextManager:
    """Return a lock for the main process; the others hold nothing, and wait where they next agree."""
    return held if is_main() else nullcontext()


def barrier() -> None:
    """Wait until every process is here."""
    total(0)


def total(number: int) -> int:
    """Return the sum of every process's number."""
    if world() == 1:
        return number
    numbers = torch.tensor(number)
    with watch_peers():
        dist.all_reduce(numbers)
    return int(numbers)


def shard_sizes(rows: int) -> list[int]:
    """Return how many of some rows are each process's, the first ones one more where they cannot be equal."""
    return [rows // world() + (r < rows % world()) for r in range(world())]


def local_slice(rows: int) -> slice:
    """Return which of some rows are this process's."""
    sizes = shard_sizes(rows)
    return slice(sum(sizes[: rank()]), sum(sizes[: rank() + 1]))


def gather(x: Tensor | None, sizes: list[int], everywhere: bool = True) -> Tensor | None:
    """Put the rows of every process one after the other, bit by bit as they are.

    Args:
        x: this process's rows; None if it has none.
        sizes: how many each process has; the main one has some.
        everywhere: to every process; else to the main one, and the others get None.

    Shape:
        x: [sizes[rank], ...] -> [sum of sizes, ...].
    """
    if world() == 1:
        return x
    if 0 in sizes:
        shape, dtype, kind = broadcast_from_main(lambda: (x.shape[1:], x.dtype, x.device.type))
        x = torch.empty(0, *shape, dtype=dtype, device=kind) if x is None else x
    local, row = x.detach().contiguous(), math.prod(x.shape[1:])
    flat = local.new_zeros(max(sizes) * row)
    flat[: local.numel()] = local.flatten()
    flat = flat.view(torch.uint8)
    parts = [torch.empty_like(flat) for _ in sizes] if everywhere or is_main() else None
    with watch_peers():
        dist.all_gather(parts, flat) if everywhere else dist.gather(flat, parts, dst=0)
    if parts is None:
        return None
    rows = [part.view(x.dtype)[: n * row].view(n, *x.shape[1:]) for part, n in zip(parts, sizes, strict=True)]
    return torch.cat(rows)


def data_parallel(module: nn.Module) -> nn.Module:
    """Return a module of which backward() averages the gradients over all processes, from the main one's parameters on.

    A parameter that no loss reaches keeps the gradient None, which weight decay passes over, as in one process.

    Args:
        module: ends in what backward() is called on.
    """
    if world() == 1:
        return module
    some = next(module.parameters())
    module.unreached = nn.Parameter(some.new_empty(0))  # where all are reached, torch advises every run against looking
    return DistributedDataParallel(module, find_unused_parameters=True)


@torch.no_grad()
def broadcast_parameters(*modules: nn.Module) -> None:
    """Give every process the main one's parameters and buffers.

    Args:
        modules: the same in every process, by shape.
    """
    if world() == 1:
        return
    for tensor in chain(*(chain(m.parameters(), m.buffers()) for m in modules)):
        same = tensor.detach().clone(memory_format=torch.contiguous_format)
        with watch_peers():
            dist.broadcast(same, src=0)
        tensor.copy_(same)
