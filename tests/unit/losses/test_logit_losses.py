"""Losses on logits: invariances, limits and the mistakes of public toolkits, over every loss and its options."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from logit_losses import LOSSES, ON_LABELS, B, H, K, batch, each, gradient, one_hot, outputs, relational

from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.losses.dist import Dist
from distill.losses.dkd import DecoupledDistillation
from distill.losses.focal import Focal
from distill.losses.hard import HardDistillation
from distill.losses.kd import KnowledgeDistillation
from distill.losses.microexpnet import MicroExpNetMixture
from distill.losses.mlkd import MultiLevelDistillation
from distill.losses.nkd import NormalizedDistillation
from distill.losses.sinkhorn import Sinkhorn
from distill.losses.tfkd import TeacherFreeDistillation
from distill.losses.ttm import TransformedTeacherMatching
from distill.losses.votes_and_teacher import VotesAndTeacher
from distill.losses.wsld import WeightedSoftLabels
from distill.types import Outputs

every_loss = each([*LOSSES, *ON_LABELS])


@every_loss
def test_a_loss_is_one_value_per_sample_of_that_sample_alone_or_a_scalar_if_relational(loss):
    student, teacher, target = batch()
    value = loss(student, teacher, target)
    assert value.shape == (() if relational(loss) else (B,)) and value.isfinite().all() and (value > 0).all()
    alone = [loss(*(Outputs(o.logits[i, None], o.heads[i, None], {}) for o in (student, teacher)), target[i, None])
             for i in range(B)]  # fmt: skip
    assert torch.allclose(torch.stack(alone).flatten(), value, rtol=1e-4) is not relational(loss)


@every_loss
def test_several_heads_are_reduced_as_asked_and_logits_are_the_fused_prediction(loss):
    student, teacher, target = batch()
    single = [loss(outputs(student.heads[:, h]), teacher, target) for h in range(H)]
    wanted = sum(single) if loss.head_reduction == "sum" else sum(single) / H
    wanted = loss(outputs(student.logits), teacher, target) if loss.apply_to == "logits" else wanted
    assert torch.allclose(loss(student, teacher, target), wanted, rtol=1e-4)


@every_loss
def test_shuffling_the_batch_changes_nothing(loss):
    student, teacher, target = batch(size=32)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    shuffled = loss(*(Outputs(o.logits[order], o.heads[order], {}) for o in (student, teacher)), target[order])
    value = loss(student, teacher, target)
    assert torch.allclose(shuffled, value if relational(loss) else value[order], rtol=1e-4)


@every_loss
def test_a_constant_added_to_a_samples_logits_changes_nothing(loss):
    student, teacher, target = batch()
    shift = torch.linspace(-5, 5, B)[:, None]
    shifted = Outputs(student.logits + shift, student.heads + shift[:, None], {}), outputs(teacher.logits - 2 * shift)
    assert torch.allclose(loss(*shifted, target), loss(student, teacher, target), rtol=1e-3, atol=1e-4)


@every_loss
def test_every_head_gets_a_gradient_and_the_teacher_none(loss):
    student, teacher, target = batch()
    heads, z_t = student.heads.requires_grad_(), teacher.logits.requires_grad_()
    value = loss(Outputs(heads.mean(1), heads, {}), outputs(z_t), target).mean()
    grad, teacher_grad = torch.autograd.grad(value, (heads, z_t), allow_unused=True)
    assert teacher_grad is None and (grad.abs().sum(-1) > 0).all()


@every_loss
def test_a_loss_says_truly_whether_it_needs_the_teacher(loss):
    student, teacher, target = batch()
    if loss.needs_teacher:
        other = outputs(teacher.logits.flip(1))
        assert not torch.allclose(loss(student, other, target), loss(student, teacher, target))
    else:
        assert torch.equal(loss(student, None, target), loss(student, teacher, target))


@every_loss
def test_bf16_under_autocast_is_within_2_percent_of_float32(loss):
    student, teacher, target = batch(size=64)
    half = [Outputs(o.logits.bfloat16(), o.heads.bfloat16(), {}) for o in (student, teacher)]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*half, target).mean()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(student, teacher, target).mean().item(), rel=0.02)


@every_loss
@pytest.mark.parametrize("size", [1, B])
@pytest.mark.parametrize("sign", [200.0, -200.0, 1.0])
def test_confident_networks_one_sample_or_a_single_class_give_finite_values_and_gradients(loss, size, sign):
    label = one_hot(*[3] * size)
    assert loss(outputs(sign * label), outputs(200 * label), label).isfinite().all()
    for z_t in (200 * label, -200 * label):
        assert gradient(loss, sign * label, z_t, label).isfinite().all()


@each(
    [
        (kind, o)
        for kind, o in LOSSES
        if kind.term in ("kd", "dkd", "dist", "mlkd") and o.keys().isdisjoint({"form", "class_priors"})
    ]
)
def test_what_measures_a_difference_is_zero_for_equal_or_shifted_logits(loss):
    _, teacher, target = batch()
    for shift in (0.0, 5.0):
        assert loss(outputs(teacher.logits + shift), teacher, target).abs().max() < 2e-4


@pytest.mark.parametrize("kind", [KnowledgeDistillation, DecoupledDistillation, WeightedSoftLabels])
def test_the_gradient_hardly_depends_on_temperature_with_t2_and_falls_as_its_square_without(kind):
    g = torch.Generator().manual_seed(0)
    z_s, z_t = (torch.randn(32, K, generator=g) for _ in range(2))
    target = torch.rand(32, K, generator=g).softmax(1)
    norms = {}
    for t in (1.0, 4.0, 16.0, 64.0):
        norms[t], without = (gradient(kind(temperature=t, scale_t2=s), z_s, z_t, target).norm() for s in (True, False))
        assert without.item() == pytest.approx(norms[t].item() / t**2, rel=1e-4)
    assert max(norms.values()) < 2 * min(norms.values())
    assert norms[16.0].item() == pytest.approx(norms[64.0].item(), rel=0.05)


LN2 = math.log(2)
BY_HAND = [  # teacher (1/2, 1/4, 1/4), student (1/4, 1/4, 1/2), label 0, T = 1
    (CrossEntropy(), 2 * LN2),
    (Focal(2.0), 9 / 16 * 2 * LN2),
    (KnowledgeDistillation(1.0), LN2 / 4),
    (DecoupledDistillation(1.0, 0.0, 1.0), math.log(4 / 3) / 2),  # (1/2, 1/2) from (1/4, 3/4)
    (DecoupledDistillation(0.0, 1.0, 1.0), math.log(9 / 8) / 2),  # (1/2, 1/2) from (1/3, 2/3)
    (NormalizedDistillation(1.0), LN2 + math.log(9 / 2) / 2),
    (Dist(gamma=1.0), 1.5),  # centered (2, -1, -1) and (-1, -1, 2): r = -1/2
    (MultiLevelDistillation([1.0], normalize=False), LN2 / 4 + 22 / 256 / 3),  # the batch's 1 x 1 matrices are equal
    (WeightedSoftLabels(1.0), (1 - math.exp(-2)) * 1.75 * LN2),
    (TransformedTeacherMatching(1.0), LN2 / 4),
    (
        TransformedTeacherMatching(2.0, weighted=True),
        6 / 16 * (13 / 6 * LN2 - math.log(3)),
    ),  # (4, 1, 1) / 6, u = 6 / 16
    (Sinkhorn(1.0), 0.5),
    (VotesAndTeacher(0.5), 1.875 * LN2),
    (HardDistillation(), 2 * LN2),
    (TeacherFreeDistillation(0.5, 1.0), LN2 / 4),
    (MicroExpNetMixture(0.5, 1.0), 1.875 * LN2),
]


@pytest.mark.parametrize(("loss", "value"), BY_HAND, ids=[loss.term for loss, _ in BY_HAND])
def test_three_classes_give_the_value_computed_by_hand(loss, value):
    z_t, z_s = torch.tensor([[2 * LN2, LN2, LN2]]), torch.tensor([[0, 0, LN2]])
    assert loss(outputs(z_s), outputs(z_t), one_hot(0, classes=3)).item() == pytest.approx(value, rel=1e-5)


def test_every_loss_has_a_value_computed_by_hand():
    assert {type(loss) for loss, _ in BY_HAND} == {kind for kind, _ in [*LOSSES, *ON_LABELS]}


# Mistakes of public toolkits, each of which must not come back


def test_kd_is_divided_by_the_batch_and_not_by_the_number_of_elements():
    student, teacher, _ = batch()
    log_s, t = (student.logits / 4).log_softmax(1), (teacher.logits / 4).softmax(1)
    kd = KnowledgeDistillation(4.0, apply_to="logits")(student, teacher, None).mean()
    assert kd.item() == pytest.approx(16 * F.kl_div(log_s, t, reduction="batchmean").item(), rel=1e-5)
    assert kd.item() == pytest.approx(16 * K * F.kl_div(log_s, t, reduction="none").mean().item(), rel=1e-5)


def test_a_mixture_without_cross_entropy_keeps_t2():
    student, teacher, target = batch()
    losses = {"ce": CrossEntropy(), "kd": KnowledgeDistillation(4.0)}
    alone, nearly = (Objective(losses, {"ce": a, "kd": 1 - a})(student, teacher, target)[0] for a in (0.0, 1e-6))
    assert alone.item() == pytest.approx(nearly.item(), rel=1e-4)
    plain = KnowledgeDistillation(4.0, scale_t2=False)(student, teacher, target).mean()
    assert alone.item() == pytest.approx(16 * plain.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [2.0, 6.0])
def test_mlkd_masks_no_sample_and_counts_each_temperature(temperature):
    student, teacher, target = batch(heads=1)
    p_s, p_t = ((o.logits / temperature).softmax(1) for o in (student, teacher))
    matrices = (p_s @ p_s.T - p_t @ p_t.T).square().sum() / B + (p_s.T @ p_s - p_t.T @ p_t).square().sum() / K
    value = MultiLevelDistillation([temperature], normalize=False)(student, teacher, target)
    kd = KnowledgeDistillation(temperature)(student, teacher, target).mean()
    assert (value - matrices).item() == pytest.approx(kd.item(), rel=1e-4)
    both = MultiLevelDistillation([temperature, 3.0], normalize=False)(student, teacher, target)
    assert both > value > kd


def test_sinkhorn_with_another_temperature_has_another_value():
    student, teacher, target = batch()
    values = [Sinkhorn(t)(student, teacher, target).item() for t in (1.0, 2.0, 4.0)]
    assert values[0] > 1.1 * values[1] > 1.2 * values[2]
    times_4 = Outputs(4 * student.logits, 4 * student.heads, {}), outputs(4 * teacher.logits)
    assert Sinkhorn(4.0)(*times_4, target).item() == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("loss", [DecoupledDistillation(temperature=1.0), NormalizedDistillation()], ids=["dkd", "nkd"])
def test_dkd_and_nkd_are_finite_where_the_logarithm_of_a_softmax_is_not(loss):
    z_s, z_t = torch.tensor([[0.0, 200.0, -200.0]]), torch.tensor([[200.0, -200.0, 0.0]])
    assert z_s.softmax(1).log().isinf().any()
    for label in range(3):
        target = one_hot(label, classes=3)
        assert loss(outputs(z_s), outputs(z_t), target).isfinite().all()
        assert gradient(loss, z_s, z_t, target).isfinite().all()


def test_votes_and_teacher_sums_over_the_classes_and_survives_a_probability_of_zero():
    student, teacher, target = batch()
    value = VotesAndTeacher(alpha=1.0, apply_to="logits")(student, teacher, target).mean()
    efficientface = -(teacher.logits.softmax(1) * student.logits.softmax(1).log()).mean()
    assert value.item() == pytest.approx(K * efficientface.item(), rel=1e-5)
    z = torch.tensor([[0.0, 200.0]])
    assert VotesAndTeacher()(outputs(z), outputs(-z), one_hot(0, classes=2)).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "key", "value", "wanted"),
    [
        (DecoupledDistillation, "alpha", -1, "0 or more"),
        (DecoupledDistillation, "beta", float("nan"), "0 or more"),
        (NormalizedDistillation, "gamma", -1, "0 or more"),
        (Dist, "gamma", -1, "0 or more"),
        (MultiLevelDistillation, "temperatures", [], "a list of numbers above 0"),
        (MultiLevelDistillation, "temperatures", [2, 0], "a list of numbers above 0"),
        (MultiLevelDistillation, "temperatures", 2.0, "a list of numbers above 0"),
        (TransformedTeacherMatching, "gamma", 0, "a number above 0"),
        (Sinkhorn, "epsilon", 0, "a number above 0"),
        (Sinkhorn, "iterations", 0, "1 or more"),
        (VotesAndTeacher, "alpha", 1.5, r"a share in \[0, 1\]"),
        (TeacherFreeDistillation, "correct", 1.0, "a chance between 0 and 1"),
        (MicroExpNetMixture, "alpha", -0.1, r"a share in \[0, 1\]"),
        *((type(x), "temperature", 0, "a number above 0") for x, _ in BY_HAND if hasattr(x, "temperature")),
    ],
)
def test_a_number_out_of_range_gets_a_sentence(kind, key, value, wanted):
    with pytest.raises(ValueError, match=rf"loss.{kind.term}.{key}: expected {wanted}.*, got {re.escape(str(value))}"):
        kind(**{key: value})


@pytest.mark.parametrize("kind", dict.fromkeys(kind for kind, _ in LOSSES), ids=lambda kind: kind.term)
def test_a_wrong_choice_or_a_teacher_of_other_classes_gets_a_sentence(kind):
    with pytest.raises(ValueError, match=rf"loss.{kind.term}.apply_to: expected .*heads or logits.*, got 'head'"):
        kind(apply_to="head")
    if kind.needs_teacher:
        with pytest.raises(ValueError, match=f"loss.{kind.term}: the teacher knows 7 classes, the student 8"):
            kind()(batch()[0], outputs(torch.zeros(B, 7)), None)
