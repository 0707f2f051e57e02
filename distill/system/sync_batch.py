"""One batch over several processes: each forwards its shard, and every loss sees the whole batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import Function

from distill.system import distributed as parallel
from distill.types import Batch, MixedBatch, Outputs


def local_shard(batch: Batch | MixedBatch) -> Batch | MixedBatch:
    """Return this process's rows of a batch; pictures that they are mixed with come along behind them."""
    if parallel.world() == 1:
        return batch
    rows = parallel.local_slice(len(batch.index))
    mine = type(batch)(*(tensor[rows] for tensor in batch))
    if isinstance(batch, MixedBatch) and isinstance(mine, MixedBatch):
        size = len(mine.index)
        pixels, view = (torch.cat([x[rows], x[mine.partner]]) for x in (batch.pixels, batch.view))
        partner = torch.arange(size, 2 * size, device=mine.partner.device)
        mine = mine._replace(pixels=pixels, view=view, partner=partner)
    return mine


def all_gather_outputs(outputs: Outputs | None, rows: int) -> Outputs | None:
    """Gather a network's outputs for every shard of a batch of so many rows; gradients go back to the shard they are of."""
    if outputs is None or parallel.world() == 1:
        return outputs
    sizes = parallel.shard_sizes(rows)
    features = {name: _AllGather.apply(x, sizes) for name, x in outputs.features.items()}
    return Outputs(_AllGather.apply(outputs.logits, sizes), _AllGather.apply(outputs.heads, sizes), features)


class _AllGather(Function):
    """Every process gets all rows and, computing the same from them, the same gradient, of which it keeps its own rows.

    They are multiplied by the number of processes, so that DistributedDataParallel's mean is right for every parameter: for one
    behind a shard, whose gradients are to be added, and for one that a loss uses itself, whose gradient each process has whole.
    """

    @staticmethod
    def forward(ctx, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.rows = parallel.local_slice(sum(sizes))
        return parallel.gather(x, sizes)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.rows] * parallel.world(), None


@contextmanager
def local_random_numbers() -> Iterator[None]:
    """Within, each of several processes draws random numbers of its own (dropout); outside all draw the same.

    The seed is drawn from the common generator, so that a checkpoint of the main process's generator is enough to go on from.
    """
    if parallel.world() == 1:
        yield
        return
    seed = int(torch.randint(2**62, ())) + parallel.rank()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield


def sync_batch_norm(network: nn.Module) -> None:
    """Exchange a network's BatchNorm layers for torch's SyncBatchNorm, in place; names, parameters and hooks stay."""
    from timm.layers import convert_sync_batchnorm  # seconds to import, and most runs are one process

    before = dict(network.named_modules(remove_duplicate=False))
    convert_sync_batchnorm(network)
    for name, module in network.named_modules(remove_duplicate=False):
        module._forward_hooks, module._forward_pre_hooks = before[name]._forward_hooks, before[name]._forward_pre_hooks
