"""A step that makes the host wait for a GPU fails without one, too: tensors of torch's meta device have no numbers to read."""

from contextlib import nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.training.loop import train_step
from distill.training.optim import Constant, ModelEma, optimizer
from distill.training.state import TrainState

CPU, META = torch.device("cpu"), torch.device("meta")
aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.equal}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}


class NoWaiting(TorchDispatchMode):
    """Refuses numbers of Python made into a tensor, which are copied to a GPU; and of tensors on the meta device their numbers
    read, Boolean indices, and copies from or to the host that are not queued."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation, kwargs = func.overloadpacket, kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if operation is aten.lift_fresh:
            raise AssertionError("numbers of Python are made into a tensor")
        boolean = operation in INDEXING and any(x.dtype == torch.bool for x in given[1:])
        if (operation in READS or boolean) and META in {x.device for x in given}:
            raise AssertionError(f"{func}: numbers of the device are read")
        answer = func(*args, **kwargs)
        places = {x.device for x in [*given, answer] if isinstance(x, torch.Tensor)}
        if operation in COPIES and len(places) > 1 and not kwargs.get("non_blocking"):
            raise AssertionError(f"{func}: a copy between host and device is waited for")
        return answer


def assert_steps_wait_for_nothing(student, objective, teacher, batch, monkeypatch):
    """A step on the CPU shows numbers of Python that become a tensor, one on the meta device what is read and copied.

    In a first step of each, what stays on the device is copied there.
    """
    steps = optimizer([student, objective], "adamw", 1e-3, 0.1, False)
    state = TrainState(student, objective, steps, Constant(), ModelEma(student, 0.9), "net")
    for device in (CPU, META):
        if device == META:
            monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no meta device
            for part in (student, objective, *([teacher] if teacher else [])):
                part.to(META)
            state.optimizer = torch.optim.SGD(state.loss.parameters(), 0.1)  # nor do the fused ones
            state.ema, batch = ModelEma(student, 0.9), type(batch)(*(tensor.to(META) for tensor in batch))
        train_step(batch, teacher, state, torch.float32, 1.0)
        with NoWaiting():
            terms = train_step(batch, teacher, state, torch.float32, 1.0)
        assert {value.device for value in terms.values()} == {device}
