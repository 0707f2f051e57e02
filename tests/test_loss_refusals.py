"""Losses that can never fit, or that teach nothing, get a sentence before a teacher is trained."""

import pytest
import torch
from inside import job

from distill.losses.catkd import ClassAttentionTransfer
from distill.losses.ce import CrossEntropy
from distill.losses.hint import Hint
from distill.losses.nst import NeuronSelectivity
from distill.losses.objective import Objective
from distill.losses.simkd import ReusedClassifier
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
def test_what_can_never_fit_is_said_before_a_teacher_is_trained(store, tmp_path, words, sentence):
    with pytest.raises(SystemExit, match=f"^error: {sentence}"):
        job(*words, store=store, runs=tmp_path)
    assert not (store / "teachers").exists() and not list(tmp_path.rglob("metrics.jsonl"))


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
