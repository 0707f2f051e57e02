"""Losses that read how a network is built (ReviewKD, CAT-KD, SimKD): loops in float64, and a student that is changed."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.evaluation.cost import profile
from distill.losses.base.feature_loss import FeatureLoss
from distill.losses.base.objective import Objective
from distill.losses.base.reused_classifier import attach_from_state
from distill.losses.catkd import ClassAttentionTransfer
from distill.losses.pkt import ProbabilisticTransfer
from distill.losses.reviewkd import KnowledgeReview
from distill.losses.simkd import ReusedClassifier
from distill.system.weights import load_weights, read_weights, save_weights
from distill.training.optim import ModelEma, optimizer
from distill.types import InputSpec, Outputs
from students.microexpnet import MicroExpNet
from students.mobilenet_inception import MobileNetInception
from students.timm_student import TimmStudent
from teachers.frozen import FrozenTeacher

B, K = 4, 3
TARGET = torch.eye(K)[torch.arange(B) % K]


def light(classes=K):
    return MobileNetInception(classes, 64, 0.25, "max", "B", 0.0, 0.5, 0.25)


def micro():
    return MicroExpNet(K, 40, "XXS", "both", 0.0, "torch", 0.5, 0.25)


def residual(size=64, name="resnet18", classes=K):
    net = TimmStudent(name, classes, size, 3, 0.5, 0.25, False, 0.0)
    return FrozenTeacher(net, name, tuple("abcdefgh"[:classes]), torch.float32)


def pictures(network, size=B, seed=0):
    spec = network.input
    return torch.rand(size, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(seed))


def answers(loss, student, teacher, size=B, seed=0):
    """Bind a loss and return the objective, and both networks' outputs."""
    objective = Objective({"mine": loss}, {"mine": 1.0})
    objective.bind(student, teacher)
    with torch.no_grad():
        taught = teacher.network(pictures(teacher.network, size, seed))
    return objective, student.train()(pictures(student, size, seed)), taught


CASES = [(KnowledgeReview, light), (KnowledgeReview, micro), (ReusedClassifier, light), (ReusedClassifier, micro)]
CASES += [(ClassAttentionTransfer, light)]
every_case = pytest.mark.parametrize(("kind", "make"), CASES, ids=[f"{k.term} {m.__name__}" for k, m in CASES])


def case(kind, make, size=B):
    torch.manual_seed(0)
    return answers(kind(), student := make(), teacher := residual(), size), student, teacher


@pytest.fixture
def double(monkeypatch):
    """Maps as they are, not in float32."""

    def maps(self, student, teacher):
        return [(student.features[own.name], teacher.features[theirs.name].detach()) for own, theirs in self.pairs]

    monkeypatch.setattr(FeatureLoss, "maps", maps)


# Loops in float64


def pool(x, side):
    """Mean over areas of a map [C, S, S], S a multiple of side."""
    step = x.shape[1] // side
    return np.array([[[m[i * step:(i + 1) * step, j * step:(j + 1) * step].mean() for j in range(side)]
                      for i in range(side)] for m in x])  # fmt: skip


def numpy(*tensors):
    return [tensor.detach().double().numpy() for tensor in tensors]


def catkd(loss, own, theirs):
    found = []
    for x, classifier in zip((own, theirs), loss.classifiers, strict=True):
        maps = np.einsum("kc,bcij->bkij", *numpy(classifier.weight, x))
        pooled = np.array([pool(m, 2) for m in maps])
        found.append(pooled / np.sqrt((pooled**2).sum((2, 3), keepdims=True)))
    return ((found[0] - found[1]) ** 2).mean((1, 2, 3))


def simkd(loss, own, theirs):
    return np.array([((s - pool(t, s.shape[1])) ** 2).mean() for s, t in zip(*numpy(own, theirs), strict=True)])


@pytest.mark.parametrize(("kind", "make"), CASES[2:])
def test_a_value_equals_that_of_slow_loops(kind, make):
    (objective, own, theirs), _, _ = case(kind, make)
    loss = objective.losses["mine"]
    wanted = globals()[kind.term](
        loss, *(o.features[x.name] for o, x in zip((own, theirs), loss.pairs[0], strict=True))
    )
    assert loss(own, theirs, TARGET).detach().numpy() == pytest.approx(wanted, rel=1e-4) and wanted.min() > 1e-3


def fused(fusion, x, deeper, theirs):
    """One step of the review; the sides of all maps are halves, doubles or equal."""

    def sized(x, side):
        if x.shape[2] < side:
            return F.interpolate(x, scale_factor=side // x.shape[2], mode="bilinear")
        return F.avg_pool2d(x, x.shape[2] // side)

    x = fusion.narrow(x)
    if deeper is not None:
        deeper = sized(deeper, x.shape[2])
        a = torch.sigmoid(F.conv2d(torch.cat([x, deeper], 1), *fusion.attention[0].parameters()))
        x = a[:, 0, None] * x + a[:, 1, None] * deeper
    x = sized(x, theirs.shape[2])
    return x, fusion.widen(x)


def test_a_review_goes_from_deep_to_shallow_and_compares_each_stage_at_several_sizes():
    (objective, own, theirs), _, _ = case(KnowledgeReview, light)
    loss, deeper, wanted = objective.losses["mine"], None, np.zeros(B)
    assert len(loss.pairs) >= 3 and loss.fusions[-1].attention is None
    for k in reversed(range(len(loss.pairs))):
        own_name, their_name = (layer.name for layer in loss.pairs[k])
        deeper, y = fused(loss.fusions[k], own.features[own_name], deeper, theirs.features[their_name])
        s, t = numpy(y, theirs.features[their_name])
        sides = [side for side in (4, 2, 1) if side < s.shape[2]]
        weights = [1.0, *(0.5**i for i in range(1, len(sides) + 1))]
        for b in range(B):
            parts = [((pool(s[b], side) - pool(t[b], side)) ** 2).mean() for side in (s.shape[2], *sides)]
            wanted[b] += np.dot(parts, weights) / sum(weights)
    assert loss(own, theirs, TARGET).detach().numpy() == pytest.approx(wanted, rel=1e-3)


@every_case
def test_gradients_equal_finite_differences_and_none_reaches_the_teacher(kind, make, double):
    (objective, own, theirs), student, teacher = case(kind, make)
    loss = objective.losses["mine"].double()
    student.double(), teacher.double()
    names = [layer.name for layer, _ in loss.pairs]
    maps = {name: own.features[name].detach().double().requires_grad_() for name in names}
    taught = {k: v.double().requires_grad_() for k, v in theirs.features.items()}

    def total(maps):
        return loss(own._replace(features=maps), theirs._replace(features=taught), TARGET).sum()

    grads = torch.autograd.grad(total(maps), [*maps.values(), *taught.values()], allow_unused=True)
    assert all(grad is None for grad in grads[len(names) :])
    for name, grad in zip(names, grads, strict=False):
        place = np.unravel_index(int(grad.abs().argmax()), grad.shape)
        step = torch.zeros_like(grad)
        step[place] = 1e-5
        slope = (total(maps | {name: maps[name] + step}) - total(maps | {name: maps[name] - step})) / 2e-5
        assert grad[place].item() == pytest.approx(slope.item(), rel=1e-3)


@every_case
def test_a_bound_loss_gives_a_value_per_picture_and_teaches_all_that_learns(kind, make):
    (objective, own, theirs), student, teacher = case(kind, make)
    value = objective.losses["mine"](own, theirs, TARGET)
    assert value.shape == (B,) and (value > 0).all()
    objective(own, theirs, TARGET)[0].backward()
    assert all(p.grad.abs().max() > 0 for p in objective.parameters())
    assert next(student.parameters()).grad.abs().max() > 0
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert bool(list(objective.parameters())) is (kind is KnowledgeReview)
    if kind is ClassAttentionTransfer:
        assert student.classifier.weight.grad.abs().max() > 0
    if kind is ReusedClassifier:
        assert all(p.grad.abs().max() > 0 for p in student.reused_head.projector.parameters())


@every_case
def test_shuffling_the_batch_shuffles_the_values_and_one_picture_is_enough(kind, make):
    (objective, own, theirs), _, _ = case(kind, make)
    loss, order = objective.losses["mine"], torch.tensor([2, 0, 3, 1])
    both = [o._replace(features={k: v[order] for k, v in o.features.items()}) for o in (own, theirs)]
    assert torch.allclose(loss(*both, TARGET[order]), loss(own, theirs, TARGET)[order], rtol=1e-3)
    (objective, own, theirs), student, _ = case(kind, make, size=1)
    value = objective(own, theirs, TARGET[:1])[0]
    value.backward()
    assert value.isfinite() and all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


@every_case
def test_bf16_under_autocast_is_within_2_percent_of_float32(kind, make):
    (objective, own, theirs), _, _ = case(kind, make)
    exact = objective(own, theirs, TARGET)[0]
    half = [o._replace(features={k: v.bfloat16() for k, v in o.features.items()}) for o in (own, theirs)]
    with torch.autocast("cpu", torch.bfloat16):
        value = objective(*half, TARGET)[0]
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=0.02)


# SimKD changes the student


def test_a_reused_classifier_of_more_classes_than_the_data_have_is_refused():
    teacher = FrozenTeacher(residual(classes=8).network, "some", ("b", "a"), torch.float32, tuple("abcdefgh"))
    with pytest.raises(ValueError, match=r"loss\.simkd: .* knows 8 classes, of which the data have 2"):
        Objective({"simkd": ReusedClassifier()}, {"simkd": 1.0}).bind(light(2), teacher)


@pytest.mark.parametrize("make", [light, micro])
def test_the_students_answer_is_the_teachers_classifier_behind_the_projector(make):
    (objective, own, _), student, teacher = case(ReusedClassifier, make)
    head, classifier = student.reused_head, teacher.network.net.fc
    assert torch.equal(head.classifier.weight, classifier.weight) and not head.classifier.weight.requires_grad
    logits = classifier(own.features["reused_head.projector"].mean((2, 3)))
    assert torch.allclose(own.logits, logits, atol=1e-5) and torch.equal(own.heads, own.logits[:, None])
    assert not any(name.startswith("mine") for name, _ in objective.named_parameters())
    own.logits.logsumexp(1).sum().backward()  # cross-entropy beside it teaches the projector, too
    assert head.projector[0].weight.grad.abs().max() > 0 and head.classifier.weight.grad is None


def test_optimizer_average_profile_and_copies_see_the_reused_head():
    plain, ((objective, own, theirs), student, _) = profile(micro(), micro().input), case(ReusedClassifier, micro)
    made = optimizer([student, objective], "adamw", 1e-2, weight_decay=0.0, decay_biases=False)
    average, before = ModelEma(student, 0.9), copy.deepcopy(student.state_dict())
    objective(own, theirs, TARGET)[0].backward()
    made.step(), average.update(student)
    moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert "reused_head.projector.3.weight" in moved and "reused_head.classifier.weight" not in moved
    assert not torch.equal(average.values["reused_head.projector.0.weight"], before["reused_head.projector.0.weight"])
    added = profile(student, student.input)
    assert added["num_parameters"] - plain["num_parameters"] == sum(p.numel() for p in student.reused_head.parameters())
    assert added["macs"] > plain["macs"]
    twin, images = copy.deepcopy(student.eval()), pictures(student)
    assert torch.equal(twin(images).logits, student(images).logits)


@pytest.mark.parametrize("make", [light, micro])
def test_finished_weights_fit_a_plain_student_again(make, tmp_path):
    _, student, _ = case(ReusedClassifier, make)
    save_weights(tmp_path / "best.safetensors", student, {})
    torch.manual_seed(9)
    again = make()
    attach_from_state(again, read_weights(tmp_path / "best.safetensors")[0])
    load_weights(again, tmp_path / "best.safetensors", "student.weights")
    assert torch.equal(again.eval()(pictures(again)).logits, student.eval()(pictures(student)).logits)
    assert not again.reused_head.classifier.weight.requires_grad
    untouched = make()
    attach_from_state(untouched, make().state_dict())
    assert not hasattr(untouched, "reused_head")


@pytest.mark.parametrize("order", ["near mine last", "last near mine"])
def test_losses_beside_it_see_the_end_that_answers_in_whatever_order_they_are_named(order):
    student, teacher = micro(), residual()
    losses = {
        "near": ProbabilisticTransfer("stage1", "stage1"),
        "mine": ReusedClassifier(),
        "last": ClassAttentionTransfer(),
    }
    both = Objective({name: losses[name] for name in order.split()}, dict.fromkeys(order.split(), 1.0))
    both.bind(student, teacher)
    assert both.losses["last"].pairs[0][0].name == "reused_head.projector"
    total, terms = both(student(pictures(student)), teacher.network(pictures(teacher.network)), TARGET)
    assert total.isfinite() and all(value > 0 for value in terms.values())


class Largest(nn.Module):
    """A network whose classifier sees the largest number of each map, not the average."""

    def __init__(self):
        super().__init__()
        self.input, self.body, self.head = InputSpec(12), nn.Conv2d(1, 4, 3), nn.Linear(4, K)

    def forward(self, images):
        logits = self.head(self.body(images).amax((2, 3)))
        return Outputs(logits, logits[:, None], {})


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "sentence"),
    [
        (ClassAttentionTransfer(), micro, residual, r"the student does not end in .* student=mobilenet_inception"),
        (ClassAttentionTransfer(), Largest, residual, r"the student does not end in global average pooling"),
        (ClassAttentionTransfer(), lambda: light(7), residual, r"teacher knows 3 classes, the student 7"),
        (ClassAttentionTransfer(pool=3), light, residual, r"pool: 3, but the teacher's last map has 2 places"),
        (ReusedClassifier(), light, lambda: residual(32), r"the teacher does not end in .* more than one position"),
        (ReusedClassifier(), light, lambda: residual(name="mobilenetv3_small_050"), r"the teacher does not end in"),
        (ReusedClassifier("fc"), micro, residual, r"student: fc answers \[\d+\]; name a map"),
        (ReusedClassifier("conv7"), micro, residual, r"there is no layer 'conv7'.* stage1 \(conv1\)"),
        (KnowledgeReview("embedding", "embedding"), micro, residual, r"compares maps \[C, H, W\]"),
    ],
)
def test_networks_of_another_kind_get_a_sentence(loss, student, teacher, sentence):
    with pytest.raises(ValueError, match=f"loss.mine.*{sentence}"):
        Objective({"mine": loss}, {"mine": 1.0}).bind(student(), teacher())
