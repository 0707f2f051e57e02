"""Where the jobs of a sweep run, each as `python -m distill.run WORDS`: forked off here, on a Ray cluster, or in SLURM's queue.

An executor has jobs, how many it runs at a time; batch(), the context in which they are started together; start(words, job_dir),
which returns what answers the exit code (-N where signal N ended it, None while it runs); and close(), which ends what runs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

from distill.system import processes
from distill.system.cli import not_installed
from distill.system.cores import cores
from distill.system.errors import ConfigError
from distill.system.processes import JOB_DIR, Fork, with_parent_death_signal

COMMAND = "distill.run"
LATE = ("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg")  # what a run imports when it needs it
LOG = "log.txt"  # in a job's folder: what it prints
STOP = "stop"  # a file in a job's folder that asks it to end
GRACE_PERIOD_S = 30.0  # that a job has for ending when it is asked to, before it is killed
PLAIN = {"name", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"} | {
    "stderr_to_stdout"
}
Poll = Callable[[], int | None]


class Stoppable:
    """A process that is asked to end when its job's folder holds a file stop, and killed if it does not."""

    def __init__(self, process, job_dir: Path):
        self.process, self.stop, self.asked = process, job_dir / STOP, None

    def poll(self) -> int | None:
        code = self.process.poll()
        if code is None and self.asked is None and self.stop.exists():
            self.asked = time.monotonic()
            self.process.terminate()
        elif code is None and self.asked is not None and time.monotonic() - self.asked > GRACE_PERIOD_S:
            self.process.kill()
        return code

    def wait(self) -> int:
        try:
            while (code := self.poll()) is None:
                time.sleep(0.1)
            return code
        finally:
            if self.process.poll() is None:  # stopped from the keyboard, or by a cluster
                self.stop.touch()
                self.wait()


def run_process(command: list[str], job_dir: str, cwd: str, environment: dict[str, str]) -> int:
    """Run one job to its end, or until its folder holds a file stop; return its exit code."""
    Path(job_dir, STOP).unlink(missing_ok=True)  # of an earlier start
    with open(Path(job_dir, LOG), "ab") as log:
        where = {"cwd": cwd, "env": os.environ | environment, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(with_parent_death_signal(command), **where, stdout=log, stderr=subprocess.STDOUT)
    return Stoppable(process, Path(job_dir)).wait()


def run_here(words: list[str]) -> None:
    """Do in this process what `python -m distill.run WORDS` does."""
    sys.argv[1:] = words
    import_module(COMMAND).cli()


def _job(words: list[str], job_dir: Path, threads: int) -> tuple[list[str], str, str, dict[str, str]]:
    """Return a job as run_process takes it: its folder, and what is set here for this project, are in its environment."""
    kept = {key: value for key, value in os.environ.items() if key.startswith(("FER_DISTILL", "WANDB", "HF_"))}
    kept |= {JOB_DIR: str(job_dir), "OMP_NUM_THREADS": str(threads)}
    return [sys.executable, "-m", COMMAND, *words], str(job_dir), os.getcwd(), kept


class LocalExecutor:
    """So many jobs at a time on this machine, its cores shared out; each is forked off here.

    Args:
        jobs: at a time.
        run: does a job, given its words.
    """

    def __init__(self, jobs: int, run: Callable[[list[str]], None] = run_here):
        self.jobs, self.run, self.batch, self._running = jobs, run, nullcontext, []
        self.threads = os.environ.get("OMP_NUM_THREADS") or max(cores() // jobs, 1)
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else asking for GPUs keeps forks from them
        for name in (COMMAND, *LATE) if run is run_here else ():
            import_module(name)

    def start(self, words: list[str], job_dir: Path) -> Poll:
        def work() -> None:
            os.environ.update({JOB_DIR: str(job_dir), "OMP_NUM_THREADS": str(self.threads)})
            self.run(words)

        (job_dir / STOP).unlink(missing_ok=True)
        self._running.append(Stoppable(Fork(work, job_dir / LOG), job_dir))
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
            if type(value) not in (int, float) or value < least:
                raise ConfigError(f"launcher.{name}", f"expected {least} or more, got {value}.")
        try:
            import ray
        except ImportError as error:
            raise ValueError(f"launcher=ray: {not_installed('ray', error, 'ray')}") from error
        self._ray, self._tasks, self.batch, self.threads = ray, [], nullcontext, int(num_cpus)
        for module in (sys.modules[__name__], processes):
            ray.cloudpickle.register_pickle_by_value(module)  # no node has to find it
        local = {"num_cpus": max(cores(), self.threads)} if address == "local" else {}
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error", **local)
        except (ConnectionError, RuntimeError) as error:
            raise ConfigError("launcher.address", f"{address}: no Ray cluster answers ({error}).") from error
        self._remote = ray.remote(max_retries=0, num_cpus=num_cpus, num_gpus=num_gpus)(run_process)
        self.jobs = max(int(ray.cluster_resources().get("CPU", 1) // num_cpus), 1)

    def start(self, words: list[str], job_dir: Path) -> Poll:
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
        from submitit import AutoExecutor

        own = {key: value for key, value in options.items() if key not in ("_target_", "submitit_folder")}
        timeouts = own.pop("max_num_timeout")
        queue = AutoExecutor(options["submitit_folder"], cluster="slurm", slurm_max_num_timeout=timeouts)
        queue.update_parameters(**{key if key in PLAIN else f"slurm_{key}": own[key] for key in own})
        self.jobs, self._queue, self.batch, self.threads = sys.maxsize, queue, queue.batch, own["cpus_per_task"] or 1

    def start(self, words: list[str], job_dir: Path) -> Poll:
        job = self._queue.submit(_Requeued(), *_job(words, job_dir, self.threads))
        return lambda: (1 if job.exception() else job.result()) if job.done() else None

    def close(self) -> None:
        pass


class _Requeued:
    """A job that comes back into the queue when it is preempted, and then goes on from its checkpoint."""

    def __call__(self, *job) -> int:
        return run_process(*job)

    def checkpoint(self, *job):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *job)
