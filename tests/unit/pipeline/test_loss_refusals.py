"""Losses that can never fit, or that teach nothing, get a sentence before a teacher is trained."""

import math
import re
from dataclasses import replace

import pytest
import tiny_training
import torch
from hydra import compose, initialize_config_module
from inside import job

from distill import build
from distill.config.schema import typed
from distill.losses.base.objective import Objective
from distill.losses.base.option_types import check_options
from distill.losses.catkd import ClassAttentionTransfer
from distill.losses.ce import CrossEntropy
from distill.losses.focal import Focal
from distill.losses.hint import Hint
from distill.losses.nst import NeuronSelectivity
from distill.losses.simkd import ReusedClassifier
from distill.pipeline import validation
from distill.types import InputSpec, Outputs
from students.microexpnet import MicroExpNet


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


MAPS = "teacher.cache=features"


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("loss=[ce,dml]",), r"loss\.dml: needs a teacher that learns, too\. Type teacher=peer, or loss=\[ce,kd\]\."),
        (
            ("teacher=none", "generations=2", "loss=[ce,dml]", "loss.ce.weight=1"),
            r"loss\.dml: needs a teacher that learns",
        ),
        (("loss=[ce,catkd]", MAPS), r"loss\.catkd: the student does not end in global average pooling"),
        (("loss=[ce,hint]", MAPS, "loss.hint.student=conv9"), r"loss\.hint\.student: there is no layer 'conv9'\."),
        (("loss=[simkd]", MAPS, "loss.simkd.student=conv9"), r"loss\.simkd\.student: there is no layer 'conv9'\."),
        (("loss.ce.class_weights=[1,1]",), r"loss\.ce\.class_weights: 2 numbers for 8 classes\."),
    ],
)
def test_losses_that_can_never_fit_are_refused_before_a_teacher_is_trained(store, tmp_path, words, sentence):
    with pytest.raises(SystemExit, match=f"^error: {sentence}"):
        job(*words, store=store, runs=tmp_path)
    assert not (store / "teachers").exists() and not list(tmp_path.rglob("metrics.jsonl"))


NOTHING = "so nothing is learned in them. Type loss"


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            ("loss.ce.weight=0", "loss.kd.weight=0"),
            rf"loss: the weight of ce, kd is 0 from epoch 0 to epoch 4, {NOTHING}",
        ),
        (("loss.ce.weight=0", "loss.kd.weight={from: 0, to: 1, start: 4}"), rf"loss: .* epoch 0 to epoch 4, {NOTHING}"),
        (
            ("loss.kd.weight=0", "phases=[{epochs: 3, loss: [ce]}, {epochs: 1, loss: [kd]}]"),
            rf"loss: the weight of kd is 0 from epoch 3 to epoch 4, {NOTHING}\.kd\.weight=1, or choose",
        ),
        (
            ("loss.kd.weight={from: 0, to: 1, start: 2}", "phases=[{epochs: 2, loss: [kd]}, {epochs: 2}]"),
            rf"loss: the weight of kd is 0 from epoch 0 to epoch 2, {NOTHING}",
        ),
        (
            ("teacher=resnet50", "teacher.loss.ce.weight=0"),
            r"teacher\.loss: the weight of ce .* Type teacher\.loss\.ce\.weight=1",
        ),
        (("phases=[{epochs: 3, lr: inf}, {epochs: 1}]",), r"phases: expected .* lr, a factor above 0, got .*'lr': inf"),
        (("phases=[{epochs: 3, lr: nan}, {epochs: 1}]",), r"phases: expected .* lr, a factor above 0, got .*'lr': nan"),
        (
            ("phases=[{epochs: 3, lr: true}, {epochs: 1}]",),
            r"phases: expected .* lr, a factor above 0, got .*'lr': True",
        ),
        (("phases=[{epochs: true}, {epochs: 3}]",), r"phases: expected epochs from 1 on, .* got \{'epochs': True\}\."),
    ],
)
def test_epochs_that_would_teach_nothing_are_refused(words, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        validation.validate(config(*words))


@pytest.mark.parametrize(
    "words",
    [
        ("loss.kd.weight=0",),
        ("loss.ce.weight=0", "loss.kd.weight={from: 0, to: 1, start: 3.5}"),
        ("loss.kd.weight={from: 1, to: 0, end: 4}", "phases=[{epochs: 2, loss: [ce]}, {epochs: 2, loss: [kd]}]"),
        ("loss.ce.weight=0", "phases=[{epochs: 3, lr: 2}, {epochs: 1, loss: [kd], lr: 0.5}]"),
    ],
)
def test_a_weight_that_is_0_for_a_while_or_beside_others_is_allowed(words):
    validation.validate(config(*words))


def config(*words):
    with initialize_config_module("conf", version_base="1.3"):
        return typed(compose("run", overrides=["loss=[ce,kd]", "train.epochs=4", *words]))


@pytest.mark.parametrize("kind", [CrossEntropy, Focal])
@pytest.mark.parametrize("option", ["class_weights", "head_weights"])
@pytest.mark.parametrize("weights", [[-1, 1, 1], [0, 0, 0], [1, math.nan], [1, math.inf], []])
def test_weights_that_lead_away_from_the_labels_or_nowhere_are_refused(kind, option, weights):
    told = f"loss.{kind.term}.{option}: expected finite numbers of at least 0, not all of them 0, got {weights}."
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        kind(**{option: weights})
    assert kind(**{option: [0, 1, 2.5]})


def test_an_objective_without_a_weight_is_refused():
    with pytest.raises(ValueError, match=r"^loss: the weight of ce is 0, so .* Type loss\.ce\.weight=1"):
        Objective({"ce": CrossEntropy()}, {"ce": {"from": 0, "to": 0, "end": 3}})


def student():
    return MicroExpNet(8, 36, "XXS", "both", 0.0, "torch", 0.5, 0.25)


def test_layers_that_another_loss_puts_into_the_student_are_not_missed_before_it_has():
    reused, hint = ReusedClassifier(), Hint(student="reused_head.projector")
    Objective({"simkd": reused, "hint": hint, "ce": CrossEntropy()}, {"simkd": 1, "hint": 1, "ce": 1}).check(
        student(), 8
    )
    with pytest.raises(ValueError, match=r"loss\.hint\.student: there is no layer 'reused_head\.projector'"):
        Objective({"hint": hint}, {"hint": 1}).check(student(), 8)


class Flat(torch.nn.Module):
    """A student without maps."""

    def __init__(self):
        super().__init__()
        self.input = InputSpec(8)
        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.Linear(5, 3))

    def forward(self, images):
        z = self.body(images)
        return Outputs(z, z[:, None], {})


@pytest.mark.parametrize("kind", [Hint, NeuronSelectivity, ReusedClassifier, ClassAttentionTransfer])
def test_a_student_without_maps_is_refused_by_losses_that_compare_them(kind):
    with pytest.raises(ValueError, match=rf"^loss\.{kind.term}: the student (has no maps|does not end in global)"):
        kind().check(Flat(), 3)


class Deep:
    def __init__(self, depth: int, *more, weight: float = 1.0):
        pass


def test_what_is_no_loss_or_lacks_a_value_or_its_first_line_is_said():
    with pytest.raises(
        ValueError,
        match=r"^loss\.mine: distill\.losses\.base\.reused_classifier\.ReusedHead is no loss\. Derive it from",
    ):
        build.objective(
            {"mine": {"_target_": "distill.losses.base.reused_classifier.ReusedHead", "weight": 1}}, [], None
        )
    with pytest.raises(ValueError, match=r"^loss\.mine\.depth: has no value\. Give it one in conf/loss/mine\.yaml"):
        check_options("loss.mine", Deep, {"weight": 1.0})
    check_options("loss.mine", Deep, {"depth": 1})
    with pytest.raises(
        ValueError, match=r"^loss\._target_: distill\.x\.X is there, but .* with # @package loss\.NAME$"
    ):
        validation.validate(replace(config(), loss={"_target_": "distill.x.X", "weight": 1}))


def test_a_student_that_answers_a_tensor_is_told_what_to_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_training.Net, "forward", lambda net, images: images.flatten(1)[:, :3])
    with pytest.raises(
        ValueError, match=r"^student: answers a Tensor\. Let it answer Outputs\(logits, heads, features\)"
    ):
        tiny_training.run(tmp_path / "run")
