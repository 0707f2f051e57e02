"""Where the jobs of a sweep run, each as `python -m distill.run WORDS`: forked off here, on a Ray cluster, or in SLURM's queue.

An executor has jobs, how many it runs at a time; batch(), the context in which they are started together; start(words, job_dir),
which returns what answers the exit code (-N where signal N ended it, None while it runs); and close(), which ends what runs.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from distill.system import processes
from distill.system.cli import not_installed
from distill.system.cores import cores
from distill.system.errors import ConfigError, expect
from distill.system.processes import GRACE_PERIOD_S, JOB_DIR, LOG, STOP, Stoppable, fork, run_process

COMMAND = "distill.run"
LATE = (
    "timm",
    "torch._dynamo",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)  # what a run imports when it needs it


def _job(words: list[str], job_dir: Path, threads: int) -> tuple[list[str], str, str, dict[str, str]]:
    """Return a job as run_process takes it: its folder, and what is set here for this project, are in its environment."""
    kept = {key: value for key, value in os.environ.items() if key.startswith(("FER_DISTILL", "WANDB", "HF_"))}
    kept |= {JOB_DIR: str(job_dir), "OMP_NUM_THREADS": str(threads)}
    return [sys.executable, "-m", COMMAND, *words], str(job_dir), os.getcwd(), kept


def run_here(words: list[str]) -> None:
    """Do in this process what `python -m distill.run WORDS` does."""
    sys.argv[1:] = words
    import_module(COMMAND).cli()


class LocalExecutor:
    """So many jobs at a time on this machine, its cores shared out; each is forked off here.

    Args:
        jobs: at a time.
        run: does a job, given its words.
    """

    def __init__(self, jobs: int, run: Callable[[list[str]], None] = run_here):
        self.jobs, self.run, self.batch, self._running = jobs, run, nullcontext, list[Any]()
        self.threads = os.environ.get("OMP_NUM_THREADS") or max(cores() // jobs, 1)
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else asking for GPUs keeps forks from them
        for name in (COMMAND, *LATE) if run is run_here else ():
            import_module(name)

    def start(self, words: list[str], job_dir: Path) -> Callable[[], int | None]:
        def work() -> None:
            os.environ.update({JOB_DIR: str(job_dir), "OMP_NUM_THREADS": str(self.threads)})
            self.run(words)

        (job_dir / STOP).unlink(missing_ok=True)
        process = fork(work, job_dir / LOG)
        self._running.append(Stoppable(process, lambda: process.exitcode, job_dir))
        return self._running[-1].poll

    def close(self) -> None:
        for job in self._running:
            if job.poll() is None:
                job.stop.touch()
        for job in self._running:
            job.wait()


class RayExecutor:
    """As many jobs at a time as a Ray cluster has room for; a job is never repeated by Ray, its next start resumes it.

    Args:
        address: local for a cluster of this machine that lasts as long as the command; auto, or HOST:PORT of one that is up.
        num_cpus: cores of one job, as many threads.
        num_gpus: GPUs of one job.

    Raises:
        ConfigError: no cluster is there, or a number is out of range.
        ValueError: Ray is not installed.
    """

    def __init__(self, address: str, num_cpus: int, num_gpus: float):
        for name, value, least in (("num_cpus", num_cpus, 1), ("num_gpus", num_gpus, 0)):
            expect(type(value) in (int, float) and value >= least, f"launcher.{name}", f"{least} or more", value)
        try:
            import ray
        except ImportError as error:
            raise ValueError(f"launcher=ray: {not_installed('ray', error, 'ray')}") from error
        self._ray, self._tasks, self.batch, self.threads = ray, list[Any](), nullcontext, int(num_cpus)
        ray.cloudpickle.register_pickle_by_value(processes)  # no node has to find it
        local = {"num_cpus": max(cores(), self.threads)} if address == "local" else {}
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error", **local)
        except (ConnectionError, RuntimeError) as error:
            raise ConfigError("launcher.address", f"{address}: no Ray cluster answers ({error}).") from error
        self._remote = ray.remote(max_retries=0, num_cpus=num_cpus, num_gpus=num_gpus)(run_process)
        self.jobs = max(int(ray.cluster_resources().get("CPU", 1) // num_cpus), 1)

    def start(self, words: list[str], job_dir: Path) -> Callable[[], int | None]:
        self._tasks.append(task := self._remote.remote(*_job(words, job_dir, self.threads)))

        def poll() -> int | None:
            try:
                return self._ray.get(task, timeout=0)
            except self._ray.exceptions.GetTimeoutError:
                return None
            except self._ray.exceptions.RayError:  # the worker or its node is gone
                return -9

        return poll

    def close(self) -> None:
        for task in self._tasks:  # what waits does not begin, what is at work ends its job; the rest is over
            self._ray.cancel(task)
        if self._tasks:
            self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=GRACE_PERIOD_S + 5)
        self._ray.shutdown()


class SlurmExecutor:
    """All jobs in SLURM's queue at once, as one array; a preempted one is queued again, and all go on when this process ends.

    Args:
        options: of conf/launcher/slurm.yaml.
    """

    def __init__(self, options: Mapping[str, object]):
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
        from submitit import AutoExecutor
        from submitit.helpers import Checkpointable

        class Requeued(Checkpointable):  # when it is preempted, and then goes on from its checkpoint
            __call__ = staticmethod(run_process)

        plain = BaseQueueConf.__dataclass_fields__  # options of every cluster, not SLURM's own
        given = {key: value for key, value in options.items() if key not in ("_target_", "submitit_folder")}
        timeouts = given.pop("max_num_timeout")
        queue = AutoExecutor(options["submitit_folder"], cluster="slurm", slurm_max_num_timeout=timeouts)
        queue.update_parameters(**{key if key in plain else f"slurm_{key}": given[key] for key in given})
        self.jobs, self.batch, self.threads = sys.maxsize, queue.batch, given["cpus_per_task"] or 1
        self._queue, self._run = queue, Requeued()

    def start(self, words: list[str], job_dir: Path) -> Callable[[], int | None]:
        job = self._queue.submit(self._run, *_job(words, job_dir, self.threads))
        return lambda: (1 if job.exception() else job.result()) if job.done() else None

    def close(self) -> None:
        """Leave the jobs in the queue."""
