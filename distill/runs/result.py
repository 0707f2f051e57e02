"""How a run ended: result.json, its only reader and writer."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from distill.system.files import write_json

# keys that other results do not have
ONLY_IF_ANY = ("calibration", "folds", "generations", "ensemble", "widths", "error")


@dataclass
class RunResult:
    """What result.json holds; of a run that failed or was pruned there is but the error."""

    status: str | None = None  # complete, failed, or pruned (stopped by a search)
    name: str | None = None  # of the run folder
    folder: str | None = None  # its path
    data: dict = field(default_factory=dict)  # name, protocol, fingerprint, classes, rows per split, notes
    eval: dict = field(default_factory=dict)  # the config's group eval: what was measured
    test_subset: dict = field(default_factory=dict)  # name -> folder of lists that were measured, too
    student: dict = field(default_factory=dict)  # name, costs, and metrics: "valid/top1_accuracy", fractions in [0, 1]
    calibration: dict | None = None  # the temperature fitted on validation, and what it changes; None for several folds
    extra_test_splits: dict[str, dict] = field(default_factory=dict)  # other selection -> its rows and metrics
    robustness: dict = field(
        default_factory=dict
    )  # accuracy on corrupted test faces, see distill.evaluation.robustness
    cka: dict = field(default_factory=dict)  # similarity of student's and teacher's layers
    teacher: dict | None = None  # as student, with its weight files; None without one
    monitor: str | None = None  # the validation metric that chose the epoch
    epochs: int | None = None  # of the training
    best_epoch: int | None = None  # the epoch that was chosen, from 0 on
    steps: int | None = None  # of the training
    resumed_at_step: int | None = None  # where the last start went on, 0 for the beginning
    seed: int | None = None  # of the run
    start: str | None = None  # what the student started from: pretrained, weights or scratch
    teacher_forward_images: int | None = None  # pictures that went through the live teacher
    seconds: dict[str, float] = field(default_factory=dict)  # of the teacher, of the student's training, and in total
    folds: list[dict] | None = None  # the metrics of each fold, of data.fold=all
    generations: list[dict] | None = None  # the metrics of each generation
    ensemble: dict | None = None  # the metrics of all generations together
    widths: list[dict] | None = None  # of a student of several widths, the first its own: folder, costs and metrics
    error: str | None = None  # why the run is not complete

    @classmethod
    def read(cls, file: Path) -> "RunResult":
        """Read a result; what an older one does not hold is empty, and keys of others are left out.

        Raises:
            OSError: there is none.
            ValueError: the file is cut off or no JSON object.
        """
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{file}: is no JSON object")
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in content.items() if key in known and value is not None})

    def write(self, file: Path) -> None:
        """Write it."""
        write_json(file, self.to_dict())

    def to_dict(self) -> dict:
        """Return what result.json holds, as plain dicts."""
        if self.status != "complete":
            return {"status": self.status, "error": self.error}
        return {key: value for key, value in vars(self).items() if value is not None or key not in ONLY_IF_ANY}
