"""How a run ended: result.json, its only reader and writer."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from distill.system.files import write_json

# keys that other results do not have
ONLY_IF_ANY = ("calibration", "folds", "generations", "ensemble", "widths", "error")


@dataclass
class RunResult:
    """What result.json holds; of a run that failed or was pruned there is but the error.

    Args:
        status: complete, failed, or pruned (stopped by a search).
        name: of the run folder.
        folder: its path.
        data: name, protocol, fingerprint, classes, rows per split, notes.
        eval: the config's group eval: what was measured.
        test_subset: lists of test faces that were measured, too: name -> folder.
        student: name, metrics ("valid/top1_accuracy", fractions in [0, 1]), parameters, MACs, bytes and speed.
        calibration: the temperature fitted on validation, and what it changes; None for several folds.
        extra_test_splits: other selection of the test faces -> its rows and metrics.
        robustness: accuracy on corrupted test faces, see distill.evaluation.robustness.
        cka: similarity of student's and teacher's layers.
        teacher: as student, with its weight files; None without one.
        monitor: the validation metric that chose the epoch.
        epochs: of the training.
        best_epoch: the epoch that was chosen, from 0 on.
        steps: of the training.
        resumed_at_step: where the last start went on, 0 for the beginning.
        seed: of the run.
        start: what the student started from: pretrained, weights or scratch.
        teacher_forward_images: pictures that went through the live teacher.
        seconds: of the teacher, of the student's training, and in total.
        folds: the metrics of each fold, of data.fold=all.
        generations: the metrics of each generation.
        ensemble: the metrics of all generations together.
        widths: of a student of several widths, the first its own: folder, costs and metrics.
        error: why the run is not complete.
    """

    status: str | None = None
    name: str | None = None
    folder: str | None = None
    data: dict = field(default_factory=dict)
    eval: dict = field(default_factory=dict)
    test_subset: dict = field(default_factory=dict)
    student: dict = field(default_factory=dict)
    calibration: dict | None = None
    extra_test_splits: dict[str, dict] = field(default_factory=dict)
    robustness: dict = field(default_factory=dict)
    cka: dict = field(default_factory=dict)
    teacher: dict | None = None
    monitor: str | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    steps: int | None = None
    resumed_at_step: int | None = None
    seed: int | None = None
    start: str | None = None
    teacher_forward_images: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    folds: list[dict] | None = None
    generations: list[dict] | None = None
    ensemble: dict | None = None
    widths: list[dict] | None = None
    error: str | None = None

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
