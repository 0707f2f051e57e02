"""Losses on logits equal slow loops in float64, have the gradients of finite differences, and keep their identities."""

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import get_object
from logit_losses import LOSSES, B, K, batch, each, gradient, named, one_hot, outputs
from omegaconf import OmegaConf

from distill.losses.base import logit_loss as logits
from distill.losses.base.logit_loss import LogitLoss, standardize
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.losses.dist import Dist
from distill.losses.dkd import DecoupledDistillation
from distill.losses.kd import KnowledgeDistillation
from distill.losses.microexpnet import MicroExpNetMixture
from distill.losses.mlkd import MultiLevelDistillation
from distill.losses.sinkhorn import Sinkhorn
from distill.losses.tfkd import TeacherFreeDistillation
from distill.losses.ttm import TransformedTeacherMatching
from distill.losses.votes_and_teacher import VotesAndTeacher
from distill.losses.wsld import WeightedSoftLabels
from distill.types import Outputs

CONF = Path(__file__).resolve().parents[3] / "conf" / "loss"


@pytest.fixture
def double(monkeypatch):
    """Heads and teacher as they are, not in float32."""
    monkeypatch.setattr(logits, "select_heads", lambda o, to: o.heads if to == "heads" else o.logits[:, None])


# Loops: o are a loss's options, s and t one head's and the teacher's logits of the whole batch, q the targets


def p(z, temperature=1.0):
    e = [math.exp(v / temperature) for v in z]
    return [v / sum(e) for v in e]


def z_score(z):
    mean = sum(z) / len(z)
    return [(v - mean) / (math.sqrt(sum((u - mean) ** 2 for u in z) / (len(z) - 1)) + 1e-7) for v in z]


def h(t, s):
    return -sum(a * math.log(b) for a, b in zip(t, s, strict=True) if a > 0)


def kl(t, s):
    return h(t, s) - h(t, t)


def others(probabilities, y):
    return [v / (1 - probabilities[y]) for k, v in enumerate(probabilities) if k != y]


def t2(o):
    return o["temperature"] ** 2 if o["scale_t2"] else 1.0


def adjusted(o, t):
    """The teacher's logits without what its classes' shares of the training data add to them."""
    tau, priors = o.get("teacher_adjustment", 0.0), o.get("class_priors") or [1.0] * len(t)
    return [v - tau * math.log(prior) for v, prior in zip(t, priors, strict=True)]


def kd(o, s, t, q):
    t = adjusted(o, t)
    t, s = (p(z_score(z) if o["standardize"] else z, o["temperature"]) for z in (t, s))
    return t2(o) * (kl(t, s) if o.get("form", "kl") == "kl" else h(t, s))


def dkd(o, s, t, q):
    y = int(np.argmax(q))
    t, s = (p(z_score(z) if o["standardize"] else z, o["temperature"]) for z in (t, s))
    label = kl([t[y], 1 - t[y]], [s[y], 1 - s[y]])
    return t2(o) * (o["alpha"] * label + o["beta"] * kl(others(t, y), others(s, y)))


def nkd(o, s, t, q):
    y, temperature = int(np.argmax(q)), o["temperature"]
    rest = h(others(p(t, temperature), y), others(p(s, temperature), y))
    return -p(t)[y] * math.log(p(s)[y]) + o["gamma"] * temperature**2 * rest


def wsld(o, s, t, q):
    weight = 1 - math.exp(-h(q, p(s)) / h(q, p(t)))
    return t2(o) * weight * h(p(t, o["temperature"]), p(s, o["temperature"]))


def ttm(o, s, t, q):
    power = [v ** o["gamma"] for v in p(t)]
    return (sum(power) if o["weighted"] else 1) * kl([v / sum(power) for v in power], p(s))


def votes_and_teacher(o, s, t, q):
    a = o["alpha"]
    return h([(1 - a) * v + a * u for v, u in zip(q, p(t, o["temperature"]), strict=True)], p(s))


def hard(o, s, t, q):
    return -math.log(p(s)[int(np.argmax(t))])


def tfkd(o, s, t, q):
    v = [o["correct"] if k == np.argmax(q) else (1 - o["correct"]) / (len(q) - 1) for k in range(len(q))]
    v = [u ** (1 / o["temperature"]) for u in v]
    return t2(o) * kl([u / sum(v) for u in v], p(s, o["temperature"]))


def microexpnet(o, s, t, q):
    soft = h(p(t, o["temperature"]), p(s, o["temperature"]))
    return (1 - o["alpha"]) * -math.log(p(s)[int(np.argmax(q))]) + o["alpha"] * soft


def dist(o, s, t, q):
    t = [adjusted(o, row) for row in t]
    s, t = (np.array([p(z, o["temperature"]) for z in zs]) for zs in (s, t))
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(s, t, strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, t.T, strict=True)]
    return t2(o) * (o["beta"] * (1 - np.mean(rows)) + o["gamma"] * (1 - np.mean(columns)))


def mlkd(o, s, t, q):
    size, classes, total = len(s), len(s[0]), 0.0
    for temperature in o["temperatures"]:
        options = {"temperature": temperature, "scale_t2": True, "standardize": o["standardize"]}
        total += sum(kd(options, a, b, None) for a, b in zip(s, t, strict=True)) / size
        u, v = ([p(z, temperature) for z in zs] for zs in (s, t))
        for i in range(size):
            for j in range(size):
                a, b = (sum(x * y for x, y in zip(w[i], w[j], strict=True)) for w in (u, v))
                total += (a - b) ** 2 / (size**2 if o["normalize"] else size)
        for i in range(classes):
            for j in range(classes):
                a, b = (sum(row[i] * row[j] for row in w) for w in (u, v))
                total += (a - b) ** 2 / classes / (size**2 if o["normalize"] else 1)
    return total


def sinkhorn(o, s, t, q):
    u, v = ([p(z, o["temperature"]) for z in zs] for zs in (s, t))
    cost = np.array([[sum(abs(a - b) for a, b in zip(x, y, strict=True)) for y in v] for x in u])
    plan = np.exp(-cost / o["epsilon"])
    for _ in range(o["iterations"]):
        for i in range(len(plan)):
            plan[i] /= plan[i].sum()
        for j in range(len(plan)):
            plan[:, j] /= plan[:, j].sum()
    return (plan * cost).sum() / len(plan)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("kind", "options"), LOSSES, ids=named(LOSSES))
def test_a_loss_equals_a_slow_loop_in_float64(kind, options, seed, double):
    student, teacher, target = batch(seed)
    student, teacher = (Outputs(o.logits.double(), o.heads.double(), {}) for o in (student, teacher))
    loss, loop = kind(**options), globals()[kind.term]
    o = {name: word.default for name, word in inspect.signature(kind).parameters.items()} | options
    z = student.heads.numpy() if o["apply_to"] == "heads" else student.logits[:, None].numpy()
    t, q = teacher.logits.tolist(), target.double().tolist()
    value = loss(student, teacher, target.double())
    if loss.relational:
        assert value.item() == pytest.approx(
            np.mean([loop(o, head.tolist(), t, q) for head in z.swapaxes(0, 1)]), rel=1e-9
        )
        return
    by_loop = [[loop(o, list(head), t[b], q[b]) for head in z[b]] for b in range(B)]
    by_loop = np.sum(by_loop, 1) if o.get("head_reduction") == "sum" else np.mean(by_loop, 1)
    assert value.tolist() == pytest.approx(by_loop, rel=1e-9)


@each(LOSSES)
def test_the_gradient_is_that_of_central_differences_in_float64(loss, double, monkeypatch):
    student, teacher, target = batch(size=4, heads=2)
    heads, teacher, target = student.heads.double(), outputs(teacher.logits.double()), target.double()
    if isinstance(loss, WeightedSoftLabels):  # its weights are constants to the gradient
        z_s = heads if loss.apply_to == "heads" else heads.mean(1, keepdim=True)
        weights = loss.weights(z_s, teacher.heads, target)
        monkeypatch.setattr(loss, "weights", lambda *_: weights)
    assert torch.autograd.gradcheck(
        lambda z: loss(Outputs(z.mean(1), z, {}), teacher, target), heads.requires_grad_(), atol=1e-7, rtol=1e-5
    )


def test_every_yaml_of_a_logit_loss_is_in_the_table_and_agrees_with_the_class():
    found = {}
    for path in CONF.glob("*.yaml"):
        keys = OmegaConf.to_container(OmegaConf.load(path))
        kind = get_object(keys.pop("_target_"))
        if issubclass(kind, LogitLoss) and path.stem != "ctkd":  # has a ramp, and learns: test_crd_ctkd.py
            assert kind.term == path.stem and keys.pop("weight") > 0
            defaults = {name: word.default for name, word in inspect.signature(kind).parameters.items()}
            assert {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()} == defaults, path.name
            found[path.stem] = kind
    assert set(found.values()) == {kind for kind, _ in LOSSES}


# Identities


def test_kd_is_the_labels_part_plus_the_rest_weighed_by_the_teachers_doubt():
    student, teacher, target = batch(heads=1)
    label, rest = (DecoupledDistillation(a, 1 - a, 3.0)(student, teacher, target) for a in (1.0, 0.0))
    doubt = 1 - (teacher.logits / 3).softmax(1).gather(1, target.argmax(1, keepdim=True))[:, 0]
    assert torch.allclose(KnowledgeDistillation(3.0)(student, teacher, target), label + doubt * rest, atol=1e-4)


def test_with_two_classes_the_rest_is_zero_and_the_labels_part_is_kd():
    student, teacher, target = batch(heads=1, classes=2)
    rest = DecoupledDistillation(0.0, 8.0)
    assert rest(student, teacher, target).abs().max() == 0
    assert gradient(rest, student.logits, teacher.logits, target).abs().max() == 0
    label = DecoupledDistillation(1.0, 0.0)(student, teacher, target)
    assert torch.allclose(label, KnowledgeDistillation()(student, teacher, target), atol=1e-5)


def test_standardised_kd_ignores_both_spreads_and_is_kd_of_standardised_logits():
    student, teacher, _ = batch(heads=1)
    loss = KnowledgeDistillation(0.7, standardize=True)
    value, by_hand = loss(student, teacher, None), [outputs(standardize(o.logits)) for o in (student, teacher)]
    assert torch.allclose(loss(outputs(9 * student.logits + 2), outputs(0.2 * teacher.logits), None), value, rtol=1e-4)
    assert torch.allclose(KnowledgeDistillation(0.7)(*by_hand, None), value)
    assert torch.allclose(by_hand[0].logits.std(dim=1, correction=1), torch.ones(B))


@pytest.mark.parametrize(("temperature", "surest"), [(2.0, 0.37), (1.0, 0.71), (0.5, 0.98)])
def test_standardised_logits_bound_how_sure_a_teacher_of_eight_classes_can_be(temperature, surest):
    assert (standardize(1e3 * one_hot(0)) / temperature).softmax(1).max().item() == pytest.approx(surest, abs=0.005)


def test_microexpnets_objective_is_hard_cross_entropy_and_kd_without_t2_by_half():
    student, teacher, target = batch()
    losses = {"ce": CrossEntropy(target="hard"), "kd": KnowledgeDistillation(8.0, scale_t2=False, form="ce")}
    mixture, _ = Objective(losses, {"ce": 0.5, "kd": 0.5})(student, teacher, target)
    published, _ = Objective({"microexpnet": MicroExpNetMixture()}, {"microexpnet": 1.0})(student, teacher, target)
    assert published.item() == pytest.approx(mixture.item(), rel=1e-6)


def test_votes_and_teacher_has_the_gradient_of_cross_entropy_and_kd_at_temperature_one():
    student, teacher, target = batch(heads=1)
    union = gradient(VotesAndTeacher(0.3), student.logits, teacher.logits, target)
    parts = [
        gradient(loss, student.logits, teacher.logits, target) for loss in (CrossEntropy(), KnowledgeDistillation(1.0))
    ]
    assert torch.allclose(union, 0.7 * parts[0] + 0.3 * parts[1], atol=1e-6)


def test_ttm_with_power_one_is_kd_at_temperature_one():
    student, teacher, target = batch()
    kd_1 = KnowledgeDistillation(1.0)(student, teacher, target)
    assert torch.allclose(TransformedTeacherMatching(1.0)(student, teacher, target), kd_1, atol=1e-5)


def test_tfkd_at_temperature_one_has_the_gradient_of_label_smoothing():
    z, _, target = batch(heads=1)
    smooth = CrossEntropy("hard", label_smoothing=0.1 * K / (K - 1))
    virtual = gradient(TeacherFreeDistillation(0.9, 1.0), z.logits, z.logits, target)
    assert torch.allclose(virtual, gradient(smooth, z.logits, z.logits, target), atol=1e-6)


def test_wsld_weighs_all_samples_alike_if_the_teacher_never_errs_and_none_where_the_student_does_not():
    student, _, _ = batch(heads=1)
    target = one_hot(0, 1, 2, 3, 4, 5)
    sure, soft = outputs(200 * target), KnowledgeDistillation(form="ce")
    assert torch.allclose(WeightedSoftLabels()(student, sure, target), soft(student, sure, target))
    assert WeightedSoftLabels()(sure, outputs(target), target).abs().max() == 0


def test_dist_ignores_scales_leaves_out_the_batch_part_of_one_sample_and_what_does_not_vary():
    student, teacher, target = batch(size=1, heads=1)
    both, rows = (Dist(1.0, gamma)(student, teacher, target) for gamma in (1.0, 0.0))
    assert torch.equal(both, rows)
    z = torch.zeros(B, K)
    assert Dist(1.0, 0.5)(outputs(z), outputs(batch()[1].logits), None).item() == 1.5
    assert gradient(Dist(), z, batch()[1].logits, None).abs().max() == 0


def test_normalised_mlkd_does_not_change_when_the_batch_is_repeated_and_the_papers_does():
    student, teacher, _ = batch()
    twice = [Outputs(o.logits.repeat(2, 1), o.heads.repeat(2, 1, 1), {}) for o in (student, teacher)]
    for normalize in (True, False):
        loss = MultiLevelDistillation(normalize=normalize)
        assert torch.isclose(loss(*twice, None), loss(student, teacher, None), rtol=1e-4) == normalize


def test_sinkhorn_survives_an_epsilon_whose_kernel_is_zero_everywhere():
    label = one_hot(0, 1)
    z_s, z_t, loss = 20 * label, 20 * label.roll(2, 1), Sinkhorn(1.0, epsilon=0.005)
    assert np.exp(np.float32(-2 / 0.005)) == 0
    assert loss(outputs(z_s), outputs(z_t), None).item() == pytest.approx(2, rel=1e-4)
    assert gradient(loss, z_s, z_t, None).isfinite().all()
