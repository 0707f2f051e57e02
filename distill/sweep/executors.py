"""Where the jobs of python -m distill.sweep run, each as a process of its own: on this machine, or on a Ray cluster."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distill.system import processes
from distill.system.cli import not_installed
from distill.system.processes import PLACE, bound, cores

STOP = "stop"  # a file in a job's place that asks it to end
PATIENCE = 30.0  # seconds that a job has for ending when it is asked to, before it is killed


def run_process(command: list[str], place: str, cwd: str, environment: dict[str, str]) -> int:
    """Run one job to its end, or until its place holds a file stop; it dies with the process that runs it.

    Args:
        command: what to run.
        place: the job's folder in the sweep's; log.txt in it takes what the job prints.
        cwd: where.
        environment: more variables than those of this machine.

    Returns:
        The exit code; -N where signal N ended it.
    """
    stop = os.path.join(place, STOP)
    if os.path.exists(stop):  # of an earlier start
        os.remove(stop)
    with open(os.path.join(place, "log.txt"), "ab") as log:
        job = subprocess.Popen(
            bound(command),
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while job.poll() is None and not os.path.exists(stop):
                time.sleep(0.1)
        finally:
            try:
                if job.poll() is None:
                    job.terminate()
                    job.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                job.kill()
        return job.wait()


class Here:
    """So many jobs at a time on this machine, its cores shared out.

    Args:
        jobs: at a time.
    """

    def __init__(self, jobs: int):
        self.jobs, self.threads = jobs, max(cores() // jobs, 1)
        self._pool = ThreadPoolExecutor(jobs)

    def start(self, command: Sequence[str], place: Path) -> Callable[[], int | None]:
        """Start a job; what is returned answers its exit code, None as long as it has none."""
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self.threads))}
        future = self._pool.submit(run_process, list(command), str(place), os.getcwd(), _environment(place) | threads)
        return lambda: future.result() if future.done() else None

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Ray:
    """As many jobs at a time as a Ray cluster has room for; a job is never repeated by Ray, its next start resumes it.

    Args:
        address: local for a cluster of this machine that lasts as long as the command; auto, or HOST:PORT of one that is up.
        num_cpus: cores of one job, as many threads.
        num_gpus: GPUs of one job.

    Raises:
        ValueError: Ray is not installed, no cluster is there, or a number is out of range.
    """

    def __init__(self, address: str, num_cpus: int, num_gpus: float):
        for name, value, least in (("num_cpus", num_cpus, "1 or more"), ("num_gpus", num_gpus, "0 or more")):
            if type(value) not in (int, float) or value < int(least[0]):
                raise ValueError(f"launcher.{name}: {value} was asked for; give {least}.")
        try:
            import ray
        except ImportError as error:
            raise ValueError(f"launcher=ray: {not_installed('ray', error, 'ray')}") from error
        self._ray, self._tasks, self.threads = ray, [], int(num_cpus)
        for module in (sys.modules[__name__], processes):
            ray.cloudpickle.register_pickle_by_value(module)  # no node has to find it
        local = {"num_cpus": max(cores(), self.threads)} if address == "local" else {}
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error", **local)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"launcher.address: {address}: no Ray cluster answers ({error}).") from error
        self._remote = ray.remote(max_retries=0, num_cpus=num_cpus, num_gpus=num_gpus)(run_process)
        self.jobs = max(int(ray.cluster_resources().get("CPU", 1) // num_cpus), 1)

    def start(self, command: Sequence[str], place: Path) -> Callable[[], int | None]:
        """Start a job; what is returned answers its exit code, None as long as it has none."""
        environment = _environment(place) | {"OMP_NUM_THREADS": str(self.threads)}
        task = self._remote.remote(list(command), str(place), os.getcwd(), environment)
        self._tasks.append(task)

        def code() -> int | None:
            if not self._ray.wait([task], timeout=0)[0]:
                return None
            try:
                return self._ray.get(task)
            except self._ray.exceptions.RayError:  # the worker or its node is gone
                return -9

        return code

    def close(self) -> None:
        for task in self._tasks:  # what waits does not begin, what is at work ends its job; the rest is over
            self._ray.cancel(task)
        if self._tasks:
            self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=PATIENCE + 5)
        self._ray.shutdown()


def _environment(place: Path) -> dict[str, str]:
    """Return what a job must be told: where its record lies, and what is set here for this project."""
    kept = {key: value for key, value in os.environ.items() if key.startswith(("FER_DISTILL", "WANDB", "HF_"))}
    return kept | {PLACE: str(place)}
