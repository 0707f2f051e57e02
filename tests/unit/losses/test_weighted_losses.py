"""Weights of classes and heads, and the focal loss, are pinned to numbers computed by hand."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from distill.losses import ce
from distill.losses.ce import CrossEntropy, effective_number_weights
from distill.losses.dist import Dist
from distill.losses.focal import Focal
from distill.losses.kd import KnowledgeDistillation
from distill.types import Outputs

B, H, K = 6, 5, 8


def outputs(logits):
    return Outputs(logits, logits[:, None], {})


def batch():
    g = torch.Generator().manual_seed(0)
    heads, target = torch.randn(B, H, K, generator=g), torch.rand(B, K, generator=g)
    return Outputs(heads.mean(1), heads, {}), target / target.sum(1, keepdim=True)


def test_head_weights_take_the_place_of_the_reduction():
    student, target = batch()
    weights = [0.2, 0.4, 0.0, 1.0, 3.0]
    by_hand = sum(w * F.cross_entropy(student.heads[:, h], target, reduction="none") for h, w in enumerate(weights))
    for reduction in ("sum", "mean"):
        loss = CrossEntropy(head_reduction=reduction, head_weights=weights)
        assert torch.allclose(loss(student, None, target), by_hand, atol=1e-5)
    one = CrossEntropy(apply_to="logits", head_weights=[2.0])(student, None, target)
    assert torch.allclose(one, 2 * F.cross_entropy(student.logits, target, reduction="none"))


def test_focal_loss_equals_values_computed_by_hand():
    # z = (ln 3, 0, 0) -> p = (3/5, 1/5, 1/5): class 0 costs (2/5)^2 ln(5/3), class 1 (4/5)^2 ln 5
    z = outputs(torch.tensor([[math.log(3), 0.0, 0.0]] * 3))
    target = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]])
    first, second = 0.16 * math.log(5 / 3), 0.64 * math.log(5)
    assert Focal()(z, None, target).tolist() == pytest.approx([first, second, (first + second) / 2])
    assert Focal(1.0)(z, None, target)[0].item() == pytest.approx(0.4 * math.log(5 / 3))
    weighted = Focal(class_weights=[2, 3, 5])(z, None, target).tolist()
    assert weighted == pytest.approx([2 * first, 3 * second, first + 1.5 * second])


@pytest.mark.parametrize("options", [{}, {"target": "hard", "class_weights": range(1, K + 1), "label_smoothing": 0.1}])
def test_focal_loss_with_gamma_0_is_cross_entropy(options):
    student, target = batch()
    for heads in ({}, {"head_reduction": "sum"}, {"head_weights": range(H)}):
        ce = CrossEntropy(**options, **heads)(student, None, target)
        assert torch.allclose(Focal(0.0, **options, **heads)(student, None, target), ce, atol=1e-6)
        assert not torch.allclose(Focal(2.0, **options, **heads)(student, None, target), ce, rtol=0.01)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_the_gradient_of_focal_loss_is_finite_however_sure_the_network_is(gamma):
    logits = torch.tensor([[0.0, 0, 0], [40, 0, 0], [200, 0, 0], [-200, 0, 0]]).requires_grad_()
    Focal(gamma)(outputs(logits), None, torch.tensor([[1.0, 0, 0]] * 4)).sum().backward()
    assert logits.grad.isfinite().all() and logits.grad[0].abs().min() > 0


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(),
        CrossEntropy("hard", range(1, K + 1), 0.1, "heads", "sum"),
        CrossEntropy(head_weights=range(1, H + 1)),
        CrossEntropy(apply_to="logits"),
        CrossEntropy(logit_adjustment=1.5, class_priors=range(1, K + 1)),
        Focal(),
        Focal(0.5, "hard", range(1, K + 1), 0.1, "logits"),
        Focal(5.0, head_weights=range(1, H + 1)),
    ],
    ids=lambda loss: f"{loss.term} {loss.apply_to} {loss.head_reduction}",
)
def test_the_gradient_is_that_of_central_differences_in_float64(loss, monkeypatch):
    monkeypatch.setattr(ce, "select_heads", lambda o, to: o.heads if to == "heads" else o.logits[:, None])
    student, target = batch()
    heads = student.heads.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: loss(Outputs(z.mean(1), z, {}), None, target), heads, atol=1e-7, rtol=1e-5
    )


def test_class_balanced_weights_equal_numbers_computed_by_hand():
    # beta = 1/2: (1 - 1/2) / (1 - 1/2^n) = 1, 2/3, 8/15 for n = 1, 2, 4; their sum is 11/5
    assert effective_number_weights([1, 2, 4], 0.5) == pytest.approx([15 / 11, 10 / 11, 8 / 11])
    assert effective_number_weights([3, 900], 0.0) == [1.0, 1.0]
    near = effective_number_weights([10, 20, 70], 1 - 1e-9)
    assert [w / near[0] for w in near] == pytest.approx([1, 1 / 2, 1 / 7], rel=1e-3), "toward 1 / n"
    assert sum(effective_number_weights([9, 5000, 74874], 0.9999)) == pytest.approx(3)


# Rare classes: priors pi and their exponent tau

ADJUSTED = [
    (CrossEntropy, "logit_adjustment"),
    (KnowledgeDistillation, "teacher_adjustment"),
    (Dist, "teacher_adjustment"),
]


def test_logit_adjusted_cross_entropy_equals_values_computed_by_hand():
    # z = 0: softmax(tau ln (1/2, 1/4, 1/4)) = (1/2, 1/4, 1/4) at tau = 1, (4, 1, 1) / 6 at tau = 2
    z, target = outputs(torch.zeros(3, 3)), torch.eye(3)
    for priors in ([0.5, 0.25, 0.25], [2, 1, 1]):
        one, two = (CrossEntropy(logit_adjustment=tau, class_priors=priors)(z, None, target).tolist() for tau in (1, 2))
        assert one == pytest.approx([math.log(2), math.log(4), math.log(4)])
        assert two == pytest.approx([math.log(1.5), math.log(6), math.log(6)])


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjusted_cross_entropy_is_least_where_the_plain_logits_are_free_of_the_prior(tau, monkeypatch):
    """Its gradient is softmax(z + tau log pi) - q: at z = log q - tau log pi it is 0, and softmax(z) is balanced at tau 1."""
    monkeypatch.setattr(ce, "select_heads", lambda o, to: o.heads)
    g = torch.Generator().manual_seed(0)
    pi, q = (torch.rand(*shape, K, generator=g, dtype=torch.float64) + 0.1 for shape in ((), (B,)))
    pi, q = pi / pi.sum(), q / q.sum(1, keepdim=True)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    z = (q.log() - tau * pi.log()).requires_grad_()
    loss = CrossEntropy(logit_adjustment=tau, class_priors=pi.tolist())
    (gradient,) = torch.autograd.grad(loss(outputs(z), None, q).sum(), z)
    assert gradient.abs().max() < 1e-12
    balanced = q / pi**tau
    assert torch.allclose(z.softmax(1), balanced / balanced.sum(1, keepdim=True), rtol=1e-12)


@pytest.mark.parametrize("kind", [KnowledgeDistillation, Dist])
def test_an_adjusted_teacher_is_the_teacher_whose_logits_lack_tau_log_prior(kind):
    student, _ = batch()
    teacher, priors = torch.randn(B, K, generator=torch.Generator().manual_seed(1)), torch.arange(1, K + 1)
    lacking = teacher - 0.7 * priors.log()
    loss, plain = kind(teacher_adjustment=0.7, class_priors=priors.tolist()), kind()
    assert torch.allclose(loss(student, outputs(teacher), None), plain(student, outputs(lacking), None), rtol=1e-5)
    assert loss(outputs(lacking), outputs(teacher), None).abs().max() < 1e-5, "nothing is left to learn"
    assert not torch.allclose(loss(student, outputs(teacher), None), plain(student, outputs(teacher), None), rtol=0.01)


@pytest.mark.parametrize(("kind", "option"), ADJUSTED)
def test_adjustment_is_off_by_default_to_the_last_bit_and_what_cannot_be_gets_a_sentence(kind, option):
    student, target = batch()
    teacher = outputs(torch.randn(B, K, generator=torch.Generator().manual_seed(1)))
    off = kind(**{option: 0.0}, class_priors=range(1, K + 1))
    assert torch.equal(off(student, teacher, target), kind()(student, teacher, target))
    assert off.state_dict() == {}, "checkpoints are as before"
    for given, key, wanted in (
        ({option: -1.0, "class_priors": [1] * K}, option, "0 or more"),
        ({option: math.inf, "class_priors": [1] * K}, option, "0 or more"),
        ({option: 1.0}, "class_priors", "one number above 0 per class"),
        ({option: 1.0, "class_priors": [0.5, 0.5, 0]}, "class_priors", "one number above 0 per class"),
    ):
        with pytest.raises(
            ValueError, match=rf"loss\.{kind.term}\.{key}: expected {wanted}.*, got {re.escape(str(given.get(key)))}"
        ):
            kind(**given)
    with pytest.raises(ValueError, match=rf"loss\.{kind.term}\.class_priors: 3 numbers for 8 classes"):
        kind(class_priors=[1, 2, 3]).check(None, K)
