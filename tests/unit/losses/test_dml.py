"""Two students that learn from each other: what reaches whom, and a killed run that goes on as if nothing had happened."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commandline import assert_equal_runs, checkpoint_writes, kill_when
from inside import SMALL, folder_of, job, read
from safetensors.torch import load_file

from distill.augment.views import identity
from distill.data.loader import in_order
from distill.losses.base.objective import Objective
from distill.losses.dml import MutualLearning
from distill.types import InputSpec, Outputs, Split
from teachers.frozen import FrozenTeacher
from teachers.peer import Peer

PEERS = ("teacher=peer", "loss=[ce,dml]", "loss.ce.weight=1", "student.dropout=0.5", "train.epochs=3")
PEERS += ("checkpoint.every_steps=2", "train.average=0.9", "views.cached=2")
B, H, K = 6, 5, 8


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    job(*PEERS, store=store, runs=runs)
    return folder_of(runs)


def outputs(seed, heads=1):
    z = torch.randn(B, heads, K, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Outputs(z.mean(1), z, {})


def targets():
    return torch.rand(B, K, generator=torch.Generator().manual_seed(9)).softmax(1)


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_value_is_both_divergences_and_the_peers_cross_entropy(temperature):
    own, peer, target = outputs(0, H), outputs(1), targets()
    p, q = ((o.heads / temperature).double().softmax(-1) for o in (own, peer))
    p_fused = (own.logits / temperature).double().softmax(-1)
    labels = F.cross_entropy(peer.logits, target, reduction="none")
    by_hand = temperature**2 * (kl(q, p).mean(1) + kl(p_fused, q[:, 0])) + 0.5 * labels
    assert torch.allclose(MutualLearning(0.5, temperature)(own, peer, target).double(), by_hand, atol=1e-5)


def test_each_student_gets_the_gradient_of_its_own_published_objective():
    own, peer, target = outputs(0), outputs(1), targets()
    total = F.cross_entropy(own.logits, target) + MutualLearning()(own, peer, target).mean()
    found = torch.autograd.grad(total, (own.heads, peer.heads), retain_graph=True)
    for heads, other, gradient in ((own, peer, found[0]), (peer, own, found[1])):
        fixed = other.logits.detach().softmax(1)
        alone = F.cross_entropy(heads.logits, target) + kl(fixed, heads.logits.softmax(1)).mean()
        assert torch.allclose(gradient, torch.autograd.grad(alone, heads.heads)[0], atol=1e-6)


def test_gradients_are_those_of_central_differences_with_the_others_answer_fixed():
    own, peer, target = outputs(0, H), outputs(1, 2), targets().double()
    p, q = ((o.logits.detach() / 2).double().softmax(1)[:, None] for o in (own, peer))

    def of_student(z):
        return 4 * kl(q, (z / 2).softmax(-1)).mean(1).sum()

    def of_peer(z):
        labels = -(target[:, None] * z.log_softmax(-1)).sum(-1)
        return (4 * kl(p, (z / 2).softmax(-1)) + 0.5 * labels).mean(1).sum()

    found = torch.autograd.grad(MutualLearning(0.5, 2.0)(own, peer, target).sum(), (own.heads, peer.heads))
    for cost, heads, gradient in ((of_student, own.heads, found[0]), (of_peer, peer.heads, found[1])):
        z = heads.detach().double()
        steps = 1e-5 * torch.eye(z.numel(), dtype=torch.float64).view(-1, *z.shape)
        slopes = torch.stack([(cost(z + step) - cost(z - step)) / 2e-5 for step in steps]).view_as(z)
        assert slopes.abs().max() > 0.1 and torch.allclose(gradient.double(), slopes, atol=1e-5)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.input = InputSpec(8)
        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.BatchNorm1d(3))

    def forward(self, images):
        z = self.body(images)
        return Outputs(z, z[:, None], {})


def test_a_peer_learns_from_the_training_split_and_only_answers_about_others():
    peer = Peer(Net(), "peer", ("a", "b", "c"), torch.float32)
    label, pixels = np.array([0, 1, 2, 0, 1]), np.arange(320, dtype=np.uint8).reshape(5, 1, 8, 8)
    split = Split("train", pixels, np.arange(5), np.eye(3, dtype=np.float32)[label], label, tuple("abcde"), "0")
    (batch,) = in_order(split, identity(5), 8)
    peer.open("train", 1, identity(5))
    assert peer(batch).logits.requires_grad and peer.network.training
    statistics = peer.network.body[2].running_mean.clone()
    peer.open("valid", 0, identity(5))
    assert not peer(batch).logits.requires_grad and peer.network.body[2].running_mean.equal(statistics)
    assert peer.forward_images == 10


def test_the_peer_is_a_part_of_the_objective_and_a_frozen_teacher_is_refused():
    objective = Objective({"dml": MutualLearning()}, {"dml": 1.0})
    peer = Peer(Net(), "peer", ("a", "b", "c"), torch.float32)
    objective.bind(Net(), peer)
    assert {id(p) for p in objective.parameters()} == {id(p) for p in peer.parameters()}
    assert "losses.dml.peer.body.1.weight" in objective.state_dict()
    with pytest.raises(ValueError, match=r"loss\.dml: needs a teacher that learns, too\. Type teacher=peer"):
        MutualLearning().bind(Net(), FrozenTeacher(Net(), "frozen", ("a", "b", "c"), torch.float32))


def test_student_and_peer_start_apart_and_both_learn_and_are_measured(whole):
    result = read(whole)
    state = torch.load(whole / "checkpoints" / "last.pt", weights_only=True)["learner"]
    prefix = "losses.dml.peer."
    peer = {name.removeprefix(prefix): value for name, value in state["objective"].items()}
    assert peer.keys() == state["student"].keys()
    assert not any(peer[name].equal(value) for name, value in state["student"].items() if value.ndim > 1)
    assert result["teacher"]["num_parameters"] == result["student"]["num_parameters"]
    assert 0 <= result["teacher"]["metrics"]["test/top1_accuracy"] <= 1 and result["teacher"]["weights"] == []
    student = load_file(whole / "checkpoints" / "best.safetensors")
    assert student.keys() == state["student"].keys(), "the student's file holds the student alone"
    moments = state["optimizer"]["state"].values()
    assert len(moments) == 2 * len(student) and all(m["exp_avg"].abs().sum() > 0 for m in moments)


def test_a_killed_run_of_two_students_goes_on_and_equals_an_uninterrupted_one_bit_for_bit(whole, store, tmp_path):
    kill_when(checkpoint_writes(tmp_path, 3), *SMALL, *PEERS, store=store, runs=tmp_path)
    job(*PEERS, store=store, runs=tmp_path)
    folder = folder_of(tmp_path)
    assert 0 < read(folder)["resumed_at_step"] < read(folder)["steps"]
    assert_equal_runs(folder, whole)
    ours, theirs = (torch.load(f / "checkpoints" / "last.pt", weights_only=True)["learner"] for f in (folder, whole))
    for part in ("student", "objective"):
        assert all(ours[part][name].equal(value) for name, value in theirs[part].items())


def test_a_peer_of_another_size_learns_beside_the_student(store, tmp_path):
    words = ("teacher=peer", "loss=[ce,dml]", "train.epochs=1", "+teacher.student={width: S}", "train.mixup=0.2")
    job(*words, store=store, runs=tmp_path)
    result = read(folder_of(tmp_path))
    assert result["teacher"]["num_parameters"] > 2 * result["student"]["num_parameters"]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("loss=[ce,dml]", "teacher.cache=true"), r"teacher=peer needs teacher\.cache=false"),
        (("loss=[ce,dml]", "teacher.seed_offset=0"), "two students of one start stay the same"),
        (("loss=[ce,dml,hint]",), r"loss\.hint: reads the feature maps of a finished teacher, which a peer is not"),
        (("loss=[ce,kd]",), r"a peer learns by loss\.dml alone"),
        (("loss=[ce,dml]", "student.lr_scale={hidden.: 2}"), "would not reach those of its peer"),
    ],
)
def test_a_peer_that_cannot_be_gets_a_sentence(store, tmp_path, words, sentence):
    with pytest.raises(SystemExit, match=sentence):
        job("teacher=peer", *words, store=store, runs=tmp_path)
