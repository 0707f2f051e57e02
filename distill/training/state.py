"""What training changes and checkpoints keep, the loss of a batch, and the moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from distill.augment.views import render_batch
from distill.losses.base.objective import Objective
from distill.models.teacher import Teacher
from distill.system import distributed as parallel
from distill.system.errors import ConfigError
from distill.system.hardware import autocast
from distill.system.sync_batch import all_gather_outputs, local_random_numbers, local_shard
from distill.training.optim import ModelEma, Schedule
from distill.types import Batch, InputSpec, MixedBatch, Outputs


class BatchLoss(nn.Module):
    """Student and objective as one module, for DistributedDataParallel: from a batch to its loss.

    Args:
        student: images -> Outputs.
        objective: its losses.
        compiled: torch.compile the student's pass; a narrower last batch of an evaluation, which is not one, compiles nothing.
    """

    def __init__(self, student: nn.Module, objective: Objective, compiled: bool = False):
        super().__init__()
        self.student, self.objective = student, objective
        self.answer = torch.compile(lambda images: student(images)) if compiled else lambda images: student(images)

    def forward(
        self, batch: Batch | MixedBatch, teacher: Teacher | None, precision: torch.dtype
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and each term; of several processes each forwards its shard, and all compare the whole batch.

        Raises:
            ConfigError: the student does not answer Outputs.
        """
        shard, rows = local_shard(batch), len(batch.index)
        images = render_batch(shard, cast(InputSpec, self.student.input))
        with local_random_numbers():
            with autocast(images.device, precision):
                student = self.answer(images)
            if not isinstance(student, Outputs):
                raise ConfigError(
                    "student",
                    f"answers a {type(student).__name__}. Let it answer Outputs(logits, heads, features) of distill.types.",
                )
            teacher_outputs = None if teacher is None else teacher(shard)
        student, teacher_outputs = all_gather_outputs(student, rows), all_gather_outputs(teacher_outputs, rows)
        return self.objective(cast(Outputs, student)._replace(index=batch.index), teacher_outputs, batch.target)


@dataclass
class TrainState:
    """What a step changes, and what a checkpoint keeps."""

    student: nn.Module
    objective: Objective  # its losses, which may have learned parts
    optimizer: torch.optim.Optimizer  # of the parameters of both
    schedule: Schedule  # of its learning rates
    ema: ModelEma | None  # of the student's weights
    identity: str  # of network and data, so that no checkpoint of another run is taken
    compiled: bool = False  # torch.compile the student's pass

    def __post_init__(self) -> None:
        self.loss = parallel.data_parallel(BatchLoss(self.student, self.objective, self.compiled))

    def state(self) -> dict:
        """Return what a checkpoint keeps, the state of torch's random numbers, too."""
        state = {part: getattr(self, part).state_dict() for part in ("student", "objective", "optimizer", "schedule")}
        ema = self.ema.state_dict() if self.ema else None
        rng = {"torch_rng": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng["cuda_rng"] = torch.cuda.get_rng_state()
        return state | {"ema": ema, "identity": self.identity, **rng}

    def restart(self) -> None:
        """Begin a phase: neither moments nor schedule remember the last one."""
        self.optimizer.state.clear()
        self.schedule.restart()

    def restore(self, state: dict, path: Path) -> None:
        """Go on from a state.

        Args:
            state: see state.
            path: of the checkpoint, for messages.

        Raises:
            ValueError: it is another run's.
        """
        if state["identity"] != self.identity:
            raise ValueError(
                f"{path}: belongs to another run ({state['identity']}), this one is {self.identity}. "
                "Choose another folder with paths.run=DIR, or delete this checkpoint."
            )
        for part in ("student", "objective", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(state[part])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        torch.set_rng_state(state["torch_rng"])
        if "cuda_rng" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda_rng"])


@contextmanager
def ema_weights(train_state: TrainState) -> Iterator[None]:
    """Give the student the weights of the moving average, where there is one, for the length of a with block."""
    student, ema = train_state.student, train_state.ema
    if ema is None:
        yield
        return
    unaveraged = {name: value.clone() for name, value in student.state_dict().items()}
    student.load_state_dict(ema.values)
    try:
        yield
    finally:
        student.load_state_dict(unaveraged)
