"""Ranges of a run's config: numbers out of range, and parts that do not make up a run."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from torch import nn

from distill.losses.base.ramps import ramp
from distill.runs.config import AugmentConfig, TrainConfig
from distill.system import distributed as parallel
from distill.system.errors import ConfigError, expect
from distill.system.typed import as_typed, fits

SELECTABLE = tuple(
    f"valid/{name}"
    for name in ("top1_accuracy", "mean_class_accuracy", "expected_calibration_error", "nll", "agreement", "kl")
)


def check_train(key: str, train: TrainConfig, least_epochs: int) -> None:
    """Refuse numbers under train, of the run or of a teacher, that are out of range.

    Args:
        key: train, or teacher.train, for messages.
        train: the keys under it.
        least_epochs: 1, or 0 where finished weights may be taken as they are.

    Raises:
        ConfigError: the first that is, and what to give.
    """
    least = {"epochs": least_epochs, "batch_size": 1, "log_every_n_steps": 1}
    least |= {"ema_decay": 0, "class_balance_power": 0, "mixup": 0}
    for name, bound in least.items():
        expect(getattr(train, name) >= bound, f"{key}.{name}", f"{bound} or more", getattr(train, name))
    expect((train.min_steps or 0) >= 0, f"{key}.min_steps", "0 or more, or null", train.min_steps)
    if train.batch_size < (processes := parallel.expected_world_size()):
        raise ConfigError(
            f"{key}.batch_size",
            f"expected {processes} or more, that of all {processes} processes together, got {train.batch_size}. "
            f"Give that, or start fewer with torchrun --nproc-per-node=N.",
        )
    expect(train.ema_decay < 1, f"{key}.ema_decay", "a decay below 1, or 0 for none", train.ema_decay)
    if train.max_grad_norm is not None and train.max_grad_norm <= 0:
        raise ConfigError(
            f"{key}.max_grad_norm", f"expected a norm above 0, or null for none, got {train.max_grad_norm:g}."
        )
    expect(train.precision in ("auto", "fp32", "bf16"), f"{key}.precision", "auto, fp32 or bf16", repr(train.precision))
    if train.monitor.removeprefix("-") not in SELECTABLE:
        raise ConfigError(
            f"{key}.monitor",
            f"expected a validation metric, got {train.monitor!r}; the best epoch is chosen on validation alone. "
            f"Type one of {', '.join(SELECTABLE)}, with a minus sign in front where less is better.",
        )


def check_optimizer(key: str, node: dict) -> None:
    """Refuse numbers of an optimizer or a schedule that are out of range.

    Args:
        key: optimizer, or teacher.schedule, for messages.
        node: the keys under it.

    Raises:
        ConfigError: the first that is, and what to give.
    """
    for name in ("lr", "weight_decay", "eps", "momentum", "warmup", "final", "factor", "patience", "threshold"):
        expect(node.get(name, 0) >= 0, f"{key}.{name}", "0 or more", node.get(name))
    for name in ("momentum", "factor"):
        expect(node.get(name, 0) < 1, f"{key}.{name}", "a number below 1", node.get(name))
    if node.get("nesterov") and node.get("momentum") == 0:
        raise ConfigError(f"{key}.nesterov", f"needs a momentum above 0. Type {key}.nesterov=false with momentum 0.")
    if not all(0 <= beta < 1 for beta in node.get("betas", ())):
        raise ConfigError(f"{key}.betas", f"expected two numbers in [0, 1), such as [0.9,0.999], got {node['betas']}.")


def check_phases(listed: object, of_run: dict, run_epochs: int) -> None:
    """Refuse phases that do not make up the run; each is {epochs: N, loss: [NAME, ...], lr: FACTOR}.

    Args:
        listed: the key phases.
        of_run: the key loss.
        run_epochs: train.epochs.

    Raises:
        ConfigError: a phase that is none, a loss that is in no phase or not of this run, or epochs that do not add up.
    """
    if listed is None:
        return
    example = "'phases=[{epochs:8,loss:[hint]},{epochs:24,loss:[ce,kd]}]'"  # a shell would take the braces apart
    if not isinstance(listed, list) or not listed:
        raise ConfigError(
            "phases", f"expected a list of phases, such as {example}, or null for one, got {as_typed(listed)}."
        )
    for phase in listed:
        if not isinstance(phase, dict) or "epochs" not in phase or phase.keys() - {"epochs", "loss", "lr"}:
            raise ConfigError("phases", f"expected epochs, and perhaps loss and lr, as in {example}, got {phase}.")
        epochs, lr, losses = phase["epochs"], phase.get("lr", 1.0), phase.get("loss")
        if type(epochs) is not int or epochs < 1 or type(lr) not in (int, float) or not 0 < lr < math.inf:
            raise ConfigError("phases", f"expected epochs from 1 on, and lr, a factor above 0, got {phase}.")
        if losses is not None and (not isinstance(losses, list) or not losses):
            raise ConfigError(
                "phases", f"expected a list of losses, such as loss:[ce,kd], or leave it out, got {phase}."
            )
        if unknown := [name for name in losses or [] if name not in of_run]:
            raise ConfigError(
                "phases",
                f"{unknown[0]!r} is not among the losses of this run: {', '.join(of_run)}. "
                f"Type loss=[{','.join([*of_run, *unknown])}].",
            )
    used = {name for phase in listed for name in phase.get("loss") or of_run}
    if left := [name for name in of_run if name not in used]:
        raise ConfigError(
            f"loss.{left[0]}",
            "is in none of the phases, so nothing would be learned by it. Add it to one of them, or type "
            f"loss=[{','.join(name for name in of_run if name in used)}].",
        )
    total = sum(phase["epochs"] for phase in listed)
    if total != run_epochs:
        raise ConfigError(
            "phases", f"they last {total} epochs, train.epochs is {run_epochs}. Type train.epochs={total}."
        )


def check_weights(where: str, losses: dict, phases: list[dict] | None, epochs: int) -> None:
    """Refuse epochs, of the run or of a phase, in which every weight is 0.

    Args:
        where: what stands before its keys, such as teacher.
        losses: the key loss.
        phases: the key phases.
        epochs: train.epochs.

    Raises:
        ConfigError: with the epochs.
    """
    start = 0
    for phase in phases or [{"epochs": epochs}]:
        end = start + phase["epochs"]
        names = phase.get("loss") or list(losses)
        weights = [ramp(losses[name]["weight"], f"{where}loss.{name}.weight") for name in names]
        if names and not any(weight(start) or weight(math.nextafter(end, start)) for weight in weights):
            raise ConfigError(
                f"{where}loss",
                f"the weight of {', '.join(names)} is 0 from epoch {start} to epoch {end}, so nothing is learned "
                f"in them. Type {where}loss.{names[0]}.weight=1, or choose other losses.",
            )
        start = end


def check_mixup(where: str, mixup: float, losses: dict, teacher: dict) -> None:
    """Refuse mixed pictures beside stored answers, or beside targets that are not mixed.

    Args:
        where: teacher. for what a teacher is fine-tuned with, else nothing.
        mixup: train.mixup.
        losses: the key loss.
        teacher: the key teacher.

    Raises:
        ConfigError: what train.mixup cannot go with.
    """
    if mixup == 0:
        return
    if teacher["_target_"] is not None and teacher.get("cache") is not False:
        raise ConfigError(
            "train.mixup",
            f"got {mixup}, but stored logits are those of faces, not of their mixtures. train.mixup "
            "needs teacher.cache=false or teacher=none.",
        )
    for name, loss in losses.items():
        if loss.get("target") == "hard":
            raise ConfigError(
                f"{where}loss.{name}.target", f"hard undoes {where}train.mixup; give {where}loss.{name}.target=soft."
            )


def check_augment(key: str, augment: AugmentConfig) -> None:
    """Refuse ranges and probabilities of augmentation that are out of range.

    Args:
        key: augment, or teacher.augment, for messages.
        augment: the keys under it.

    Raises:
        ConfigError: the first that is, and what to give.
    """
    for low, high in (("scale_min", "scale_max"), ("erase_min", "erase_max")):
        least, most = getattr(augment, low), getattr(augment, high)
        if not 0 < least <= most and (low, augment.erase) != ("erase_min", 0):
            raise ConfigError(key, f"{low}={least} and {high}={most}; give 0 < {low} <= {high}.")
    shares = dict.fromkeys(("flip", "erase", "erase_max", "shift", "brightness", "contrast"), 1)
    for name, most in (shares | {"rotate": 180, "shear": 89}).items():
        expect(0 <= (value := getattr(augment, name)) <= most, f"{key}.{name}", f"a number between 0 and {most}", value)
    expect(augment.num_views >= 0, f"{key}.num_views", "0 or more", augment.num_views)


def check_plugins(plugins: Any) -> None:
    """Refuse packages that are no list of names, or cannot be found.

    Raises:
        ConfigError: with what to type.
    """
    if not fits(plugins, list[str]) or not all(part.isidentifier() for name in plugins for part in name.split(".")):
        raise ConfigError("plugins", f"expected a list of names, such as plugins=[mypackage], got {as_typed(plugins)}.")
    for name in plugins:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):  # of one in a package that is not there; of a module without a spec
            spec = None
        if not spec:
            raise ConfigError(
                "plugins",
                f"there is no package {name} to import. Install it, type the command in the folder that holds it, or put that "
                "folder on PYTHONPATH.",
            )


def check_network(target: str, network: object) -> None:
    """Refuse to make a network with anything but a class of networks.

    A network's node may come with a file, and a function that makes objects, of an allowed package too, could be told by it
    to call any other.

    Args:
        target: its name.
        network: what it names.

    Raises:
        ConfigError: it is no subclass of torch.nn.Module.
    """
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise ConfigError(
            "_target_",
            f"{target} is no class of networks (torch.nn.Module), so it is not called. Name a class that is one.",
        )


@contextmanager
def option_errors(key: str) -> Iterator[None]:
    """Say what a word instead of a number is, and what is missing, where options are given to a component.

    Args:
        key: of the component, such as student.

    Raises:
        ConfigError: instead of a TypeError.
    """
    try:
        yield
    except TypeError as error:
        if missing := re.search(r"missing \d+ required .*arguments?: '(\w+)'", str(error)):
            raise ConfigError(
                f"{key}.{missing[1]}",
                f"must be given. Type {key}.{missing[1]}=VALUE instead of ~{key}.{missing[1]}, or write it into the yaml.",
            ) from error
        raise ConfigError(
            key, f"an option is of another kind than in its yaml, such as a word for a number ({error})."
        ) from error


def check_same_input(node: dict, weights: str, metadata: dict) -> None:
    """Refuse starting weights whose header names another input range than this run's: they would see other numbers.

    Args:
        node: config of the network.
        weights: its weight file.
        metadata: the file's header.

    Raises:
        ConfigError: another mean or std.
    """
    trained = metadata.get("network", {})
    wrong = [key for key in ("mean", "std") if trained.get(key) is not None and trained[key] != node.get(key)]
    if wrong:
        raise ConfigError(
            "student.weights",
            f"{weights} was trained with {wrong[0]} {trained[wrong[0]]}; this run has {node.get(wrong[0])}. "
            f"Type {' '.join(f'student.{key}={trained[key]}' for key in wrong)}.",
        )
