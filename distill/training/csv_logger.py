"""The training numbers as a table: metrics.csv, for spreadsheets and pandas."""

import csv
import json
from pathlib import Path

from distill.runs.folder import RunFolder
from distill.system.files import atomic
from distill.training.loggers import Silent


class Csv(Silent):
    """Writes <folder>/metrics.csv, a row for each line of metrics.jsonl and a column for each number, after every epoch.

    It is made of metrics.jsonl anew, so that a resumed run has no row twice; what a line lacks is an empty cell.

    Args:
        folder: the run folder.
        ignored: what else a logger is told.
    """

    def __init__(self, folder: str | Path, **ignored: object):
        self.folder = Path(folder)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Writes the table where an epoch has ended, which its validation numbers tell."""
        if any(name.startswith("valid/") for name in metrics):
            self._write()

    def finish(self, result: dict, exit_code: int = 0) -> None:
        """Writes the table."""
        self._write()

    def _write(self) -> None:
        lines = RunFolder(self.folder).metrics
        rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] if lines.is_file() else []
        with (
            atomic(self.folder / "metrics.csv") as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
            table.writeheader()
            table.writerows(rows)
