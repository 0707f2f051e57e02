"""Every loss of conf/loss, made from its yaml and bound to real networks, keeps the promises that all losses make."""

import copy
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from no_waiting import assert_steps_wait_for_nothing
from torch import nn

from distill import build
from distill.augment.views import ViewRecipe, identity, render_batch
from distill.config.schema import typed
from distill.losses.base.objective import Objective
from distill.models.feature_hooks import detach_hooks
from distill.types import Batch, Dataset, Outputs, Split
from students.microexpnet import MicroExpNet
from students.mobilenet_inception import MobileNetInception
from teachers.frozen import FrozenTeacher
from teachers.logit_cache import LogitCache
from teachers.output_store import manifest
from teachers.peer import Peer
from teachers.timm_teacher import TimmTeacher

NAMES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "conf" / "loss").glob("*.yaml"))
CLASSES, SIZE, CPU = tuple("abcdefgh"), 16, torch.device("cpu")
WITHOUT_MAPS_TO_POOL = {"catkd"}  # needs a student that ends in average pooling and one linear classifier
BY_PLACE = {"crd": "draws its negatives by place in the batch, with torch's generator"}
LEARNING_TEACHER = {"dml": "its peer learns: that is the point; test_generations.py says whose gradient is whose"}
every_loss = pytest.mark.parametrize("name", NAMES)


class Bound(NamedTuple):
    """A loss that met its networks."""

    student: nn.Module
    teacher: nn.Module
    objective: Objective

    @property
    def loss(self):
        return next(iter(self.objective.losses.values()))


@cache
def config():
    """All losses at once: composing takes longer than testing."""
    chosen = (
        f"loss=[{','.join(NAMES)}]",
        "data=procedural",
        "student=microexpnet",
        "teacher=timm",
        "teacher.name=test_resnet",
    )
    with initialize_config_module("conf", version_base="1.3"):
        return typed(compose("run", overrides=[*chosen, "teacher.cache=features"]))


@cache
def data():
    rng = np.random.default_rng(0)
    votes = rng.dirichlet(np.full(len(CLASSES), 0.3), SIZE).astype(np.float32)
    pixels = rng.integers(0, 256, (SIZE, 1, 64, 64), np.uint8)
    rows = np.arange(SIZE)
    train = Split("train", pixels, rows, votes, votes.argmax(1), tuple(map(str, rows)), "sha")
    return Dataset("noise", CLASSES, "votes", {"train": train})


def batch(rows=slice(None), target=None):
    split = data().splits["train"]
    index = torch.arange(SIZE)[rows]
    target = torch.from_numpy(split.target)[rows] if target is None else target
    return Batch(torch.from_numpy(split.pixels)[rows], identity(SIZE)[rows], target, target.argmax(1), index)


@cache
def network():
    torch.manual_seed(5)
    return TimmTeacher("test_resnet", len(CLASSES), CLASSES, 64, pretrained=False)


def a_student(kind, seed):
    torch.manual_seed(seed)
    if kind is MicroExpNet:
        return MicroExpNet(len(CLASSES), 84, "XXS", "none", 0.0, "torch", 0.5, 0.25)
    return MobileNetInception(len(CLASSES), 64, 0.25, "max", "B", 0.0, 0.5, 0.25)


def a_teacher(name):
    if name in LEARNING_TEACHER:
        peer = Peer(a_student(MicroExpNet, 9), "peer", CLASSES, torch.float32)
        peer.open("train", 0, None)
        return peer
    detach_hooks(network())
    return FrozenTeacher(copy.deepcopy(network()), "test_resnet", CLASSES, torch.float32)


def bind(name, teacher=None, seed=0):
    """Build a loss as a run does and let it meet its networks, late in the run: what rises over epochs has risen."""
    objective = build.objective({name: config().loss[name]}, [], data())
    student, teacher = (
        a_student(MobileNetInception if name in WITHOUT_MAPS_TO_POOL else MicroExpNet, seed),
        teacher or a_teacher(name),
    )
    torch.manual_seed(seed + 1)
    objective.bind(student, teacher)
    objective.at(100.0)
    return Bound(student.train(), teacher, objective.train())


@cache
def shared(name):
    """For tests that change nothing."""
    return bind(name)


def twin(name):
    """For tests that do."""
    made = shared(name)
    if name in BY_PLACE:
        return bind(name)
    return Bound(*copy.deepcopy(tuple(made)))


def outputs(bound, given=None):
    given = batch() if given is None else given
    images = render_batch(given, bound.student.input).contiguous()
    student = bound.student(images)._replace(index=given.index)
    return student, bound.teacher(given), given.target


def taken(answer, rows):
    """Some rows of Outputs."""
    features = {name: x[rows] for name, x in answer.features.items()}
    return Outputs(
        answer.logits[rows], answer.heads[rows], features, None if answer.index is None else answer.index[rows]
    )


def cast(answer, dtype):
    features = {name: x.to(dtype) for name, x in answer.features.items()}
    return answer._replace(logits=answer.logits.to(dtype), heads=answer.heads.to(dtype), features=features)


def test_conf_loss_is_found_with_its_classes():
    assert {"ce", "kd", "hint"} <= set(NAMES)


@every_loss
def test_a_loss_is_finite_and_one_number_per_sample_or_one(name):
    bound = shared(name)
    with torch.no_grad():
        value = bound.loss(*outputs(bound))
    assert value.shape in ((SIZE,), ()) and value.isfinite().all() and value.dtype == torch.float32
    assert value.abs().max() > 0, "a loss of random networks is not 0"


@every_loss
def test_gradients_reach_the_student_and_every_learned_part_which_moves_with_a_step(name):
    bound = twin(name)
    total, _ = bound.objective(*outputs(bound))
    total.backward()
    conv = next(p for p in bound.student.parameters() if p.ndim == 4)
    assert conv.grad is not None and conv.grad.isfinite().all() and conv.grad.abs().max() > 0
    for part, parameter in bound.objective.named_parameters():
        assert parameter.requires_grad and parameter.grad is not None, part
        assert parameter.grad.isfinite().all(), part
    learned = list(bound.objective.parameters())
    before = [p.detach().clone() for p in learned]
    torch.optim.SGD([*bound.student.parameters(), *learned], 0.1).step()
    moved = sum(not torch.equal(p, q) for p, q in zip(learned, before, strict=True))
    assert moved >= 0.9 * len(learned), "all but a bias before a normalization"


@every_loss
def test_no_gradient_reaches_the_teacher(name):
    if name in LEARNING_TEACHER:
        pytest.skip(LEARNING_TEACHER[name])
    bound = twin(name)
    parameters = list(bound.teacher.network.requires_grad_(True).parameters())
    given = batch()
    student, _, target = outputs(bound, given)
    with torch.enable_grad():
        answer = bound.teacher.network(render_batch(given, bound.teacher.network.input))
    assert answer.logits.requires_grad and all(x.requires_grad for x in answer.features.values())
    bound.objective(student, answer, target)[0].backward()
    assert all(p.grad is None for p in parameters)


@every_loss
def test_shuffling_the_batch_changes_nothing(name):
    if name in BY_PLACE:
        pytest.skip(BY_PLACE[name])
    bound = shared(name)
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        student, teacher, target = outputs(bound)
        value = bound.loss(student, teacher, target).mean()
        shuffled = bound.loss(taken(student, order), taken(teacher, order), target[order]).mean()
    assert torch.allclose(shuffled, value, rtol=1e-4)


@every_loss
def test_bf16_under_autocast_is_finite_and_within_2_percent(name):
    with torch.no_grad():
        student, teacher, target = outputs(shared(name))
        values = []
        for dtype in (torch.float32, torch.bfloat16):
            bound = twin(name)
            torch.manual_seed(0)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                values.append(bound.loss(cast(student, dtype), cast(teacher, dtype), target).mean())
    assert values[1].dtype == torch.float32 and values[1].isfinite()
    assert values[1].item() == pytest.approx(values[0].item(), rel=0.02)


@every_loss
@pytest.mark.parametrize("size, single_class", [(1, False), (6, True)])
def test_a_batch_of_one_and_one_of_a_single_class_are_finite(name, size, single_class):
    bound = twin(name)
    target = torch.eye(len(CLASSES))[[3] * size] if single_class else None
    total, _ = bound.objective(*outputs(bound, batch(slice(size), target)))
    total.backward()
    learned = [*bound.student.parameters(), *bound.objective.parameters()]
    assert total.isfinite() and all(p.grad.isfinite().all() for p in learned if p.grad is not None)


@every_loss
def test_confident_networks_give_finite_values_and_gradients(name):
    bound = twin(name)
    student, teacher, target = outputs(bound)
    sure = 300.0 * torch.eye(len(CLASSES))[torch.arange(SIZE) % len(CLASSES)]
    for sign in (1, -1):
        logits = (sign * sure).requires_grad_()
        value = bound.loss(
            student._replace(logits=logits, heads=logits[:, None]),
            teacher._replace(logits=sure, heads=sure[:, None]),
            target,
        )
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), logits, allow_unused=True, retain_graph=True)
        assert gradient is None or gradient.isfinite().all()


@every_loss
def test_the_same_input_gives_the_same_value_again(name):
    bound = shared(name)
    if bound.loss.needs_memory:
        pytest.skip("it remembers pictures")
    with torch.no_grad():
        given = outputs(bound)
        assert torch.equal(bound.loss(*given), bound.loss(*given))


@every_loss
def test_a_cached_teacher_gives_the_value_of_the_live_one(name, tmp_path_factory):
    if name in LEARNING_TEACHER:
        pytest.skip(LEARNING_TEACHER[name])
    live = bind(name)
    expected = manifest(data(), "f", [[64, 3]], ViewRecipe(), 0, "torch.float32")
    folder = tmp_path_factory.getbasetemp() / "maps"
    teacher = LogitCache(folder, expected, lambda: a_teacher(name), data(), CPU, batch_size=SIZE, features=True)
    cached = bind(name, teacher)
    teacher.open("train", 1, identity(SIZE))
    with torch.no_grad():
        values = []
        for bound in (live, cached):
            torch.manual_seed(0)
            values.append(bound.loss(*outputs(bound)))
    assert torch.allclose(*values, rtol=1e-5), "the maps are equal; sums over another memory layout are, nearly"


@every_loss
def test_a_loss_goes_on_from_its_saved_state(name):
    trained, fresh = twin(name), bind(name, seed=7)
    optimizer = torch.optim.SGD([*trained.student.parameters(), *trained.objective.parameters()], 0.01)
    trained.objective(*outputs(trained))[0].backward()
    optimizer.step()
    fresh.student.load_state_dict(trained.student.state_dict())
    fresh.objective.load_state_dict(trained.objective.state_dict())
    with torch.no_grad():
        given = outputs(trained)
        values = []
        for bound in (trained, fresh):
            torch.manual_seed(0)
            values.append(bound.loss(*given))
    assert torch.allclose(*values, rtol=1e-5)


@every_loss
def test_a_step_makes_nobody_wait_for_the_device(name, monkeypatch):
    student, teacher, objective = twin(name)
    assert_steps_wait_for_nothing(student, objective, teacher, batch(), monkeypatch)
