"""Learning rates, decay and moving averages by hand."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distill.training import optim
from distill.training.loop import train_step
from distill.training.optim import OPTIMIZERS, Constant, Cosine, Exponential, ModelEma, Plateau

optimizer = partial(optim.optimizer, weight_decay=0.0, decay_biases=False)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def groups_of(made, module):
    """{parameter name: its group}."""
    return {
        name: group
        for name, parameter in module.named_parameters()
        for group in made.param_groups
        if any(parameter is other for other in group["params"])
    }


# Optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_steps_every_parameter_of_every_module_once(name):
    modules = [net(), nn.Linear(2, 2)]
    made = optimizer(modules, name, lr=0.1, weight_decay=0.01)
    listed = [id(p) for group in made.param_groups for p in group["params"]]
    assert isinstance(made, OPTIMIZERS[name])
    assert sorted(listed) == sorted(id(p) for module in modules for p in module.parameters())
    before = [p.detach().clone() for module in modules for p in module.parameters()]
    modules[0](torch.randn(4, 1, 4, 4)).square().sum().backward()
    modules[1](torch.randn(4, 2)).square().sum().backward()
    made.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, (p for m in modules for p in m.parameters()), strict=True)]
    assert all(m for k, m in enumerate(moved) if k != 1)  # a bias before BatchNorm has no gradient to speak of


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norm_scales_do_not_decay_unless_asked(name):
    module = net()
    for asked in (False, True):
        made = optimizer([module], name, lr=0.1, weight_decay=0.05, decay_biases=asked)
        decays = {parameter: group["weight_decay"] for parameter, group in groups_of(made, module).items()}
        assert decays.pop("0.weight") == decays.pop("3.weight") == 0.05
        assert len(decays) == 4 and set(decays.values()) == {0.05 if asked else 0.0}


def test_the_numbers_asked_for_reach_the_optimizer():
    adam = optimizer([net()], "adamw", 0.1, betas=(0.8, 0.9), eps=1e-5).param_groups[0]
    assert (adam["lr"], tuple(adam["betas"]), adam["eps"]) == (0.1, (0.8, 0.9), 1e-5)
    sgd = optimizer([net()], "sgd", 0.1, momentum=0.7, nesterov=True).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.7, True)


def test_lr_scale_multiplies_the_rate_by_prefix_and_the_longest_prefix_wins():
    module = net()
    made = optimizer([module], "sgd", 0.1, lr_scale={"3.": 10, "3.bias": 100, "0.weight": 0.5})
    Constant().apply(made, 0, 1)
    rates = {name: group["lr"] for name, group in groups_of(made, module).items()}
    wanted = {"0.weight": 0.05, "0.bias": 0.1, "1.weight": 0.1, "1.bias": 0.1, "3.weight": 1.0, "3.bias": 10.0}
    assert rates == pytest.approx(wanted)


def test_a_scale_that_fits_no_parameter_is_named():
    with pytest.raises(ValueError, match=r"student\.lr_scale: no parameter's name begins with 'classifier\.'"):
        optimizer([net()], "adamw", 0.1, lr_scale={"classifier.": 10})


def test_lr_scale_of_a_part_that_a_variant_leaves_empty_is_no_mistake():
    network = nn.ModuleDict({"heads": nn.ModuleList(), "last": nn.Linear(2, 2)})
    made = optimizer([network], "sgd", 0.1, lr_scale={"heads.": 10, "last.": 2})
    assert {group["lr"] for group in made.param_groups} == {0.2}


def test_an_unknown_optimizer_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"optimizer\.name: lion is unknown.*adamw, adam, adamax, sgd"):
        optimizer([net()], "lion", 0.1)


def test_frozen_parameters_are_left_out():
    module = net()
    module[0].requires_grad_(False)
    assert "0.weight" not in groups_of(optimizer([module], "sgd", 0.1), module)


def test_clipping_keeps_the_direction_and_limits_the_joint_norm():
    for limit, factor in ((None, 1), (10, 1), (1, 1 / 5)):
        a, b = (torch.zeros(2, requires_grad=True) for _ in range(2))
        step = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0)
        total = 3 * a[0] + 4 * b[1]
        train_step(None, None, SimpleNamespace(optimizer=step, loss=lambda *_, t=total: (t, {}), ema=None), None, limit)
        assert torch.allclose(a, torch.tensor([-3.0 * factor, 0]), atol=1e-5)
        assert torch.allclose(b, torch.tensor([0, -4.0 * factor]), atol=1e-5)


# Schedules


def test_cosine_falls_from_one_to_final_by_the_formula():
    schedule = Cosine(warmup=0, final=0.1)
    half = math.sqrt(0.5)
    wanted = {0: 1.0, 2: 0.1 + 0.9 * (1 + half) / 2, 4: 0.55, 6: 0.1 + 0.9 * (1 - half) / 2, 8: 0.1}
    assert {t: schedule.lr_factor(t, 8) for t in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize("schedule", [Cosine(warmup=2), Constant(warmup=2), Exponential(warmup=2), Plateau(warmup=2)])
def test_warm_up_is_a_straight_line_from_nearly_nothing_to_one(schedule):
    assert 0 < schedule.lr_factor(0, 10) < 0.001
    assert [schedule.lr_factor(t, 10) for t in (0.5, 1, 1.5, 2)] == pytest.approx([0.25, 0.5, 0.75, 1])


def test_cosine_after_warm_up_spans_the_epochs_that_are_left():
    assert Cosine(warmup=2, final=0).lr_factor(6, 10) == pytest.approx(0.5)


def test_a_schedule_sets_each_group_from_its_own_base_rate_however_often_it_is_applied():
    module = net()
    made = optimizer([module], "sgd", 0.1, lr_scale={"3.": 10})
    for _ in range(3):
        assert Cosine(warmup=0).apply(made, 5, 10) == pytest.approx(0.5)
    assert {g["base_lr"]: g["lr"] for g in made.param_groups} == pytest.approx({0.1: 0.05, 1.0: 0.5})


def test_exponential_goes_down_a_stair_at_the_end_of_every_epoch_whatever_their_number():
    schedule = Exponential(rate=0.95)
    wanted = {0: 1, 0.99: 1, 1: 0.95, 1.5: 0.95, 2: 0.95**2, 59.9: 0.95**59}
    for epochs in (5, 60):
        assert {t: schedule.lr_factor(t, epochs) for t in wanted} == pytest.approx(wanted)


def test_exponential_counts_its_stairs_from_the_end_of_warm_up():
    schedule = Exponential(warmup=0.5, rate=0.1, every=2)
    wanted = {0.25: 0.5, 0.5: 1, 2.4: 1, 2.5: 0.1, 4.5: 0.01}
    assert {t: schedule.lr_factor(t, 9) for t in wanted} == pytest.approx(wanted)
    assert Exponential(rate=0.5, every=0.1).lr_factor(0.3, 1) == 0.125


@pytest.mark.parametrize("numbers, key", [({"rate": 0}, "rate"), ({"rate": 1.5}, "rate"), ({"every": 0}, "every")])
def test_stairs_that_cannot_be_are_refused(numbers, key):
    with pytest.raises(ValueError, match=rf"^schedule\.{key}: expected a .*, got {numbers[key]}\."):
        Exponential(**numbers)


def test_plateau_bears_patience_epochs_without_a_rise_and_then_drops():
    schedule, factors = Plateau(factor=0.5, patience=2, threshold=0), []
    for value in (0.6, 0.7, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5, 0.8, 0.8):
        schedule.observe(value)
        factors.append(schedule.lr_factor(0, 10))
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_plateau_counts_only_a_rise_above_the_threshold_also_for_negative_metrics():
    for start, small, large in ((0.5, 0.5001, 0.6), (-0.5, -0.4999, -0.4)):
        schedule = Plateau(patience=10, threshold=0.01)
        for value, waited in ((start, 0), (small, 1), (large, 0)):
            schedule.observe(value)
            assert schedule.waited == waited


@pytest.mark.parametrize("make", [Constant, Cosine, Exponential, Plateau])
def test_a_schedule_goes_on_from_its_state(make):
    first, second = make(warmup=1), make(warmup=1)
    for value in (0.5, *[0.4] * 7):
        first.observe(value)
    second.load_state_dict(first.state_dict())
    for value in [0.4] * 6:
        first.observe(value), second.observe(value)
    assert vars(first) == vars(second) and first.lr_factor(5, 10) == second.lr_factor(5, 10)


# Moving average


def test_the_average_follows_the_formula_with_its_slow_start():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average, wanted = ModelEma(module, decay=0.3), 0.0
    for n, weight in enumerate((1.0, 2.0, -1.0, 5.0, 3.0), start=1):
        nn.init.constant_(module.weight, weight)
        average.update(module)
        d = min(0.3, (1 + n) / (10 + n))
        wanted = d * wanted + (1 - d) * weight
        assert average.values["weight"].item() == pytest.approx(wanted, rel=1e-6)
    assert d == 0.3 and 2 / 11 < 0.3, "both branches of min were met"


def test_the_average_copies_integer_buffers_averages_the_others_and_leaves_the_module_alone():
    module = net()
    average = ModelEma(module, 0.99)
    for _ in range(3):
        module(5 + torch.randn(4, 1, 4, 4))
        before = {name: value.clone() for name, value in module.state_dict().items()}
        average.update(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert average.values.keys() == before.keys()
    assert average.values["1.num_batches_tracked"] == 3 and average.values["1.num_batches_tracked"].dtype == torch.int64
    assert not torch.equal(average.values["1.running_mean"], before["1.running_mean"])


def test_the_average_goes_on_from_its_state():
    module = net()
    one, other = ModelEma(module, 0.9), ModelEma(net(), 0.9)
    for step in range(4):
        nn.init.constant_(module[3].weight, step)
        one.update(module)
        if step == 1:
            kept = {"updates": one.updates, "values": {n: v.clone() for n, v in one.values.items()}}
            other.load_state_dict(kept)
        elif step > 1:
            other.update(module)
    assert one.updates == other.updates == 4
    assert all(torch.equal(value, other.values[name]) for name, value in one.values.items())
