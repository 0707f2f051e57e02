"""Losses on feature maps keep what every loss promises: batches in any order, no gradient to the teacher, parts that learn."""

import math
from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from feature_nets import NETS, B, Plain, bound, faces, frozen, leaves, meet, networks, resnet18, stirred
from torch import nn

from distill.augment.views import render_batch
from distill.losses.ab import ActivationBoundary
from distill.losses.at import AttentionTransfer
from distill.losses.base.objective import Objective
from distill.losses.fsp import FlowOfSolution
from distill.losses.ft import FactorTransfer
from distill.losses.hint import Hint
from distill.losses.nst import NeuronSelectivity
from distill.losses.ofd import Overhaul, margin, partial
from distill.losses.sp import SimilarityPreserving
from distill.losses.vid import VariationalInformation
from distill.types import Outputs

LOSSES = {
    "hint": Hint,
    "hint, not normalized": lambda: Hint(normalize=False),
    "at": AttentionTransfer,
    "at, paper": lambda: AttentionTransfer(form="paper"),
    "sp": SimilarityPreserving,
    "nst": NeuronSelectivity,
    "fsp": FlowOfSolution,
    "ab": ActivationBoundary,
    "ofd": Overhaul,
    "ft": FactorTransfer,
    "ft, code": lambda: FactorTransfer(form="code"),
    "vid": VariationalInformation,
}
every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
every_net = pytest.mark.parametrize("nets", NETS)


def rows(outputs, order):
    features = {name: x[order] for name, x in outputs.features.items()}
    return Outputs(outputs.logits[order], outputs.heads[order], features)


@every_net
@every_loss
def test_the_student_and_every_learned_part_get_a_gradient_and_the_teacher_none(make, nets):
    loss, student, teacher = meet(make(), nets)
    objective = Objective({"x": loss}, {"x": 1.0})
    total, _ = objective(student, teacher, None)
    total.backward()
    own, theirs = ({pair[i].name for pair in loss.pairs} for i in (0, 1))
    assert own and all(student.features[name].grad.abs().sum() > 0 for name in own)
    assert theirs and all(teacher.features[name].grad is None for name in theirs)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters() if p.ndim == 4)
    assert bool(list(objective.parameters())) == (
        type(loss) not in (AttentionTransfer, SimilarityPreserving, NeuronSelectivity)
    )


@every_loss
def test_the_gradient_goes_on_into_the_students_weights(make):
    loss, student, teacher = bound(make(), NETS[2])
    student.zero_grad()
    loss(student(render_batch(faces(), student.input)), teacher(faces()), None).mean().backward()
    assert student.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())


@every_loss
def test_shuffling_the_batch_changes_nothing_but_the_order(make):
    loss, student, teacher = meet(make())
    order = torch.tensor([2, 0, 3, 1])
    value, shuffled = loss(student, teacher, None), loss(rows(student, order), rows(teacher, order), None)
    assert value.shape in ((), (B,)) and value.isfinite().all()
    assert torch.allclose(shuffled, value[order] if value.ndim else value, rtol=1e-4, atol=1e-7)


@every_net
@every_loss
def test_maps_in_bf16_under_autocast_are_within_2_percent(make, nets):
    loss, student, teacher = meet(make(), nets, faces(16))
    exact = loss(student, teacher, None).mean().item()
    half = [leaves(outputs, lambda x: x.bfloat16()) for outputs in (student, teacher)]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*half, None)
    assert value.dtype == torch.float32
    assert value.mean().item() == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("nets", NETS[:2])
@every_loss
def test_one_face_equal_faces_and_dead_maps_give_finite_values_and_gradients(make, nets):
    loss, *both = meet(make(), nets)
    one, equal, as_it_is = (lambda x: x[:1]), (lambda x: x[:1].repeat(B, 1, 1, 1)), (lambda x: x)
    for changes in ((one, one), (equal, equal), (torch.zeros_like, torch.zeros_like), (torch.zeros_like, as_it_is)):
        student, teacher = (leaves(outputs, change) for outputs, change in zip(both, changes, strict=True))
        value = loss(student, teacher, None)
        value.mean().backward()
        assert value.isfinite().all()
        assert all(student.features[own.name].grad.isfinite().all() for own, _ in loss.pairs)
        assert all(p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize(
    "make",
    [Hint, AttentionTransfer, SimilarityPreserving, NeuronSelectivity, FlowOfSolution],
    ids=lambda kind: kind.__name__,
)
def test_equal_networks_cost_nothing_and_others_do(make):
    student = stirred(Plain(16, 5, 6)).eval()
    loss, own, theirs = meet(make(), (student, frozen(deepcopy(student))))
    for regressor in getattr(loss, "regressors", []):
        if isinstance(regressor, nn.Conv2d):
            nn.init.dirac_(regressor.weight)
            nn.init.zeros_(regressor.bias)
    assert loss(own, theirs, None).abs().max() < 1e-6
    other = leaves(theirs, lambda x: x.roll(1, 0).flip(3))
    assert loss(own, other, None).mean() > 1e-5


@every_loss
def test_a_layer_that_does_not_exist_is_refused_with_those_that_do(make):
    loss = make()
    loss.term, loss.layer_names = "x", ("conv9", None)
    with pytest.raises(
        ValueError, match=r"loss\.x\.student: .* 'conv9'\. Choose stage1 \(relu1\), stage2 .* like .*conv"
    ):
        bound(loss)
    loss.layer_names = (None, "layer9")
    with pytest.raises(ValueError, match=r"loss\.x\.teacher: .* 'layer9'\. Choose stage1 .*net\.layer4\)"):
        bound(loss, NETS[2])


@pytest.mark.parametrize("name", [name for name in LOSSES if name[:4] not in ("hint", "sp")])
def test_a_loss_on_maps_refuses_vectors(name):
    loss = LOSSES[name]()
    loss.layer_names = (["stage1", "embedding"], ["stage1", "stage2"])
    with pytest.raises(ValueError, match=r"student: fc:in answers \[4\], and this loss compares maps .* Name a stage"):
        bound(loss)


def test_similarities_are_those_of_the_deepest_stages_or_of_any_layers_that_were_named():
    assert [pair[1].name for pair in bound(SimilarityPreserving(), NETS[2])[0].pairs] == ["net.layer4"]
    loss, student, teacher = meet(SimilarityPreserving("embedding", "embedding"), NETS[2])
    assert [(own.shape, theirs.shape) for own, theirs in loss.pairs] == [((48,), (512,))]
    assert loss(student, teacher, None) > 0


# Maps before the activation


def test_a_batch_norm_that_the_network_overwrites_is_taken_as_it_was():
    _, teacher = networks(NETS[2])
    loss, *_ = bound(Overhaul(), NETS[2])
    assert [theirs.name for _, theirs in loss.pairs] == ["net.bn1", "net.layer2.1.bn2"]
    assert all(theirs.overwritten for _, theirs in loss.pairs)
    seen = {}
    for name in ("net.bn1", "net.layer2.1.bn2"):
        module = teacher.network.get_submodule(name)
        hook = module.register_forward_hook(lambda m, given, out, name=name: seen.update({name: (out.clone(), out)}))
        answer = teacher(faces()).features[name]
        hook.remove()
        as_it_was, as_it_became = seen[name]
        assert torch.equal(answer, as_it_was) and not torch.equal(answer, as_it_became)
        assert (answer < 0).any()


@pytest.mark.parametrize("make", [ActivationBoundary, Overhaul])
def test_a_student_that_overwrites_its_batch_norm_learns_through_it(make):
    torch.manual_seed(0)
    student = stirred(resnet18(32)).train()
    loss, _, teacher = bound(make(), (student, networks(NETS[1])[1]))
    assert {own.name for own, _ in loss.pairs} >= {"net.bn1", "net.layer1.1.bn2", "net.layer2.1.bn2"}
    answer = student(render_batch(faces(), student.input))
    assert all((answer.features[own.name] < 0).any() for own, _ in loss.pairs)
    (loss(answer, teacher(faces()), None).mean() + answer.logits.sum()).backward()
    assert student.net.layer1[1].conv2.weight.grad.abs().sum() > 0


def test_a_stage_without_a_batch_norm_of_its_own_is_taken_as_it_is():
    loss, *_ = bound(Overhaul(), NETS[2])
    assert [own.name for own, _ in loss.pairs] == ["conv1", "conv2"]
    named, *_ = bound(Overhaul(teacher=["layer2", "layer3"]), NETS[2])
    assert [theirs.name for _, theirs in named.pairs] == ["net.layer2", "net.layer3"]
    assert not named.margin0.any() and not named.margin1.any()


def test_a_batch_norm_that_comes_after_the_stage_is_not_its_own():
    class Nested(Plain):
        def __init__(self):
            super().__init__(16, 5, 6)
            self.bn1 = nn.Identity()
            parts = {"conv": nn.Conv2d(5, 5, 1), "norm": nn.BatchNorm2d(5), "down": nn.Conv2d(5, 6, 3, 2, 1)}
            self.conv2 = nn.Sequential(OrderedDict(parts))

    loss, *_ = bound(Overhaul(), (networks(NETS[1])[0], frozen(Nested())))
    assert [theirs.name for _, theirs in loss.pairs] == ["relu1", "bn2"]


def test_where_the_teacher_is_silent_a_student_below_zero_costs_nothing():
    s, t = torch.tensor([[-3.0, 0.5, -1.0, -3.0]]), torch.tensor([[0.0, 0.0, -2.0, 1.0]])
    costs = [partial(s[:, i : i + 1], t[:, i : i + 1]).item() for i in range(4)]
    assert costs == [0.0, 0.25, 1.0, 16.0]


def test_the_margin_is_the_mean_of_what_lies_below_zero():
    norm = nn.BatchNorm2d(6)
    norm.weight.data = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.0, 0.0])
    norm.bias.data = torch.tensor([0.0, 0.4, -0.6, 40.0, -0.7, 0.7])
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2)
    values = margin(norm)
    for c in range(3):
        y = norm.bias[c].double() + norm.weight[c].double().abs() * x
        expected = (y * density)[y < 0].sum() / density[y < 0].sum()
        assert values[c].item() == pytest.approx(expected.item(), abs=1e-4)
    assert -0.1 < values[3] <= 0 and values[4:].tolist() == pytest.approx([-0.7, 0.0])
    assert margin(nn.BatchNorm2d(1, affine=False)).item() == pytest.approx(-math.sqrt(2 / math.pi))


def test_activation_boundaries_are_the_same_before_and_after_the_teachers_relu():
    values = []
    for layers in (["bn1", "bn2"], ["relu1", "relu2"], None):
        loss, student, teacher = meet(ActivationBoundary(teacher=layers), NETS[0])
        values.append(loss(student, teacher, None))
    assert torch.equal(values[0], values[1]) and torch.equal(values[1], values[2])
    assert [own.name for own, _ in loss.pairs] == ["bn1", "bn2"]


# What single losses promise


def test_a_flow_needs_two_stages_and_learns_a_regressor_only_where_channels_differ():
    with pytest.raises(
        ValueError, match=r"loss\.fsp: relates consecutive pairs .* one \(relu1 with relu1\)\. Name two"
    ):
        bound(FlowOfSolution("stage1", "stage1"))
    loss, *_ = bound(FlowOfSolution(), NETS[1])
    assert [type(regressor) for regressor in loss.regressors] == [nn.Conv2d, nn.Identity]


def test_variances_start_at_five_and_are_learned():
    loss, student, teacher = meet(VariationalInformation())
    variances = [nn.functional.softplus(rho) + 1e-5 for rho in loss.rho]
    assert all(torch.allclose(v, torch.tensor(5.0)) for v in variances)
    assert all(rho.ndim == 1 for rho in loss.rho), "weight decay leaves such parameters out"
    optimizer = torch.optim.Adam(Objective({"vid": loss}, {"vid": 1.0}).parameters(), 0.1)
    first = loss(student, teacher, None).mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss(student, teacher, None).mean().backward()
        optimizer.step()
    assert all((rho < 3).all() for rho in loss.rho)
    assert loss(student, teacher, None).mean().item() < min(0.0, first)


def test_the_reconstruction_trains_the_paraphraser_and_nothing_else():
    def gradients(reconstruction):
        loss, student, teacher = meet(FactorTransfer(reconstruction=reconstruction))
        loss(student, teacher, None).mean().backward()
        own = [p.grad for part in (loss.encoders, loss.decoders) for p in part.parameters()]
        return own, [p.grad for p in loss.translators.parameters()] + [student.features[loss.pairs[0][0].name].grad]

    (once, other), (twice, same) = gradients(1.0), gradients(2.0)
    assert all(torch.allclose(2 * a, b, rtol=1e-5) for a, b in zip(once, twice, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(other, same, strict=True))
    loss, *_ = bound(FactorTransfer(rate=0.25), NETS[2])
    assert loss.encoders[0][-2].out_channels == 128


@pytest.mark.parametrize(
    ("make", "option"), [(AttentionTransfer, "p"), (ActivationBoundary, "margin"), (FactorTransfer, "p")]
)
def test_an_option_that_changes_with_the_epochs_is_read_anew(make, option):
    loss, student, teacher = meet(make())
    before = loss(student, teacher, None)
    setattr(loss, option, 3.0)
    assert not torch.allclose(loss(student, teacher, None), before)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AttentionTransfer(form="sum"), r"loss\.at\.form: expected .*code or paper.*, got 'sum'"),
        (lambda: AttentionTransfer(p=0.5), r"loss\.at\.p: expected .*1 or more.*, got 0\.5"),
        (lambda: ActivationBoundary(margin=-1.0), r"loss\.ab\.margin: expected .*0 or more.*, got -1\.0"),
        (lambda: FactorTransfer(form="paper"), r"loss\.ft\.form: expected .*factor or code.*, got 'paper'"),
        (lambda: FactorTransfer(rate=0.0), r"loss\.ft\.rate: expected .*share of the teacher's channels.*, got 0\.0"),
        (lambda: FactorTransfer(reconstruction=0.0), r"loss\.ft\.reconstruction: expected .*above 0.*, got 0\.0"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
