"""How far a run has come, and the checkpoint from which it goes on."""

import time
from pathlib import Path
from typing import Any

from distill.system import distributed as parallel
from distill.system.weights import load_state, save_state
from distill.training.loggers import JsonLines, NoLines
from distill.training.meter import LossMeter
from distill.training.state import TrainState


class TrainProgress:
    """The progress of a run: of a new one the beginning, otherwise where its last checkpoint was written.

    Args:
        path: checkpoints/last.pt.
        train_state: goes back to what the checkpoint holds.
        meter: likewise.
        lines: metrics.jsonl, which is cut off where it was then.

    Raises:
        ValueError: the file is damaged, no checkpoint, or of another run.
    """

    def __init__(self, path: Path, train_state: TrainState, meter: LossMeter, lines: JsonLines | NoLines):
        self.path, self.train_state, self.meter, self.lines = path, train_state, meter, lines
        self.progress: dict[str, Any] = {"epoch": 0, "step": 0, "position": 0, "seconds": 0.0}
        self.progress |= {"best_epoch": -1, "best_score": float("-inf"), "best": {}}
        if parallel.broadcast_from_main(path.exists):
            state = load_state(path)
            if not isinstance(state, dict) or not {"progress", "train_state", "meter"} <= state.keys():
                raise ValueError(f"{path}: not a checkpoint of a run. Delete it to start this run again.")
            train_state.restore(state["train_state"], path)
            meter.restore(state["meter"])
            self.progress |= state["progress"]
        lines.truncate(self.progress["position"])
        self.began = time.perf_counter() - self.progress["seconds"]

    def save(self, epoch: int, step: int) -> None:
        """Write the checkpoint from which the run goes on with this step of this epoch; of several processes the main one."""
        self.progress |= {"epoch": epoch, "step": step, "position": self.lines.position()}
        self.progress["seconds"] = time.perf_counter() - self.began
        if parallel.is_main():
            state = {"progress": self.progress, "train_state": self.train_state.state(), "meter": self.meter.state()}
            save_state(self.path, state)
