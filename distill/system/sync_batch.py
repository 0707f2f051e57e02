"""One batch over several processes: each forwards its share, and all compute as one process would with the whole batch.

Batch statistics are those of all shares, dropout's masks are drawn for all of them, and answers are gathered so that every
process compares the whole batch with every loss: relations between pictures, memories and learned parts stay what they are.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from distill.system import distributed as parallel
from distill.types import Batch, MixedBatch, Outputs


def share_of(batch: Batch | MixedBatch) -> Batch | MixedBatch:
    """Return this process's share of a batch; pictures that its own are mixed with come along behind them."""
    if parallel.world() == 1:
        return batch
    own = parallel.own_share(len(batch.index))
    mine = type(batch)(*(tensor[own] for tensor in batch))
    if isinstance(batch, MixedBatch):
        size = len(mine.index)
        pixels, view = (torch.cat([x[own], x[mine.partner]]) for x in (batch.pixels, batch.view))
        partner = torch.arange(size, 2 * size, device=mine.partner.device)
        mine = mine._replace(pixels=pixels, view=view, partner=partner)
    return mine


def whole(outputs: Outputs | None, rows: int) -> Outputs | None:
    """Gather a network's answers about every share of a batch of so many rows; gradients go back to the share they are of."""
    if outputs is None or parallel.world() == 1:
        return outputs
    sizes = parallel.shares(rows)
    features = {name: _Gather.apply(x, sizes) for name, x in outputs.features.items()}
    return Outputs(_Gather.apply(outputs.logits, sizes), _Gather.apply(outputs.heads, sizes), features)


class _Gather(Function):
    """Every process gets all rows and, computing the same from them, the same gradient, of which it keeps its own rows.

    They are multiplied by the number of processes, so that the mean over processes is right for every parameter: for one behind a
    share, whose gradients are to be added, and for one that a loss uses itself, whose gradient each process has whole.
    """

    @staticmethod
    def forward(ctx, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.own = parallel.own_share(sum(sizes))
        return parallel.gather(x, sizes)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.own] * parallel.world(), None


def one_batch(rows: int) -> AbstractContextManager:
    """Within, networks in train mode compute with their share of so many rows as with the whole batch."""
    return nullcontext() if parallel.world() == 1 else _OneBatch(rows)


class _OneBatch(TorchFunctionMode):
    """Takes calls of functions that look beyond one picture, or draw numbers, in place of torch.

    So no module is exchanged (torch.nn.SyncBatchNorm is another class, and knows no CPU): state dicts, checkpoints and exports are
    those of the network as it is. Every process draws for the whole batch from equal generators, so that they stay equal, and one
    checkpoint does for any number of processes.

    Args:
        rows: of the whole batch.
    """

    def __init__(self, rows: int):
        super().__init__()
        self.rows, self.own = rows, parallel.own_share(rows)
        self.size = self.own.stop - self.own.start

    def __torch_function__(self, function, types, arguments=(), more=None):
        more = more or {}
        if function is F.batch_norm:
            return _batch_norm(*arguments, **more)
        if function in _MASKS:
            return self._dropout(function, *arguments, **more)
        if function is Tensor.bernoulli_:
            return self._bernoulli(*arguments, **more)
        if function in _APART and (function is not F.scaled_dot_product_attention or _drops(*arguments, **more)):
            return _apart(function, arguments, more)
        return function(*arguments, **more)

    def _rows(self, x: Tensor) -> Tensor:
        """Return this share's rows of what was made for the whole batch, or for several copies of it one after the other."""
        return x.unflatten(0, (-1, self.rows))[:, self.own].flatten(0, 1)

    def _like(self, x: Tensor) -> Tensor:
        """Return an empty tensor of the whole batch where x is of a share, in the same memory format."""
        shape = (len(x) // self.size * self.rows, *x.shape[1:])
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        return torch.empty(
            shape,
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )

    def _dropout(self, function, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        if len(x) % self.size:
            return _apart(function, (x, p, training), {})
        return x * self._rows(function(torch.ones_like(self._like(x)), p, True))

    def _bernoulli(self, x: Tensor, p: float = 0.5, **more) -> Tensor:
        if isinstance(p, Tensor) or x.ndim == 0 or len(x) % self.size:
            return _apart(Tensor.bernoulli_, (x, p), more)
        return x.copy_(self._rows(self._like(x).bernoulli_(p, **more)))


_MASKS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d}
_APART = {F.scaled_dot_product_attention, F.multi_head_attention_forward, F.alpha_dropout, F.feature_alpha_dropout}
_APART |= {F.rrelu, F.gumbel_softmax, torch.rand, torch.randn, torch.rand_like, torch.randn_like, torch.bernoulli}
_APART |= {torch.randint, torch.randperm, torch.multinomial, Tensor.uniform_, Tensor.normal_, Tensor.random_}
_warned: list[str] = []


def _drops(query, key, value, attn_mask=None, dropout_p: float = 0.0, *rest, **more) -> bool:
    return dropout_p > 0


def _apart(function, arguments: tuple, more: dict):
    """Let every process draw from a generator of its own, seeded by the common one, which stays common."""
    if not _warned:
        _warned.append(function.__name__)
        warnings.warn(
            f"{function.__name__}: draws random numbers that are other ones with {parallel.world()} processes than with one. The "
            "run is as good, and goes on exactly where it was stopped, but its numbers are not those of one process.",
            stacklevel=2,
        )
    seed = int(torch.randint(2**62, ())) + parallel.rank()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        return function(*arguments, **more)


def _batch_norm(
    x,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm; in train mode mean and variance are those of all processes' rows."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    y, mean, variance, count = _BatchNorm.apply(x, weight, bias, eps)
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var), momentum)
    return y


class _BatchNorm(Function):
    """y = (x - m) / sqrt(v + eps) * weight + bias, m and v the mean and the variance of every process's rows and places.

    dx = (dy - mean(dy) - xhat mean(dy xhat)) weight / sqrt(v + eps), xhat the normalised x, means over every process's too.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float):
        over = [0, *range(2, x.ndim)]
        variance, mean = (s.double() for s in torch.var_mean(_wide(x), over, correction=0))
        count = mean.new_full((1,), x.numel() / x.shape[1])
        parts = parallel.gather(torch.cat([count, mean, variance])[None], [1] * parallel.world())
        counts, means, variances = parts.split([1, len(mean), len(mean)], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean).square())).sum(0) / total
        scale = (variance + eps).rsqrt()
        mean, scale, kind = mean.to(_wide(x).dtype), scale.to(_wide(x).dtype), variance.to(_wide(x).dtype)
        y = torch.batch_norm(x, weight, bias, mean, kind, False, 0.0, eps, False)
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.mark_non_differentiable(mean, kind, total)
        return y, mean, kind, total

    @staticmethod
    def backward(ctx, dy: Tensor, *ignored):
        x, weight, mean, scale, count = ctx.saved_tensors
        shape, over = [1, -1, *[1] * (x.ndim - 2)], [0, *range(2, x.ndim)]
        dy, unit = _wide(dy), (_wide(x) - mean.view(shape)) * scale.view(shape)
        d_bias, d_weight = dy.sum(over), (dy * unit).sum(over)
        means = parallel.reduce_sum(torch.stack([d_bias, d_weight]).double()) / count
        of_dy, of_both = (m.to(dy.dtype).view(shape) for m in means)
        factor = scale if weight is None else scale * weight
        dx = ((dy - of_dy - unit * of_both) * factor.view(shape)).to(x.dtype)
        return dx, None if weight is None else d_weight.to(weight), None if weight is None else d_bias.to(weight), None


def _wide(x: Tensor) -> Tensor:
    """Return x in float32 at least."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
