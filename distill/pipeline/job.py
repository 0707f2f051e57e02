"""What a run is a part of, and what is recorded of how it ends."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from distill.pipeline.finish import summary_of
from distill.pipeline.reuse import result_of
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.types import Dataset, RunLogger


@dataclass(frozen=True)
class Job:
    """What a run is a part of."""

    type: str = "student"  # or teacher
    group: str | None = None  # name that a logger gives all runs of a sweep, of folds or of generations
    name: str | None = None  # what the sweep calls the job, of which it may be one of several runs
    command: str | None = None  # what was typed, for env.json

    def of_teacher(self) -> "Job":
        """Return the job of this run's teacher."""
        return replace(self, type="teacher", command=None)

    def names(self, folder: RunFolder) -> dict[str, str | None]:
        """Return what a logger calls one of its runs: as its sweep names it, and otherwise as its folder."""
        name = folder.name
        if self.name and self.type == "student":
            name = f"{self.name}/{name}" if RunFolder(folder.path.parent).config.is_file() else self.name
        return {"name": name, "group": self.group, "job_type": self.type}


@contextmanager
def recording(folder: RunFolder, open_logger: Callable[[], RunLogger]) -> Iterator[RunLogger]:
    """Yield the logger of a run; where the run fails, it and result.json say so."""
    if parallel.is_main() and not folder.is_complete():
        folder.result.unlink(missing_ok=True)  # clear an earlier failure
    logger = None
    try:
        logger = open_logger()
        yield logger
    except BaseException as error:
        if logger is not None:
            logger.finish({}, exit_code=1)
        # what a complete run says outlives a mistake in measuring it again; one that was stopped did not fail
        failed = isinstance(error, Exception) and not isinstance(error, parallel.PeerLost)
        if failed and not folder.is_complete() and parallel.is_first_failure():
            RunResult("failed", error=f"{type(error).__name__}: {error}").write(folder.result)
        raise


def result_again(folder: RunFolder, data: Dataset, open_logger: Callable[[], RunLogger]) -> RunResult:
    """Return the result of a complete run; `wandb agent`, which chooses by what its jobs say, is told it, too."""
    result = result_of(folder, data)
    if os.environ.get("WANDB_SWEEP_ID"):
        open_logger().finish(summary_of(result), exit_code=0)
    return result
