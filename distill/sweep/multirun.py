"""The jobs of a sweep, done: every combination of what is typed, or what a search asks for; each is found complete or begun."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from distill import build
from distill.config import overrides
from distill.runs.folder import RunFolder
from distill.runs.provenance import tell_changed
from distill.runs.result import RunResult
from distill.sweep.executors import LocalExecutor, Poll, RayExecutor, SlurmExecutor
from distill.sweep.jobs import (
    METRIC,
    Record,
    finalize_sweep,
    folder_of,
    plan,
    read,
    refuse_another,
    refuse_idle,
    sweep_name,
)
from distill.system.console import console
from distill.system.cores import cores
from distill.system.errors import ConfigError
from distill.system.processes import sweep_lock
from distill.types import Dataset

MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")
PLUGINS = {"joblib": ("hydra_joblib_launcher", "sweep"), "slurm": ("hydra_submitit_launcher", "slurm")}


@dataclass
class Job:
    """A job that has been started."""

    job_dir: Path
    poll: Poll


def is_reused(record: Record, folder: RunFolder, data: Dataset) -> bool:
    """Say whether a job's one run, which is complete, saw the data that are there now, and note it then."""
    if RunResult.read(folder.result).data["fingerprint"] != build.fingerprint(data):
        return False
    tell_changed(folder)
    record.update(reused=True)
    return True


@contextmanager
def job_runner(
    folder: Path, what: str, launcher: Mapping, at_a_time: int, metric: str = METRIC, maximize: bool = True
) -> Iterator:
    """Yield the executor of a grid's or a search's jobs, the sweep's folder locked; at the end say how each job ended.

    Args:
        folder: of the sweep.
        what: a digest of what is asked for: the folder takes no other sweep.
        launcher, at_a_time: see executor_of.
        metric, maximize: see conclude.

    Raises:
        ValueError: another process is at work there, or the folder is another sweep's.
    """
    with sweep_lock(folder):
        refuse_another(folder, what)
        executor = executor_of(launcher, at_a_time)
        console.print(f"sweep folder: {folder} (what job N prints is in jobs/N/log.txt)")
        try:
            yield executor
        finally:
            finalize_sweep(folder, metric, maximize)


def run_jobs(
    executor, next_job: Callable[[int], Job | None], ended: Callable[[Job, int], None], watch=lambda job: None
):
    """Keep an executor busy until there is no next job; what still runs when this is interrupted is ended.

    Args:
        executor: see distill/sweep/executors.py.
        next_job: number of jobs at work -> the next one, started, or None.
        ended: takes a job and its exit code.
        watch: takes a job that runs.
    """
    running: list[Job] = []
    try:
        while True:
            with executor.batch():
                while len(running) < executor.jobs and (job := next_job(len(running))):
                    running.append(job)
            if not running:
                return
            for job in list(running):
                watch(job)
                if (code := job.poll()) is not None:
                    running.remove(job)
                    ended(job, code)
            time.sleep(0.1)
    finally:
        executor.close()


def run_grid(words: Sequence[str], at_a_time: int = 1, folder: str | None = None) -> int:
    """Run every combination of the words' values in a folder that is named by them, and print how each ended.

    Args:
        words: of a command line; several values of a key with commas between them.
        at_a_time: jobs, where no launcher says it.
        folder: of the sweep, instead of the one that is named by the words.

    Returns:
        The exit code: 1 where a job is not complete.
    """
    jobs, swept = overrides.spread(words)
    refuse_idle(swept)
    name = sweep_name(words, swept)
    folder = folder_of(words, name, folder)
    _, launcher = check(jobs, words, folder)
    with job_runner(folder, name, launcher, at_a_time) as executor:
        places = plan(folder, jobs, swept)
        pending = zip(places, jobs, strict=True)

        def next_job(running: int) -> Job | None:
            place, job = next(pending, (None, None))
            return place and Job(place, executor.start([*job, *overrides.for_jobs(words)], place))

        run_jobs(executor, next_job, lambda job, code: Record(job.job_dir).close(code))
    return int(any(read(place)["status"] != "complete" for place in places))


def multirun(words: Sequence[str]) -> int:
    """Run the sweep that is typed behind python -m distill.run with -m, wherever that stands; return the exit code.

    Raises:
        ValueError: a flag that is for one job.
    """
    words = [word for word in words if word not in MULTIRUN]
    if flags := [word for word in words if word.startswith("-")]:
        raise ValueError(f"{flags[0]}: does not go with -m. Type it without -m, and with one value of each key.")
    return run_grid(words, folder=overrides.sweep_dir(words))


def check(jobs: Iterable[Sequence[str]], words: Sequence[str], folder: Path) -> tuple[dict, dict]:
    """Refuse words of which no job can be made, before the first one is started.

    Args:
        jobs: the words of each job; so many are composed that every word is in one.
        words: of the command line, those for hydra among them.
        folder: of the sweep.

    Returns:
        (config of the first job, options of the launcher).

    Raises:
        ValueError: a launcher that is not installed; or with the nearest keys that exist.
    """
    for name, (plugin, extra) in PLUGINS.items():
        if f"launcher={name}" in words and not (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{plugin}")):
            raise ValueError(f"launcher={name}: is not installed. Type pip install -e '.[{extra}]'.")
    seen: set[str] = set()
    composed = []
    for job in jobs:
        if not composed or not seen.issuperset(job):
            seen.update(job)
            composed.append(overrides.composed(job, words, folder))
    return composed[0]


def executor_of(launcher: Mapping[str, object], at_a_time: int):
    """Return where the jobs run, by the options of the launcher, or at_a_time here where it does not say how many.

    Raises:
        ConfigError: a number of jobs that is none.
    """
    target = str(launcher["_target_"])
    if target == "ray":
        return RayExecutor(**{key: value for key, value in launcher.items() if key != "_target_"})
    if "submitit" in target:
        return SlurmExecutor(launcher)
    key, jobs = ("hydra.launcher.n_jobs", launcher["n_jobs"]) if "n_jobs" in launcher else ("sweep.jobs", at_a_time)
    jobs = cores() if jobs == -1 else jobs
    if type(jobs) is not int or jobs < 1:
        raise ConfigError(key, f"expected 1 or more, or -1 for one per core, got {jobs}.")
    return LocalExecutor(jobs)
