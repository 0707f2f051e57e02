"""Weights of classes and heads, and the focal loss, are pinned to numbers computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.losses import ce
from distill.losses.ce import CrossEntropy, effective_number_weights
from distill.losses.focal import Focal
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
    assert [w / near[0] for w in near] == pytest.approx([1, 1 / 2, 1 / 7], rel=1e-3), "towards 1 / n"
    assert sum(effective_number_weights([9, 5000, 74874], 0.9999)) == pytest.approx(3)
