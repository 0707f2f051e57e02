"""What training changes and checkpoints keep, and the moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from distill.losses.base.objective import Objective
from distill.system import distributed as parallel
from distill.training.batch_loss import BatchLoss
from distill.training.optim import ModelEma, Schedule


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
