"""The training loop itself on a network of one layer and fifty faces of noise."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from distill.augment.views import ViewRecipe
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.losses.kd import KnowledgeDistillation
from distill.runs.config import COMPONENTS, RunConfig
from distill.runs.folder import RunFolder
from distill.training.loggers import JsonLines
from distill.training.loop import Settings, TrainOutput, TrainState, train
from distill.training.optim import Constant, ModelEma, optimizer
from distill.types import Dataset, InputSpec, Outputs, Split
from teachers.frozen import FrozenTeacher

CLASSES = ("calm", "glad", "sad")
NO_COMPONENTS = {key: {} for key in (*COMPONENTS, "logger")}


class Net(nn.Module):
    """Remembers the pictures that it was shown."""

    def __init__(self, seed=0, size=12):
        super().__init__()
        torch.manual_seed(seed)
        self.input, self.seen = InputSpec(size), []
        self.head = nn.Linear(size * size, len(CLASSES))

    def forward(self, images):
        self.seen.append(images.detach().clone())
        logits = self.head(images.flatten(1))
        return Outputs(logits, logits[:, None], {})


def split(name="train", count=50, packed=60):
    rng = np.random.default_rng(len(name))
    label = rng.choice(3, count, p=[0.7, 0.2, 0.1])
    pixels = rng.integers(0, 256, (packed, 1, 16, 16), np.uint8)
    rows = np.sort(rng.permutation(packed)[:count])
    return Split(name, pixels, rows, np.eye(3, dtype=np.float32)[label], label, tuple(map(str, rows)), name)


DATA = Dataset("tiny", CLASSES, "all", {"train": split(), "valid": split("valid")})


def frozen(seed=0, size=12):
    return FrozenTeacher(Net(seed, size), "live", CLASSES, torch.float32)


def train_state():
    net = Net(5)
    objective = Objective({"ce": CrossEntropy(), "kd": KnowledgeDistillation()}, {"ce": 0.5, "kd": 0.5})
    steps = optimizer([net], name="adam", lr=1e-2, weight_decay=0.0, decay_biases=False)
    return TrainState(net, objective, steps, Constant(0), ModelEma(net, 0.9), "net")


def settings_of(phases=(), **changed):
    """The numbers of a training, those of conf/ where nothing is said."""
    numbers = {"epochs": 3, "batch_size": 8, "ema_decay": 0.9, "log_every_n_steps": 2} | changed
    cfg = RunConfig.from_dict(NO_COMPONENTS | {"train": numbers, "augment": {"num_views": 2}})
    return Settings(cfg.train, cfg.augment, 0, torch.float32, 2, phases)


def run(folder, stop_at=None, **changed):
    """Train in a folder; at a step that is to be the last, raise as a kill would."""

    def step(epoch, done, steps):
        if (epoch, done) == stop_at:
            raise KeyboardInterrupt

    settings = settings_of(**{"class_balance_power": 1.0, "mixup": 0.4} | changed)
    nothing = SimpleNamespace(step=step, terms=lambda *a: None, epoch=lambda *a: None)
    folder.mkdir(exist_ok=True)
    lines, made, teacher = JsonLines(folder / "metrics.jsonl"), train_state(), frozen(1)
    try:
        train(
            made, teacher, DATA, ViewRecipe(), settings, RunFolder(folder), TrainOutput(lines, lines.log, nothing), {}
        )
    except KeyboardInterrupt:
        assert stop_at
    finally:
        lines.finish({})
    return made.student
