"""Weights and temperatures follow their ramp, losses that are off cost nothing, and phases begin afresh in one run."""

import math

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from distill import build
from distill.config.schema import check, typed
from distill.losses.base.objective import Loss, Objective
from distill.losses.base.ramps import Ramp, ramp
from distill.losses.ce import CrossEntropy
from distill.losses.kd import KnowledgeDistillation
from distill.training.loop import Phase, Settings, TrainState
from distill.training.optim import Constant, Cosine, Plateau
from distill.types import Dataset, Outputs, Split

# Ramps


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.9, {0: 0.9, 3.5: 0.9, 100: 0.9}),
        ({"from": 0, "to": 0.9, "end": 2}, {0: 0, 0.5: 0.225, 1: 0.45, 2: 0.9, 9: 0.9}),
        ({"from": 8, "to": 2, "start": 1, "end": 4}, {0: 8, 1: 8, 2: 6, 3.5: 3, 4: 2, 5: 2}),
        ({"from": 0, "to": 1, "start": 5}, {0: 0, 4.99: 0, 5: 1, 6: 1}),
        ({"from": 1, "to": 0, "end": 4, "shape": "cosine"}, {0: 1, 1: (1 + math.cos(math.pi / 4)) / 2, 2: 0.5, 4: 0}),
        ({"from": 16, "to": 1, "end": 4, "shape": "exponential"}, {0: 16, 1: 8, 2: 4, 3: 2, 4: 1, 7: 1}),
    ],
)
def test_a_ramp_has_the_values_of_its_shape_at_every_epoch(given, expected):
    made = ramp(given, "k")
    for epoch, value in expected.items():
        assert made(epoch) == pytest.approx(value, abs=1e-12), epoch


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"from": 0},
            r"loss\.kd\.weight: expected from and to, .*\{from: 0, to: 0\.9, end: 5\}, got \{'from': 0\}",
        ),
        ({"from": 0, "to": 1, "until": 3}, r"loss\.kd\.weight: expected from and to, .*, got .*'until': 3"),
        ({"from": 0, "to": 1, "shape": "sine"}, r"loss\.kd\.weight\.shape: expected linear, cos.*, got 'sine'"),
        (
            {"from": 0, "to": 1, "start": 3, "end": 2},
            r"loss\.kd\.weight: from epoch 3 to epoch 2; give 0 <= start <= end",
        ),
        ({"from": 0, "to": 1, "start": -1}, r"loss\.kd\.weight: from epoch -1 to epoch -1; give 0 <= start"),
        ({"from": 0, "to": 1, "end": 2, "shape": "exponential"}, r"exponential ramp needs both above 0"),
    ],
)
def test_a_ramp_that_cannot_be_gets_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        ramp(given, "loss.kd.weight")


def test_a_ramp_of_weights_below_zero_gets_a_sentence():
    for given in ({"from": -1, "to": 1, "end": 2}, {"from": 1, "to": -1, "end": 2}, {"from": 0, "to": math.inf}):
        with pytest.raises(ValueError, match=r"loss\.ce\.weight: expected a finite number of at least 0.*, got .*"):
            Objective({"ce": CrossEntropy()}, {"ce": given})


# Objectives


class Counted(Loss):
    """Counts how often it is computed."""

    calls = 0

    def forward(self, student, teacher, target):
        self.calls += 1
        return student.logits.sum(1)


def outputs(logits):
    return Outputs(logits, logits[:, None], {})


STUDENT, TEACHER = (torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
TARGET = torch.eye(8)[[0, 3, 3, 7]]


def test_the_total_weighs_each_loss_as_its_ramp_says():
    objective = Objective({"ce": CrossEntropy(), "own": Counted()}, {"ce": 0.5, "own": {"from": 0, "to": 2, "end": 4}})
    ce, own = CrossEntropy()(outputs(STUDENT), None, TARGET).mean(), STUDENT.sum(1).mean()
    for epoch, weight in ((0, 0), (1, 0.5), (2.5, 1.25), (4, 2), (9, 2)):
        objective.at(epoch)
        total, terms = objective(outputs(STUDENT), None, TARGET)
        assert total.item() == pytest.approx((0.5 * ce + weight * own).item(), rel=1e-5)
        assert terms["own"].item() == pytest.approx(own.item())
        assert objective.changing() == {"weight_own": weight}


def test_a_loss_that_is_off_for_a_whole_epoch_is_not_computed_in_it():
    weights = {
        "a": {"from": 0, "to": 1, "start": 2},
        "b": {"from": 1, "to": 0, "end": 1.5},
        "c": {"from": 0, "to": 1, "start": 0.5},
    }
    objective = Objective({name: Counted() for name in weights}, weights)
    seen = []
    for step in range(12):  # four to an epoch
        objective.at(step / 4)
        _, terms = objective(outputs(STUDENT), None, TARGET)
        seen.append("".join(terms))
    assert seen == ["bc"] * 4 + ["bc"] * 4 + ["ac"] * 4, "the terms of an epoch's steps are the same ones, for the log"
    assert [loss.calls for loss in objective.losses.values()] == [4, 8, 12]


def test_where_every_weight_is_zero_all_losses_are_computed_and_the_total_is_zero():
    late = {"from": 0, "to": 1, "start": 1}
    objective = Objective({name: Counted() for name in "ab"}, dict.fromkeys("ab", late))
    total, terms = objective(outputs(STUDENT), None, TARGET)
    assert total.item() == 0 and list(terms) == ["a", "b"] and all(term != 0 for term in terms.values())


def test_a_phase_computes_its_own_losses_only():
    objective = Objective(
        {name: Counted() for name in "abc"}, {"a": 1.0, "b": 1.0, "c": {"from": 0, "to": 1, "start": 3}}
    )
    objective.at(0.0, ("a", "c"))
    assert list(objective(outputs(STUDENT), None, TARGET)[1]) == ["a"]
    objective.at(5.0, ("a", "c"))
    assert list(objective(outputs(STUDENT), None, TARGET)[1]) == ["a", "c"]
    objective.at(5.0)
    assert list(objective(outputs(STUDENT), None, TARGET)[1]) == ["a", "b", "c"]
    assert objective.losses["b"].calls == 1


def test_a_temperature_ramp_changes_the_softening_and_its_square():
    kd = KnowledgeDistillation(8.0)
    objective = Objective({"kd": kd}, {"kd": 1.0}, {"kd": {"temperature": Ramp(8.0, 2.0, 0.0, 3.0)}})
    for epoch, temperature in ((0, 8.0), (1, 6.0), (2, 4.0), (3, 2.0), (5, 2.0)):
        objective.at(epoch)
        value = objective(outputs(STUDENT), outputs(TEACHER), TARGET)[0].double()
        log_t, log_s = ((z.double() / temperature).log_softmax(1) for z in (TEACHER, STUDENT))
        by_hand = temperature**2 * (log_t.exp() * (log_t - log_s)).sum(1).mean()
        assert value.item() == pytest.approx(by_hand.item(), rel=1e-5)
        assert objective.changing() == {"temperature_kd": temperature}


def test_a_fixed_objective_has_nothing_to_log():
    assert Objective({"ce": CrossEntropy()}, {"ce": 1.0}).changing() == {}


# What the config makes of them


@pytest.fixture(scope="module", autouse=True)
def registry():
    with initialize_config_module("conf", version_base="1.3"):
        yield


def config(*overrides):
    loss = next((name for name in ("sinkhorn", "hint") if f"loss.{name}." in overrides[0]), "kd")
    return typed(compose("run", overrides=["data=procedural", f"loss=[ce,{loss}]", *overrides]))


def data():
    pixels, rows, target = np.zeros((8, 1, 8, 8), np.uint8), np.arange(8), np.eye(8, dtype=np.float32)
    return Dataset(
        "d", tuple("abcdefgh"), "", {"train": Split("train", pixels, rows, target, rows, tuple("abcdefgh"), "s")}
    )


def test_a_weight_and_an_option_are_given_as_ramps_on_the_command_line():
    cfg = config("loss.kd.weight={from:0,to:0.9,end:2}", "loss.kd.temperature={from:8,to:2,end:3}")
    check(cfg)
    objective = build.objective(cfg.loss, [], data())
    assert objective.losses["kd"].temperature == 8 and objective.weights == {"ce": 0.1, "kd": 0.0}
    objective.at(1.5)
    assert objective.losses["kd"].temperature == 5 and objective.weights["kd"] == pytest.approx(0.675)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.kd.temperature={from:8,to:0,end:3}", r"loss\.kd\.temperature: expected a number above 0.*, got 0"),
        (
            "loss.kd.temperature={from:8,end:3}",
            r"loss\.kd\.temperature: expected from and to, .*, got .*'from': 8, 'end': 3",
        ),
        ("loss.kd.form={from:1,to:2,end:3}", r"loss\.kd\.form: "),
        ("loss.ce.label_smoothing={from:0,to:1.5,end:3}", r"loss\.ce\.label_smoothing: expected .*, got 1\.5"),
    ],
)
def test_an_option_whose_ramp_ends_where_it_may_not_be_gets_a_sentence(override, sentence):
    with pytest.raises(ValueError, match=sentence):
        build.objective(config(override).loss, [], data())


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "loss.kd.temperature=abc",
            r"loss\.kd\.temperature: expected a finite number, such as 2\.0, got 'abc'\.",
        ),
        ("loss.kd.temperature=null", r"loss\.kd\.temperature: expected a finite number.*, got null"),
        ("loss.kd.temperature=[1,2]", r"loss\.kd\.temperature: expected a finite number.*, got \[1, 2\]"),
        ("loss.kd.temperature=true", r"loss\.kd\.temperature: expected a finite number.*, got true"),
        ("loss.kd.temperature=inf", r"loss\.kd\.temperature: expected a finite number.*, got inf"),
        ("loss.kd.temperature={from:a,to:1}", r"loss\.kd\.temperature\.from: expected a number, got 'a'\."),
        ("loss.kd.scale_t2=no_way", r"loss\.kd\.scale_t2: expected true or false, got 'no_way'\."),
        ("loss.kd.standardize=5", r"loss\.kd\.standardize: expected true or false, got 5\."),
        ("loss.kd.scale_t2={from:0,to:1}", r"loss\.kd\.scale_t2: true or false cannot follow a ramp over epochs"),
        ("loss.kd.form=5", r"loss\.kd\.form: expected a word, such as kl, got 5\."),
        ("loss.ce.class_weights=5", r"loss\.ce\.class_weights: expected a list of numbers or null, got 5\."),
        ("loss.ce.head_weights=[1,x]", r"loss\.ce\.head_weights: expected a list of numbers or.*, got \[1, 'x'\]"),
        ("+loss.kd.tau=3", r"loss\.kd: there is no option 'tau'\. Choose from temperature, scale_t2, "),
        ("loss.kd.weight=abc", r"loss\.kd\.weight: expected a number, got 'abc'\."),
        ("loss.kd.weight=null", r"loss\.kd\.weight: expected a number, got null\."),
        ("loss.kd.weight=[1]", r"loss\.kd\.weight: expected a number, got \[1\]\."),
        ("loss.kd.weight={from:0,to:1,end:x}", r"loss\.kd\.weight\.end: expected a number, got 'x'\."),
        (
            "loss.sinkhorn.iterations=2.5",
            r"loss\.sinkhorn\.iterations: expected a whole number, such as 20.*, got 2\.5",
        ),
        (
            "loss.sinkhorn.iterations={from:1,to:9}",
            r"a whole number cannot follow a ramp over epochs; give one value, ",
        ),
        (
            "loss.hint.student=[stage1,2]",
            r"loss\.hint\.student: expected a word or a list of names or null.*, got \['stage1', 2\]\.",
        ),
    ],
)
def test_an_option_of_another_kind_gets_a_sentence_with_its_key(override, sentence):
    with pytest.raises(ValueError, match=sentence):
        build.objective(config("loss=[ce,kd,sinkhorn,hint]", "teacher.cache=features", override).loss, [], data())


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        (
            "[{epochs:1,loss:[hint]},{epochs:3,loss:[ce,kd]}]",
            r"phases: 'hint' is not among .* ce, kd\. Type loss=\[ce,kd,hint\]",
        ),
        ("[{epochs:1},{epochs:2}]", r"phases: they last 3 epochs, train\.epochs is 4\. Type train\.epochs=3"),
        (
            "[{epochs:4,losses:[ce]}]",
            r"phases: expected epochs, and perhaps loss and lr, as in .phases=\[\{epochs:8.*, got .*'losses': \['ce'\]",
        ),
        ("[{loss:[ce]}]", r"phases: expected epochs, and perhaps .* got \{'loss': \['ce'\]\}"),
        ("[{epochs:0},{epochs:4}]", r"phases: expected epochs from 1 on.* got \{'epochs': 0\}"),
        ("[{epochs:1.5},{epochs:2.5}]", r"phases: expected epochs from 1 on.* got \{'epochs': 1\.5\}"),
        ("[{epochs:4,lr:0}]", r"phases: expected .* lr, a factor above 0, got .*'lr': 0\}"),
        ("[{epochs:4,lr:fast}]", r"phases: expected .* lr, a factor above 0, got .*'lr': 'fast'\}"),
        ("[{epochs:4,loss:[]}]", r"phases: expected a list of losses, such as loss:\[ce,kd\].* got .*'loss': \[\]\}"),
        ("[{epochs:4,loss:ce}]", r"phases: expected a list of losses, such as loss:\[ce,kd\].* got .*'loss': 'ce'\}"),
        ("[]", r"phases: expected a list of phases, .* got \[\]"),
        ("4", r"phases: expected a list of phases, .* got 4"),
    ],
)
def test_phases_that_cannot_be_get_a_sentence(phases, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(config("loss=[ce,kd]", f"phases={phases}", "train.epochs=4"))


def test_phases_start_where_the_one_before_ends():
    three = "phases=[{epochs:1,loss:[ce]},{epochs:2},{epochs:1,loss:[ce,kd],lr:0.5}]"
    cfg = config("loss=[ce,kd]", three, "train.epochs=4")
    check(cfg)
    phases = build.phases(cfg.phases)
    assert phases == (Phase(0, 1, ("ce",), 1.0), Phase(1, 2, None, 1.0), Phase(3, 1, ("ce", "kd"), 0.5))
    settings = Settings(cfg.train, cfg.augment, 0, torch.float32, 0, phases)
    assert [settings.phase(epoch) for epoch in range(4)] == [phases[0], phases[1], phases[1], phases[2]]
    assert Settings(cfg.train, cfg.augment, 0, torch.float32, 0).phase(3) == Phase(0, 4)


# A new phase


@pytest.mark.parametrize("schedule", [Constant(), Cosine(0.0), Plateau(patience=0, factor=0.5)])
def test_a_new_phase_forgets_moments_and_schedule_but_not_the_weights(schedule):
    weight = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam([{"params": weight.parameters(), "lr": 0.1, "base_lr": 0.1}])
    train_state = TrainState(weight, Objective({"ce": CrossEntropy()}, {"ce": 1.0}), optimizer, schedule, None, "")
    for value in (1.0, 0.5, 0.4):
        weight(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.observe(value)
    factor, before = schedule.apply(optimizer, 3.0, 4.0), weight.weight.clone()
    assert len(optimizer.state) == 2 and (factor < 1 or isinstance(schedule, Constant))
    train_state.restart()
    assert len(optimizer.state) == 0 and torch.equal(weight.weight, before)
    assert schedule.apply(optimizer, 0.0, 4.0, 0.3) == pytest.approx(0.3)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.03)
    optimizer.step()
