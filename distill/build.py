"""Names and numbers in, objects out: the only caller of hydra's instantiate."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from torch import nn

from distill.augment.views import ViewRecipe
from distill.config.ranges import check_network, check_same_input, option_errors
from distill.config.schema import BESIDE_NETWORK, RECIPE, USE, label
from distill.data.common.options import typed
from distill.data.common.twins import checked_splits
from distill.data.extra import with_extra
from distill.evaluation.inference import refuse_changed_network
from distill.losses.base.objective import Loss, Objective
from distill.losses.base.option_types import check_options
from distill.losses.base.ramps import Ramp, is_ramp, ramp
from distill.losses.base.reused_classifier import ATTACHED, CLASSIFIER, attach_from_state
from distill.losses.from_data import fill_from_data
from distill.models.teacher import Teacher
from distill.runs.config import AugmentConfig, RunConfig
from distill.runs.provenance import targets
from distill.system import distributed as parallel
from distill.system.cli import format_error
from distill.system.errors import ConfigError
from distill.system.files import digest, sha256
from distill.system.hardware import pick_precision
from distill.system.weights import load_weights, read_weights, rows_of, start_from
from distill.training.loggers import Silent
from distill.training.loop import Phase
from distill.training.optim import optimizer as make_optimizer
from distill.types import Dataset, RunLogger
from teachers.frozen import FrozenTeacher
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest
from teachers.peer import is_peer

logging.getLogger(get_object.__module__).setLevel(logging.CRITICAL)  # what it cannot find is told in a sentence
ALLOWED = ("distill.", "teachers.", "students.")


def make(node: dict, plugins: list[str], **more):
    """Instantiate a component after checking that its target may be called.

    Raises:
        ValueError: a target outside distill, teachers, students and the listed plugins.
    """
    _refuse_target(node["_target_"], plugins)
    return instantiate(node, _partial_=True, _convert_="all", _recursive_=False)(**more)


def _refuse_target(target: str, plugins: list[str]) -> None:
    """Refuse what was defined elsewhere: an allowed module's own imports (distill.system.files.os.mkdir) are not allowed."""
    allowed = ALLOWED + tuple(f"{name}." for name in plugins)
    try:
        fine = str(target).startswith(allowed) and f"{getattr(get_object(target), '__module__', '')}.".startswith(
            allowed
        )
    except Exception as error:
        raise ConfigError(
            "_target_",
            f"{target} cannot be found ({format_error(error.__cause__ or error, inside=True)}). Is it spelled as there?",
        ) from error
    if not fine:
        raise ConfigError(
            "_target_", f"{target} is not from {', '.join(allowed)}; a package of yours goes into plugins=[NAME]."
        )


def target(node: dict, plugins: list[str]) -> Callable:
    """Return what a component's _target_ names, which must be allowed."""
    _refuse_target(node.get("_target_"), plugins)
    return get_object(node["_target_"])


def dataset(
    node: dict, store: str, plugins: list[str], needed: tuple[str, ...] = ("train", "valid", "test")
) -> Dataset:
    """Load the packed data set, and one to learn from with its faces without labels; packs it first where that has not been done.

    Args:
        node: the key data.
        store: folder for everything that is computed once.
        plugins: packages that its _target_ may be from.
        needed: the splits that it must have.
    """
    folder, opener = Path(store).expanduser(), data_node(node, plugins)
    data = parallel.main_first(lambda: make(opener, plugins, store=folder))
    data = checked_splits(data, needed, node.get("near_duplicates", "report"))
    if "train" not in needed or (root := node.get("extra")) is None:
        return data
    return with_extra(data, folder, root, node.get("verify", False), node.get("limit"))


def data_node(node: dict, plugins: list[str]) -> dict:
    """Return the keys of data as the function that opens them wants them, see distill.data.common.options.typed."""
    return typed(node, target(node, plugins))


def fingerprint(data: Dataset) -> str:
    """Return a digest of the pictures, rows, targets and class order that a run sees."""
    splits = {n: (s.sha256, digest(s.rows.tolist()), digest(s.target.tolist())) for n, s in data.splits.items()}
    return digest([splits, list(data.classes)])


def network(node: dict, plugins: list[str], data: Dataset, seed: int = 0) -> nn.Module:
    """Make the network that is trained, seeded, with its starting weights."""
    node = {key: value for key, value in node.items() if key not in BESIDE_NETWORK}
    for target in targets(node):
        _refuse_target(target, plugins)
    check_network(node["_target_"], get_object(node["_target_"]))
    torch.manual_seed(seed)
    if node["_target_"].startswith("teachers."):
        with option_errors("student"):
            return make(node, plugins, num_classes=len(data.classes), classes=data.classes)
    weights = node.pop("weights", None)
    with option_errors("student"):
        student = make(node, plugins, num_classes=len(data.classes))
    if weights:
        tensors, metadata = read_weights(weights)
        check_same_input(node, weights, metadata)
        classifier = rows_of(tensors, CLASSIFIER, metadata.get("classes") or data.classes, data.classes)
        attach_from_state(student, tensors | classifier if classifier else {})
        more = {"pretrained": False} if "pretrained" in node else {}
        # tells whose shapes depend on the number of classes
        with torch.random.fork_rng(devices=[]), option_errors("student"):
            other = make(node, plugins, num_classes=len(data.classes) + 1, **more).state_dict()
        shapes = {name: tensor.shape for name, tensor in student.state_dict().items()}
        sized = (name for name, tensor in other.items() if tensor.shape != shapes[name])
        heads = (*sized, CLASSIFIER if classifier else ATTACHED)
        student.start = start_from(student, weights, "student.weights", data.classes, heads)
    return student


def objective(losses: dict, plugins: list[str], data: Dataset) -> Objective:
    """Make the weighted losses, options that the data say as numbers; bind() shows them both networks."""
    nodes = {name: fill_from_data(name, node, data) for name, node in losses.items()}
    weights = {name: node.pop("weight") for name, node in nodes.items()}
    made = {name: _scheduled(name, node, plugins) for name, node in nodes.items()}
    ramps = {name: ramps for name, (_, ramps) in made.items()}
    return Objective({name: loss for name, (loss, _) in made.items()}, weights, ramps)


def losses_with(attribute: str, losses: dict, plugins: list[str]) -> list[str]:
    """Return the names of the losses that have an attribute: needs_teacher, needs_features, needs_memory or needs_label."""
    return [name for name, node in losses.items() if getattr(target(node, plugins), attribute, False)]


def _scheduled(name: str, node: dict, plugins: list[str]) -> tuple[Loss, dict[str, Ramp]]:
    """Make a loss, and the ramps of those of its options that change with the epoch; both ends must be allowed values."""
    options, kind = {key: value for key, value in node.items() if key != "_target_"}, target(node, plugins)
    if not (isinstance(kind, type) and issubclass(kind, Loss)):
        raise ConfigError(
            f"loss.{name}", f"{node['_target_']} is no loss. Derive it from distill.losses.base.objective.Loss."
        )
    check_options(f"loss.{name}", kind, options)
    ramps = {key: ramp(value, f"loss.{name}.{key}") for key, value in node.items() if is_ramp(value)}
    make(node | {key: value.last for key, value in ramps.items()}, plugins)
    loss = make(node | {key: value.first for key, value in ramps.items()}, plugins)
    if missing := [key for key in ramps if type(getattr(loss, key, None)) not in (int, float)]:
        raise ConfigError(
            f"loss.{name}.{missing[0]}", "is no number that can change while the loss is used; give it a fixed value."
        )
    return loss, ramps


def phases(listed: list[dict] | None) -> tuple[Phase, ...]:
    """Return the run's phases, one after the other."""
    listed = listed or []
    starts = accumulate((phase["epochs"] for phase in listed), initial=0)
    return tuple(
        Phase(start, phase["epochs"], phase.get("loss") and tuple(phase["loss"]), phase.get("lr", 1.0))
        for start, phase in zip(starts, listed, strict=False)
    )


def optimizer(node: dict, lr_scale: dict | None, modules: list[nn.Module]) -> torch.optim.Optimizer:
    """Make the optimizer over the parameters of student and objective."""
    with option_errors("optimizer"):
        return make_optimizer(modules, **node, lr_scale=lr_scale)


def augmentation(augment: AugmentConfig) -> ViewRecipe:
    """Return the ranges of augmentation."""
    return ViewRecipe(**{key: value for key, value in vars(augment).items() if key not in ("seed", "num_views")})


def logger(cfg: RunConfig, **more) -> RunLogger:
    """Make the logger, more being what it is told of the run; processes other than the main one stay silent."""
    if not parallel.is_main():
        return Silent()
    labels = [f"{part}={label(getattr(cfg, part))}" for part in ("data", "teacher", "student")]
    labels += [f"loss={loss}" for loss in cfg.loss]
    return make(cfg.logger, cfg.plugins, config=asdict(cfg), labels=labels, **more)


def named_members(node: dict) -> dict[str, dict]:
    """Return key -> config of a teacher, or of an ensemble's members."""
    return (
        {f"teacher.members.{name}": one for name, one in node["members"].items()}
        if "members" in node
        else {"teacher": node}
    )


def members(node: dict) -> list[dict]:
    """Return a teacher's config in a list, or those of an ensemble's members."""
    return list(named_members(node).values())


def teacher(
    cfg: RunConfig, data: Dataset, weights: list[Path], device: torch.device, progress: Callable
) -> Teacher | None:
    """Make the teacher: none, a peer, live, or answered from the cache of its logits.

    Args:
        cfg: the run's config.
        data: the packed data set.
        weights: the weight file of each of its networks.
        device: where it runs.
        progress: (iterable, total, words) -> iterable.

    Returns:
        The teacher, or None.
    """
    node = cfg.teacher
    if node["_target_"] is None:
        return None
    if is_peer(node):  # the student, not from its weights, with the keys that the peer has otherwise, by another seed
        defaults = {} if "_target_" in node["student"] else cfg.student | {"weights": None}
        net = network(defaults | node["student"], cfg.plugins, data, cfg.seed + node["seed_offset"])
        given = {"network": net, "name": label(node), "classes": data.classes}
        precision = pick_precision(cfg.train.precision, device)
        return make({"_target_": node["_target_"]}, cfg.plugins, **given, precision=precision).to(device)
    precision = pick_precision(node["precision"], device)

    def live() -> nn.Module:
        return _live_teacher(node, cfg.plugins, data.classes, weights, precision).to(device)

    if node["cache"] is False:
        return live()
    expected = _cache_manifest(node, cfg.augment, data, weights, precision)
    in_store = Path(cfg.paths.store).expanduser() / "logits" / f"{label(node)}-{digest(expected)[:12]}"
    folder = in_store if node["cache"] in (True, "features") else Path(node["cache"]).expanduser()
    return LogitCache(folder, expected, live, data, device, features=node["cache"] == "features", progress=progress)


def _live_teacher(
    node: dict, plugins: list[str], classes: tuple[str, ...], weights: list[Path], precision: torch.dtype
) -> nn.Module:
    """Make the network of a teacher, or the ensemble of several, with their weights."""
    made = []
    for member, file in zip(members(node), weights, strict=True):
        known = tuple(read_weights(file)[1].get("classes", classes))
        net = bare_teacher(member, plugins, known)
        tensors, other = load_weights(net, file, "teacher"), "paths.run" if "run" in member else "paths.store"
        refuse_changed_network(net, tensors, file, other)
        made.append(FrozenTeacher(net, label(member), classes, precision, known))
    if "members" not in node:
        return made[0]
    rest = {key: value for key, value in node.items() if key not in (*RECIPE, *USE, "members")}
    return make(rest, plugins, members=made)


def _cache_manifest(
    node: dict, augment: AugmentConfig, data: Dataset, weights: list[Path], precision: torch.dtype
) -> dict:
    """Return everything that the cached logits of a run's teacher depend on."""
    prints = [sha256(file) for file in weights]
    combination = {key: value for key, value in node.items() if key in ("average", "weights") and "members" in node}
    fingerprint = prints[0] if "members" not in node else digest([prints, combination])
    keys = ("size", "channels", "mean", "std")  # of a finished run: in its weights
    inputs = [[member.get(key) for key in keys] for member in members(node)]
    return manifest(data, fingerprint, inputs, augmentation(augment), augment.seed, str(precision))


def bare_teacher(node: dict, plugins: list[str], classes: tuple[str, ...]) -> nn.Module:
    """Make one teacher's network without any weights."""
    bare = {key: value for key, value in node.items() if key not in (*RECIPE, *USE, *BESIDE_NETWORK)}
    if "run" not in node and not node["_target_"].startswith("teachers."):  # made as network() made it for its training
        keys = {key: value for key, value in bare.items() if key != "weights"}
        keys |= {"pretrained": False} if "pretrained" in keys else {}
        return make(keys, plugins, num_classes=len(classes))
    more = {"plugins": plugins} if "run" in node else {"weights": None, "pretrained": False}
    return make(bare | more, plugins, num_classes=len(classes), classes=classes)
