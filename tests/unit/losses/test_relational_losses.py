"""Losses on the relations within a batch: loops in float64, limits, networks."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from relational_losses import LOSSES, ROWS, B, K, batch, bound, value

from distill.losses.base.feature_loss import FeatureLoss, vector
from distill.losses.base.objective import Objective
from distill.losses.cc import CorrelationCongruence
from distill.losses.crd import ContrastiveRepresentation
from distill.losses.ctkd import CurriculumTemperature
from distill.losses.pkt import ProbabilisticTransfer
from distill.losses.rkd import RelationalDistillation
from students.microexpnet import MicroExpNet
from students.timm_student import TimmStudent
from teachers.frozen import FrozenTeacher

names = [" ".join([kind.term, *(f"{k}={v}" for k, v in options.items())]) for kind, options in LOSSES]
every_loss = pytest.mark.parametrize(("kind", "options"), LOSSES, ids=names)
OF_ORDER = {"most", "form"}  # options with which the order of a batch may matter


@pytest.fixture
def double(monkeypatch):
    """Vectors as they are, not in float32."""

    def vectors(self, student, teacher):
        return [(vector(student.features["own"]), vector(teacher.features["theirs"]).detach())]

    monkeypatch.setattr(FeatureLoss, "vectors", vectors)


# Loops in float64


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def unit(v):
    return v / max(np.linalg.norm(v), 1e-12)


def linear(layer, e):
    return e @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def rkd(loss, s, t, target, index):
    n = len(s)

    def distances(e):
        d = [[np.linalg.norm(a - b) for b in e] for a in e]
        positive = [v for row in d for v in row if v > 0]
        return np.array(d) / (sum(positive) / len(positive))

    total = sum(map(huber, (distances(s) - distances(t)).flat)) / n**2 * loss.distance
    chosen = [k * n // min(n, loss.most) for k in range(min(n, loss.most))]
    angles = [
        huber(np.subtract(*(unit(e[j] - e[i]) @ unit(e[k] - e[i]) for e in (s, t))))
        for i in chosen for j in chosen for k in chosen
    ]  # fmt: skip
    return total + loss.angle * sum(angles) / len(angles)


def pkt(loss, s, t, target, index):
    def p(e):
        k = np.array([[(1 + a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) / 2 for b in e] for a in e])
        return k / k.sum(1, keepdims=True)

    p_s, p_t = p(s), p(t)
    total = sum(p_t[i, j] * math.log(p_t[i, j] / p_s[i, j]) for i in range(len(s)) for j in range(len(s)))
    return total if loss.form == "paper" else total / len(s) ** 2


def cc(loss, s, t, target, index):
    s, t = [unit(v) for v in linear(loss.regressors[0], s)], [unit(v) for v in t]
    if loss.form == "difference":
        apart = [np.abs(a - b) for a, b in zip(s, t, strict=True)]
        return sum(float(a @ b) for a, b in pairwise(apart)) / (len(s) - 1)

    def kernel(a, b):
        return math.exp(-2 * loss.gamma) * sum((2 * loss.gamma * (a @ b)) ** p / math.factorial(p) for p in range(3))

    return sum((kernel(s[i], s[j]) - kernel(t[i], t[j])) ** 2 for i in range(B) for j in range(B)) / B**2


def crd(loss, s, t, target, index):
    """The released code's terms, M and Z included, for a first batch."""
    g_s, g_t = ([unit(v) for v in linear(e, x)] for e, x in ((loss.embed_student, s), (loss.embed_teacher, t)))
    torch.manual_seed(2)
    label = loss.label.clone()
    label[index] = target.argmax(1)
    drawn, memory = [], {int(i): (a, b) for i, a, b in zip(index, g_s, g_t, strict=True)}
    sampling_weights = torch.rand(len(s), loss.negatives)
    for b in range(len(s)):
        others = sorted((int(c), r) for r, c in enumerate(label) if c >= 0 and c != target[b].argmax())
        drawn.append([int(index[b]), *(others[int(u * len(others))][1] for u in sampling_weights[b])])
    total = np.zeros(len(s))
    for anchors, side in ((g_s, 1), (g_t, 0)):
        e = np.array([[math.exp(a @ memory[r][side] / loss.temperature) for r in rows]
                      for a, rows in zip(anchors, drawn, strict=True)])  # fmt: skip
        h, noise = e / (e.mean() * ROWS), loss.negatives / ROWS
        total -= np.log(h[:, 0] / (h[:, 0] + noise)) + np.log(noise / (h[:, 1:] + noise)).sum(1)
    return total


@every_loss
def test_a_value_equals_that_of_slow_loops(kind, options):
    loss = bound(kind, options)
    own, theirs, target, index = batch()
    wanted = globals()[kind.term](loss, own.double().numpy(), theirs.double().numpy(), target, index)
    found = value(loss, own, theirs, target, index)
    assert found.shape == np.shape(wanted) and np.all(wanted > 1e-4)
    assert found.detach().numpy() == pytest.approx(wanted, rel=1e-3)


@every_loss
def test_gradients_equal_finite_differences_and_none_reaches_the_teacher(kind, options, double):
    loss = bound(kind, options).double()
    given = batch()
    given[:2] = [x.double().requires_grad_() for x in given[:2]]
    anew = copy.deepcopy(loss.state_dict())

    def total(own):
        loss.load_state_dict(anew)  # a memory would remember
        return value(loss, own, *given[1:]).sum()

    first = total(given[0])
    if kind is ContrastiveRepresentation:
        anew["log_z"] = loss.log_z.clone()  # a constant from here on
        own_rows, loss.momentum = loss.state_dict(), 1 - 1e-12  # so are the rows that an anchor meets
        anew.update({k: own_rows[k].clone() for k in ("student_memory", "teacher_memory", "label")})
        first = total(given[0])
    own, theirs = torch.autograd.grad(first, given[:2], allow_unused=True)
    assert theirs is None and own.abs().max() > 0
    for place in [(0, 0), (2, 3), (5, 4)]:
        step = torch.zeros_like(given[0])
        step[place] = 1e-5
        slope = (total(given[0].detach() + step) - total(given[0].detach() - step)) / 2e-5
        assert own[place].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-7)


@every_loss
def test_shuffling_the_batch_changes_nothing_up_to_the_draws_of_crd_and_neighbors_in_order(kind, options, monkeypatch):
    if options.keys() & OF_ORDER and "code" not in options.values():
        pytest.skip("its words say that the order matters")
    drawn = torch.arange(ROWS)[torch.arange(K)[:, None] + 4 * torch.arange(9)]  # by class, not by place
    monkeypatch.setattr(ContrastiveRepresentation, "_draw", lambda self, label: drawn[label])
    order = torch.randperm(B, generator=torch.Generator().manual_seed(3))
    plain = value(bound(kind, options), *batch())
    shuffled = value(bound(kind, options), *(x[order] for x in batch()))
    assert torch.allclose(shuffled, plain[order] if plain.ndim else plain, rtol=1e-4)


@every_loss
def test_bf16_under_autocast_is_within_2_percent_of_float32(kind, options):
    own, theirs, target, index = batch(32)
    with torch.autocast("cpu", torch.bfloat16):
        half = value(bound(kind, options), own.bfloat16(), theirs.bfloat16(), target, index).mean()
    exact = value(bound(kind, options), own, theirs, target, index).mean()
    assert half.dtype == torch.float32 and half.item() == pytest.approx(exact.item(), rel=0.02)


@every_loss
@pytest.mark.parametrize("case", ["one picture", "one class", "equal embeddings", "dead embeddings"])
def test_odd_batches_give_finite_values_and_gradients(kind, options, case):
    own, theirs, target, index = batch(1 if case == "one picture" else B, classes=1 if case == "one class" else K)
    own = {"equal embeddings": own[:1].expand_as(own), "dead embeddings": torch.zeros_like(own)}.get(case, own)
    own = own.clone().requires_grad_()
    loss = bound(kind, options)
    for _ in range(2):
        found = value(loss, own, theirs, target, index).sum()
        assert found.isfinite() and torch.autograd.grad(found, own)[0].isfinite().all()
    if case == "one picture" and kind in (RelationalDistillation, ProbabilisticTransfer):
        assert found == 0


@pytest.mark.parametrize("kind", [RelationalDistillation, ProbabilisticTransfer])
def test_equal_embeddings_cost_nothing_at_any_scale(kind):
    own = batch()[0]
    zero = bound(kind, {}).relation(own, 3 * own)
    assert abs(zero.item()) < 1e-6 < bound(kind, {}).relation(own, own.flip(0)).item()


@pytest.mark.parametrize("apart", [0, 1e-8])
def test_two_faces_of_the_same_embedding_get_a_gradient_as_small_as_others(apart):
    own, theirs = batch()[:2]
    found = []
    for shift in (1.0, apart):
        twins = torch.cat([own[:1], own[:1] + shift * own[1:2], own[2:]]).requires_grad_()
        found.append(torch.autograd.grad(bound(RelationalDistillation, {}).relation(twins, theirs), twins)[0].norm())
    assert 0 < found[1] < 3 * found[0]


# Networks


def networks(classes=K):
    student = MicroExpNet(classes, 40, "XXS", "both", 0.0, "torch", 0.5, 0.25)
    net = TimmStudent("resnet18", classes, 64, 3, 0.5, 0.25, False, 0.0)
    return student, FrozenTeacher(net, "resnet18", tuple("abcd"), torch.float32)


@pytest.mark.parametrize(("kind", "options"), [LOSSES[k] for k in (0, 3, 5, 8)] + [(CurriculumTemperature, {})])
def test_a_bound_loss_teaches_the_student_and_learns_its_own_parts(kind, options):
    torch.manual_seed(0)
    student, teacher = networks()
    objective = Objective({"mine": kind(**options)}, {"mine": 1.0})
    objective.bind(student, teacher)
    own = student(torch.rand(B, 1, 40, 40))._replace(index=torch.arange(B))
    with torch.no_grad():
        theirs = teacher.network(torch.rand(B, 3, 64, 64))
    objective(own, theirs, torch.eye(K)[torch.arange(B) % K])[0].backward()
    assert student.conv1.weight.grad.abs().max() > 0
    learned = dict(objective.named_parameters())
    assert len(learned) == {"cc": 2, "crd": 4, "ctkd": 1}.get(kind.term, 0)
    assert all(p.grad.abs().max() > 0 for p in learned.values())
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())


def test_an_unknown_layer_lists_what_exists():
    with pytest.raises(
        ValueError, match=r"loss\.near\.student: there is no layer 'conv9'.* stage1 \(conv1\).*embedding"
    ):
        Objective({"near": ProbabilisticTransfer(student="conv9")}, {"near": 1.0}).bind(*networks())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RelationalDistillation(most=2), "loss.rkd.most: expected .*3 pictures or more.*, got 2"),
        (lambda: ProbabilisticTransfer(form="mean"), "loss.pkt.form: expected .*paper or code.*, got 'mean'"),
        (lambda: CorrelationCongruence(gamma=0), "loss.cc.gamma: expected .*above 0.*, got 0"),
        (lambda: ContrastiveRepresentation(momentum=1), "loss.crd.momentum: expected .*, got 1"),
        (lambda: CurriculumTemperature(start=30), "loss.ctkd.start: expected .*between 1 and 21.*, got 30"),
        (lambda: CurriculumTemperature(reversal=-1), "loss.ctkd.reversal: expected .*, got -1"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
