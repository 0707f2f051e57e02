"""What lies where in a run folder, who is at work in it, and whether the run in it is complete."""

import re
from contextlib import AbstractContextManager
from pathlib import Path

from distill.runs.result import RunResult
from distill.system.processes import exclusive

PART = re.compile(r"(fold|generation)-(\d+)")  # sub-runs of one job


class RunFolder:
    """A run folder, whether it is there or not.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path):
        self.path = path
        self.name = path.name  # that of the run
        self.config = path / "config.yaml"  # the resolved config
        self.env = path / "env.json"  # the machine, the packages, the code and what was typed
        self.result = path / "result.json"  # how the run ended: see RunResult
        self.metrics = path / "metrics.jsonl"  # the numbers of training, one JSON object per line
        self.checkpoint = path / "checkpoints" / "last.pt"  # the training state from which a run goes on
        self.weights = path / "checkpoints" / "best.safetensors"  # of the best epoch
        self.robustness = path / "robustness.csv"  # the accuracy on corrupted test faces
        self.measured = path / "measured"  # the folder of what was measured on other faces afterwards
        self.export = path / "export"  # the folder of exported files

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of_weights(cls, weights: str | Path) -> "RunFolder":
        """Return the run folder that a run's best weights lie in."""
        return cls(Path(weights).parents[1])

    def predictions(self, split: str) -> Path:
        """The probabilities of student and teacher for the faces of valid or test."""
        return self.path / "predictions" / f"{split}.csv"

    def figure(self, name: str) -> Path:
        """A picture of the finished run, by its name without .png."""
        return self.path / "figures" / f"{name}.png"

    def part(self, kind: str, number: int) -> "RunFolder":
        """Return the folder of a sub-run, of kind fold or generation."""
        return RunFolder(self.path / f"{kind}-{number}")

    def width(self, width: float) -> "RunFolder":
        """Return the folder of the student of one width that was cut from this run's."""
        return RunFolder(self.path / f"width-{width:g}")

    def parts(self) -> list["RunFolder"]:
        """Return the folders of the sub-runs that have begun, in their order."""
        folders = [path.parent for path in self.path.glob("*-*/config.yaml") if PART.fullmatch(path.parent.name)]
        return [RunFolder(path) for path in sorted(folders, key=lambda path: int(path.name.rpartition("-")[2]))]

    def is_complete(self) -> bool:
        """Say whether it holds a finished run."""
        try:
            return RunResult.read(self.result).status == "complete"
        except (OSError, ValueError):
            return False

    def lock(self, wait: bool) -> AbstractContextManager[None]:
        """Hold its lock; a job of a sweep waits for whoever has it, and may find the run complete then."""
        return exclusive(self.path, "in this run folder", wait)
