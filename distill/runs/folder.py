"""What lies where in a run folder, who is at work in it, and whether the run in it is complete."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from distill.runs.result import RunResult
from distill.system.processes import exclusive

PART = re.compile(r"(fold|generation)-(\d+)")  # sub-runs of one job


@dataclass(frozen=True)
class RunFolder:
    """A run folder, whether it is there or not.

    Args:
        path: where it is.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of_weights(cls, weights: str | Path) -> "RunFolder":
        """Return the run folder that a run's best weights lie in."""
        return cls(Path(weights).parents[1])

    @property
    def name(self) -> str:
        """Its own name, which is that of the run."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def env(self) -> Path:
        """The machine, the packages, the code and what was typed."""
        return self.path / "env.json"

    @property
    def result(self) -> Path:
        """How the run ended: see RunResult."""
        return self.path / "result.json"

    @property
    def metrics(self) -> Path:
        """The numbers of training, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The training state from which a run goes on."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def weights(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def robustness(self) -> Path:
        """The accuracy on corrupted test faces."""
        return self.path / "robustness.csv"

    @property
    def measured(self) -> Path:
        """The folder of what was measured on other faces afterwards."""
        return self.path / "measured"

    @property
    def export(self) -> Path:
        """The folder of exported files."""
        return self.path / "export"

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
