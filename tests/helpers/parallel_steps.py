"""Steps of training in float64, of one process or, started with a file's name in the environment of torchrun, of several."""

import sys

import numpy as np
import torch
from feature_nets import Plain
from torch import nn

from distill.augment.views import ViewRecipe
from distill.data.loader import make_batch, mixup
from distill.losses.ab import ActivationBoundary
from distill.losses.base.objective import Objective
from distill.losses.catkd import ClassAttentionTransfer
from distill.losses.ce import CrossEntropy
from distill.losses.crd import ContrastiveRepresentation
from distill.losses.dist import Dist
from distill.losses.dml import MutualLearning
from distill.losses.hint import Hint
from distill.losses.kd import KnowledgeDistillation
from distill.losses.sp import SimilarityPreserving
from distill.system import distributed as parallel
from distill.training.loop import TrainState, train_step
from distill.training.optim import Constant, ModelEma
from distill.types import Dataset, Split
from students.microexpnet import MicroExpNet
from students.timm_student import TimmStudent
from teachers.frozen import FrozenTeacher
from teachers.peer import Peer

CLASSES, FACES, ROWS, STEPS = tuple("abcdefgh"), 24, 7, 3


def faces():
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(CLASSES), FACES)
    pixels = rng.integers(0, 256, (FACES, 1, 32, 32), np.uint8)
    target = rng.dirichlet(np.ones(len(CLASSES)), FACES)
    split = Split("train", pixels, np.arange(FACES), target, label, tuple(map(str, range(FACES))), "train")
    return Dataset("tiny", CLASSES, "all", {"train": split})


def seeded(make, *arguments, **more):
    torch.manual_seed(5)
    return make(*arguments, **more)


def timm(name, **options):
    return TimmStudent(name, len(CLASSES), 32, 1, 0.5, 0.25, False, 0.3, **options)


def micro():
    return MicroExpNet(len(CLASSES), 36, "XXS", "both", 0.0, "torch", 0.5, 0.25)


def plain():
    net = Plain(24, 6, 10)
    net.bn1, net.bn2 = nn.Identity(), nn.Identity()
    return net


ALIKE = {
    "relations and learned parts, one with batch statistics": (
        micro,
        lambda: {
            "ce": CrossEntropy(),
            "dist": Dist(),
            "sp": SimilarityPreserving(),
            "ab": ActivationBoundary("conv2", "relu2"),
        },
    ),
    "a loss on feature maps alone": (plain, lambda: {"hint": Hint(normalize=False)}),  # no bias without a gradient
    "a loss that uses the student's classifier": (
        plain,
        lambda: {"ce": CrossEntropy(), "catkd": ClassAttentionTransfer()},
    ),
    "a peer": (plain, lambda: {"ce": CrossEntropy(), "dml": MutualLearning()}),
    "mixed pictures": (plain, lambda: {"ce": CrossEntropy(), "kd": KnowledgeDistillation()}),
}
OTHERS = {
    "batch statistics": (lambda: Plain(24, 6, 10), lambda: {"ce": CrossEntropy(), "kd": KnowledgeDistillation()}),
    "stochastic depth": (
        lambda: timm("test_efficientnet", drop_path_rate=0.4),
        lambda: {"ce": CrossEntropy(), "kd": KnowledgeDistillation()},
    ),
    "dropout": (
        lambda: MicroExpNet(len(CLASSES), 36, "XXS", "both", 0.5, "torch", 0.5, 0.25),
        lambda: {"ce": CrossEntropy(), "kd": KnowledgeDistillation()},
    ),
    "the negatives of crd": (
        micro,
        lambda: {"ce": CrossEntropy(), "crd": ContrastiveRepresentation(rows=FACES, negatives=16, width=8)},
    ),
}
CASES = ALIKE | OTHERS


def started(case):
    """Return the data, a teacher and a learner at its start."""
    make, losses = CASES[case]
    student, other = seeded(make).double(), seeded(plain if case == "a peer" else lambda: Plain(32, 8, 12)).double()
    if case == "a peer":
        teacher = Peer(other, "peer", CLASSES, torch.float32)
        teacher.open("train", 1, None)
    else:
        teacher = FrozenTeacher(other, "tiny", CLASSES, torch.float32)
    terms = losses()
    objective = Objective(terms, dict.fromkeys(terms, 1.0))
    torch.manual_seed(6)
    objective.bind(student, teacher)
    objective = objective.double()
    parameters = [*student.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW([{"params": parameters, "base_lr": 1e-3}], 1e-3, weight_decay=0.1)
    return teacher, TrainState(student, objective, optimizer, Constant(), ModelEma(student, 0.9), "tiny")


def steps(case, stopped_after=None):
    """Return every gradient of each step, and what is left after the last, by name; a stop goes on from the main one's state."""
    data, table = faces(), ViewRecipe().table(0, 1, FACES).double()
    teacher, train_state = started(case)
    found = {}
    for step in range(STEPS):
        batch = make_batch(data.splits["train"], table, np.arange(step * ROWS, (step + 1) * ROWS))
        if case == "mixed pictures":
            batch = mixup(batch._replace(target=batch.target.to(torch.float32)), 1.0, 0, 0, step)
            batch = batch._replace(target=batch.target.double(), share=batch.share.double())
        if step == stopped_after:
            state = parallel.broadcast_from_main(train_state.state)
            teacher, train_state = started(case)
            train_state.restore(state, None)
        numbers = train_step(batch, teacher, train_state, torch.float32, 5.0)
        found |= {f"{step} {name}": value for name, value in numbers.items()}
        named = [*train_state.student.named_parameters("student"), *train_state.objective.named_parameters("objective")]
        found |= {f"{step} gradient {name}": p.grad.clone() for name, p in named if p.grad is not None}
    parallel.broadcast_parameters(train_state.student, train_state.objective)  # as before every validation
    state = nn.ModuleDict({"student": train_state.student, "objective": train_state.objective}).state_dict()
    found |= {name: tensor.clone() for name, tensor in state.items()}
    return found | {"next random number": torch.rand(1)}


def in_float64():
    """Let the casts to float32 inside losses and rendering be casts to float64."""
    torch.Tensor.float = torch.Tensor.double


if __name__ == "__main__":
    in_float64()
    parallel.init_process_group()
    found = {case: steps(case) for case in CASES}
    again = {case: steps(case, stopped_after=1) for case in CASES}
    main = parallel.broadcast_from_main(lambda: found)
    for wrong, other in (("differs from the main process", main), ("goes on otherwise after a stop", again)):
        for case in CASES:
            names = [name for name, value in other[case].items() if not torch.equal(found[case][name], value)]
            assert not names and found[case].keys() == other[case].keys(), (parallel.rank(), case, wrong, names)
    assert parallel.world() > 1
    if parallel.is_main():
        torch.save(found, sys.argv[1])
    parallel.destroy_process_group()
