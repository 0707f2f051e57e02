"""Students of one kind side by side, their tensors stacked, against the same in turn: python benchmarks/stacked.py [--device cuda].

in turn  distill.training.loop.train_step of one student after the other, each on faces of its own
stacked  the same steps as one: torch.func.vmap over parameters and buffers, AdamW on the stacked tensors, which is each student's
         own since it goes number by number
Both are measured in turns, medians; without gathering, log lines and validation, which are each student's own either way.
No training does the second: this says whether one should, on a GPU, where small students wait for the launch of their kernels.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from hydra import compose, initialize_config_module
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from distill import build
from distill.augment.views import ViewRecipe, render_batch
from distill.config import schema as config
from distill.data.loader import to
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.losses.kd import KnowledgeDistillation
from distill.system.hardware import autocast, environment, pick_device, pick_precision, set_threads
from distill.training.loop import train_step
from distill.training.optim import Constant
from distill.training.state import TrainState
from distill.types import Batch, Dataset, Outputs

CLASSES = tuple("abcdefgh")


class StoredLogits:
    """A teacher that answers from an array, as the cache does."""

    learns = False

    def __init__(self, rows: int, device: torch.device):
        self.logits = torch.randn(rows, len(CLASSES), device=device)

    def __call__(self, batch: Batch) -> Outputs:
        logits = self.logits[batch.index]
        return Outputs(logits, logits[:, None], {})


class Stacked:
    """Students as one, their tensors copied: step() does train_step() of each and returns their losses [N].

    Args:
        states: of equal networks and losses.
        precision: dtype of the forward pass.
    """

    def __init__(self, states: Sequence[TrainState], precision: torch.dtype):
        self.student, self.objective, self.precision = states[0].student, states[0].objective, precision
        self.parameters, self.buffers = stack_module_state([state.student for state in states])
        self.optimizer = adamw(list(self.parameters.values()))

    def step(self, batches: Sequence[Batch], teacher: StoredLogits) -> Tensor:
        batch, by_student = Batch(*map(torch.cat, zip(*batches, strict=True))), (len(batches), len(batches[0].index))
        images, logits = (
            x.unflatten(0, by_student) for x in (render_batch(batch, self.student.input), teacher(batch).logits)
        )

        def one(parameters: dict, buffers: dict, images: Tensor, logits: Tensor, target: Tensor) -> Tensor:
            with autocast(images.device, self.precision):
                student = functional_call(self.student, (parameters, buffers), (images,))
            return self.objective(student, Outputs(logits, logits[:, None], {}), target)[0]

        self.optimizer.zero_grad(set_to_none=True)
        given = (self.parameters, self.buffers, images, logits, batch.target.unflatten(0, by_student))
        losses = vmap(one, in_dims=0, randomness="different")(*given)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()


def adamw(parameters: list) -> torch.optim.Optimizer:
    """Return the optimizer of both."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, fused=True)


def states_of(words: Sequence[str], count: int, device: torch.device) -> list[TrainState]:
    """Return so many students, each from a seed of its own, with cross-entropy and distillation."""
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.typed(compose("run", overrides=list(words)))
    made, classes = [], Dataset("none", CLASSES, "all", {})
    for seed in range(count):
        student = build.network(cfg.student, cfg.plugins, classes, seed).to(device).train()
        objective = Objective({"ce": CrossEntropy(), "kd": KnowledgeDistillation()}, {"ce": 0.5, "kd": 0.5})
        made.append(TrainState(student, objective, adamw(list(student.parameters())), Constant(), None, ""))
    return made


def batches_of(count: int, rows: int, device: torch.device) -> list[Batch]:
    """Return a batch of noise for each student."""
    faces, view = count * rows, ViewRecipe().table(0, 1, count * rows)
    target, index = torch.rand(faces, len(CLASSES)).softmax(1), torch.arange(faces)
    pixels = torch.randint(0, 256, (faces, 1, 48, 48), dtype=torch.uint8)
    batch_of_all = to(Batch(pixels, view, target, target.argmax(1), index), device)
    return [Batch(*(x[k * rows : (k + 1) * rows] for x in batch_of_all)) for k in range(count)]


def seconds(work, device: torch.device) -> float:
    """Return how long work takes, a GPU waited for."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=["student=microexpnet"], help="of the student, as for distill.run")
    parser.add_argument("--students", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=9, help="repetitions, of which the median counts")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch sees no GPU here. Type --device cpu.")
    threads, device = set_threads(args.threads), pick_device(args.device)
    precision, machine = pick_precision("auto", device), environment()
    states = states_of(args.words, args.students, device)
    batches, teacher = (
        batches_of(args.students, args.batch_size, device),
        StoredLogits(args.students * args.batch_size, device),
    )
    stacked = Stacked(states, precision)

    def in_turn() -> None:
        for batch, state in zip(batches, states, strict=True):
            train_step(batch, teacher, state, precision)

    together = lambda: stacked.step(batches, teacher)  # noqa: E731
    in_turn(), together()
    turns = [(seconds(in_turn, device), seconds(together, device)) for _ in range(args.turns)]
    names = ("in turn", "stacked")
    medians = [statistics.median(column) for column in zip(*turns, strict=True)]
    print(f"{machine['gpu'] if device.type == 'cuda' else machine['processor']}, {threads} threads, {precision}")
    for name, value in zip(names, medians, strict=True):
        print(f"{args.students} x {' '.join(args.words)}, {name}: {1e3 * value:.1f} ms a step of all")
    print(f"in turn / stacked: {statistics.median(turn / one for turn, one in turns):.2f}")


if __name__ == "__main__":
    main()
