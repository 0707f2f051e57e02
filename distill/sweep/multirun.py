"""The jobs of a sweep, done: every combination of what is typed, or what a search asks for; each is found complete or begun."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config import overrides
from distill.config.naming import swept_name
from distill.sweep.executors import LocalExecutor, RayExecutor, SlurmExecutor
from distill.sweep.jobs import METRIC, Record, finalize_sweep, plan, sweep_folder
from distill.system.console import console
from distill.system.cores import cores
from distill.system.errors import expect
from distill.system.files import write_text
from distill.system.processes import exclusive

MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


@dataclass
class Job:
    """A job that has been started."""

    job_dir: Path
    poll: Callable[[], int | None]
    trial: Any = None  # of optuna, which chose its settings
    epochs: int = 0  # that were compared with those of other trials
    size: int = 0  # of its metrics.jsonl when it was read
    behind: str = ""  # why it was asked to end


@contextmanager
def job_runner(folder: Path, what: str, launcher: Mapping, at_a_time: int, metric: str, maximize: bool) -> Iterator:
    """Yield the executor of a grid's or a search's jobs, the sweep's folder locked; at the end say how each job ended.

    Args:
        folder: of the sweep.
        what: a digest of what is asked for: the folder takes no other sweep.
        launcher, at_a_time: see executor_of.
        metric, maximize: see finalize_sweep.

    Raises:
        ValueError: another process is at work there, or the folder is another sweep's.
    """
    with exclusive(folder, "on this sweep"):
        if (file := folder / "sweep.txt").exists() and file.read_text(encoding="utf-8").strip() != what:
            raise ValueError(f"{folder}: holds another sweep. Choose another folder, or leave it out.")
        write_text(file, f"{what}\n")
        executor = executor_of(launcher, at_a_time)
        console.print(f"sweep folder: {folder} (what job N prints is in jobs/N/log.txt)")
        try:
            yield executor
        finally:
            finalize_sweep(folder, metric, maximize)


def run_jobs(
    executor,
    next_job: Callable[[int], Job | None],
    watch: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Job, Record], None] = lambda job, record: None,
) -> int:
    """Keep an executor busy until there is no next job, and return how many failed; an interruption ends what still runs.

    Args:
        executor: see distill/sweep/executors.py.
        next_job: number of jobs that are at work or failed -> the next one, started, or None.
        watch: takes a job that runs.
        ended: takes a job that has ended, and its record.
    """
    running: list[Job] = []
    failed = 0
    try:
        while True:
            with executor.batch():
                while len(running) < executor.jobs and (job := next_job(len(running) + failed)):
                    running.append(job)
            if not running:
                return failed
            for job in list(running):
                watch(job)
                if (code := job.poll()) is not None:
                    running.remove(job)
                    record = Record(job.job_dir)
                    record.close(code, job.behind)
                    failed += record.facts["status"] == "failed"
                    ended(job, record)
            time.sleep(0.1)
    finally:
        executor.close()


def run_grid(words: Sequence[str], at_a_time: int = 1, folder: str | None = None) -> int:
    """Run every combination of the words' values in a folder that is named by them, and print how each ended.

    Args:
        words: of a command line, -m anywhere among them; several values of a key with commas between them.
        at_a_time: jobs, where no launcher says it.
        folder: of the sweep, instead of the one that is named by the words.

    Returns:
        The exit code: 1 where a job failed.

    Raises:
        ValueError: a flag that is for one job.
    """
    words = [word for word in words if word not in MULTIRUN]
    if flags := [word for word in words if word.startswith("-")]:
        raise ValueError(f"{flags[0]}: does not go with -m. Type it without -m, and with one value of each key.")
    jobs, swept = overrides.expand_sweep(words)
    sweep, what = sweep_folder(words, swept_name(swept), (), folder)
    _, launcher = overrides.compose_jobs(jobs, words, swept, sweep)
    with job_runner(sweep, what, launcher, at_a_time, METRIC, True) as executor:
        planned = zip(plan(sweep, jobs, swept), jobs, strict=True)
        # of the words for hydra those that each job is given, too
        more = [word for word in words if overrides.HYDRA.match(word) and not overrides.SWEEP.match(word)]
        started = (Job(job_dir, executor.start([*job, *more], job_dir)) for job_dir, job in planned)
        return int(run_jobs(executor, lambda _: next(started, None)) > 0)


def executor_of(launcher: Mapping[str, Any], at_a_time: int):
    """Return where the jobs run, by the options of the launcher, or at_a_time here where it does not say how many.

    Raises:
        ConfigError: a number of jobs that is none.
    """
    if launcher["_target_"] == "ray":
        return RayExecutor(**{key: value for key, value in launcher.items() if key != "_target_"})
    if "submitit" in launcher["_target_"]:
        return SlurmExecutor(launcher)
    key, jobs = ("hydra.launcher.n_jobs", launcher["n_jobs"]) if "n_jobs" in launcher else ("sweep.jobs", at_a_time)
    jobs = cores() if jobs == -1 else jobs
    expect(type(jobs) is int and jobs >= 1, key, "1 or more, or -1 for one per core", jobs)
    return LocalExecutor(jobs)
