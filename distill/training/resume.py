"""How far a run has come, and the checkpoint from which it goes on."""

import time
from pathlib import Path
from typing import Any

from distill.system import distributed as parallel
from distill.system.weights import load_state, save_state
from distill.training.loggers import JsonLines, NoLines
from distill.training.meter import Ledger
from distill.training.state import Learner


class Standing:
    """Where a run stands; a new one at its beginning, another where its last checkpoint was written.

    Args:
        path: checkpoints/last.pt.
        learner: goes back to what the checkpoint holds.
        ledger: likewise.
        lines: metrics.jsonl, which is cut off where it was then.

    Raises:
        ValueError: the file is damaged, no checkpoint, or of another run.
    """

    def __init__(self, path: Path, learner: Learner, ledger: Ledger, lines: JsonLines | NoLines):
        self.path, self.learner, self.ledger, self.lines = path, learner, ledger, lines
        self.at: dict[str, Any] = {
            "epoch": 0,
            "step": 0,
            "position": 0,
            "best_epoch": -1,
            "best_score": float("-inf"),
            "best": {},
            "seconds": 0.0,
        }
        if parallel.broadcast_from_main(path.exists):
            self._restore()
        lines.truncate(self.at["position"])
        self.began = time.perf_counter() - self.at["seconds"]

    def _restore(self) -> None:
        state = load_state(self.path)
        if not isinstance(state, dict) or not {"at", "learner", "ledger"} <= state.keys():
            raise ValueError(f"{self.path}: not a checkpoint of a run. Delete it to start this run again.")
        self.learner.restore(state["learner"], self.path)
        self.ledger.restore(state["ledger"])
        self.at |= state["at"]

    def save(self, epoch: int, step: int) -> None:
        """Write the checkpoint from which the run goes on with this step of this epoch; of several processes the main one."""
        self.at |= {"epoch": epoch, "step": step, "position": self.lines.position()}
        self.at["seconds"] = time.perf_counter() - self.began
        if parallel.is_main():
            state = {"at": self.at, "learner": self.learner.state(), "ledger": self.ledger.state()}
            save_state(self.path, state)
