"""Optimizers, learning-rate schedules and the moving average of the weights."""

import math
from typing import Any

import torch
from torch import nn, optim

from distill.system.errors import ConfigError, expect

OPTIMIZERS = {kind.__name__.lower(): kind for kind in (optim.AdamW, optim.Adam, optim.Adamax, optim.SGD)}


def optimizer(
    modules: list[nn.Module],
    name: str,
    lr: float,
    weight_decay: float,
    decay_biases: bool,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = True,
    lr_scale: dict[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Make an optimizer over the parameters of several modules.

    Args:
        modules: the student and the objective (for a loss's learned parts).
        name: adamw, adam, adamax or sgd.
        lr: learning rate before the schedule.
        weight_decay: decay of weights; biases and norm scales (rank 0 and 1) get none unless decay_biases.
        decay_biases: decay every parameter, as the published recipes do.
        betas: moment decays of the Adam family.
        eps: denominator's floor of the Adam family.
        momentum: of sgd.
        nesterov: of sgd.
        lr_scale: factor of lr for parameters whose name begins with a key, e.g. {classifiers.: 100}.

    Raises:
        ConfigError: unknown name, or an lr_scale key that fits no parameter.
    """
    if name not in OPTIMIZERS:
        raise ConfigError("optimizer.name", f"{name} is unknown. Choose one of {', '.join(OPTIMIZERS)}.")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    scales = dict(lr_scale or {})
    parts = {f"{name}." for module in modules for name, _ in module.named_modules()}
    unused = set(scales) - parts  # a part of the network that one of its variants leaves empty is no mistake
    for parameter_name, parameter in ((n, p) for m in modules for n, p in m.named_parameters() if p.requires_grad):
        prefix = max((key for key in scales if parameter_name.startswith(key)), key=len, default="")
        unused.discard(prefix)
        decay = weight_decay if decay_biases or parameter.ndim > 1 else 0.0
        groups.setdefault((lr * scales.get(prefix, 1.0), decay), []).append(parameter)
    if unused:
        raise ConfigError("student.lr_scale", f"no parameter's name begins with {sorted(unused)[0]!r}.")
    options = {"momentum": momentum, "nesterov": nesterov} if name == "sgd" else {"betas": tuple(betas), "eps": eps}
    if name != "adamax":
        options["fused"] = True
    listed = [{"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
    return OPTIMIZERS[name](listed, **options)


class Schedule:
    """A factor of every learning rate: linear warm-up, then the shape that a subclass gives.

    lr_factor(t) = t / warmup for t < warmup, else shape((t - warmup) / (epochs - warmup)), t in epochs, fractions included.

    Args:
        warmup: epochs of linear warm-up.
    """

    def __init__(self, warmup: float = 0.0):
        self.warmup = warmup

    def shape(self, progress: float) -> float:
        return 1.0

    def observe(self, value: float) -> None:
        """Take the epoch's selection metric (larger is better)."""

    def lr_factor(self, epoch: float, epochs: float) -> float:
        if epoch < self.warmup:
            return max(epoch, 1e-3) / self.warmup
        return self.shape((epoch - self.warmup) / max(epochs - self.warmup, 1e-9))

    def restart(self) -> None:
        """Forget what was observed; a new phase begins."""

    def apply(self, optimizer: torch.optim.Optimizer, epoch: float, epochs: float, scale: float = 1.0) -> float:
        """Set the learning rates of an optimizer to scale times the factor and return both's product."""
        factor = scale * self.lr_factor(epoch, epochs)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return factor

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


class Constant(Schedule):
    """The learning rate stays as it is after warm-up."""


class Cosine(Schedule):
    """factor = final + (1 - final) * (1 + cos(pi * progress)) / 2 after warm-up.

    Args:
        warmup: epochs of linear warm-up.
        final: factor at the end.

    Reference: Loshchilov and Hutter, SGDR, arXiv 1608.03983, eq. 5, one period.
    """

    def __init__(self, warmup: float, final: float = 0.0):
        super().__init__(warmup)
        self.final = final

    def shape(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


class Exponential(Schedule):
    """factor = rate ^ floor((t - warmup) / every) after warm-up, t in epochs: a staircase down.

    Args:
        warmup: epochs of linear warm-up.
        rate: what the factor is multiplied by at each stair, in (0, 1].
        every: epochs between two stairs, above 0.

    Raises:
        ConfigError: a rate or a number of epochs that cannot be.
    """

    def __init__(self, warmup: float = 0.0, rate: float = 0.95, every: float = 1.0):
        super().__init__(warmup)
        expect(0 < rate <= 1, "schedule.rate", "a factor above 0 and at most 1, such as 0.95", rate)
        expect(every > 0, "schedule.every", "a number above 0", every)
        self.rate, self.every = rate, every

    def lr_factor(self, epoch: float, epochs: float) -> float:
        if epoch < self.warmup:
            return super().lr_factor(epoch, epochs)
        stairs = math.floor((epoch - self.warmup) / self.every + 1e-9)  # 0.3 / 0.1 is below 3
        return self.rate**stairs


class Plateau(Schedule):
    """The factor falls each time the validation metric has not risen for some epochs.

    Args:
        warmup: epochs of linear warm-up.
        factor: what the learning rate is multiplied by.
        patience: epochs without improvement before that.
        threshold: relative rise that counts as one.
    """

    def __init__(self, warmup: float = 0.0, factor: float = 0.2, patience: int = 5, threshold: float = 1e-4):
        super().__init__(warmup)
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.restart()

    def restart(self) -> None:
        self.best, self.waited, self.current = -math.inf, 0, 1.0

    def shape(self, progress: float) -> float:
        return self.current

    def observe(self, value: float) -> None:
        if value > self.best + self.threshold * abs(self.best) or self.best == -math.inf:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.current, self.waited = self.current * self.factor, 0


class ModelEma:
    """An exponential moving average of a module's weights and buffers.

    a <- a + (1 - d) (w - a), d = min(decay, (1 + n) / (10 + n)) at update n, so that a short run is not stuck at its start.

    Args:
        module: the module that is followed.
        decay: the largest decay.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.values = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = module.state_dict()
        floating = [name for name, value in self.values.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.values[n] for n in floating], [state[n] for n in floating], 1 - decay)
        for name in self.values.keys() - set(floating):
            self.values[name].copy_(state[name])

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)
