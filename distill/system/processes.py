"""Processes: a folder that one of them holds, jobs that are forked off, or die with whoever started them, or end when they are asked to."""

import ctypes
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill.system.cli import open_streams, report_error
from distill.system.console import console

JOB_DIR = "FER_DISTILL_JOB"  # in the environment of a sweep's job: its folder in the sweep's
LOG = "log.txt"  # in a job's folder: what it prints
STOP = "stop"  # a file in a job's folder that asks it to end
GRACE_PERIOD_S = 30.0  # that a job has for ending when it is asked to, before it is killed
DIES_WITH_PARENT = 1  # prctl(2), PR_SET_PDEATHSIG
BOUND = f"""import ctypes, os, sys
ctypes.CDLL(None).prctl({DIES_WITH_PARENT}, {int(signal.SIGKILL)})
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])"""


@contextmanager
def exclusive(folder: Path, where: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder.

    Args:
        folder: is made where it is not there.
        where: another process is at work, for messages: in this run folder, on this sweep.
        wait: for whoever has the lock.

    Raises:
        ValueError: another process has it, and there is no waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, busy = FileLock(folder / ".lock"), f"{folder}: another process is at work {where}"
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise ValueError(f"{busy}. Wait for it, or stop it.") from None
        console.print(f"{busy}; waiting for it")
        held = lock.acquire()
    with held:
        yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file of the store, while what is not in it yet is made.

    Raises:
        OSError: the store cannot be written; what is in it can be used all the same.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire()
    except OSError as error:
        why = f"{error.strerror}, and what is missing in this store cannot be made. Type paths.store=DIR with a folder that can be written"
        raise OSError(error.errno, why, str(path.parent)) from error
    with held:
        yield


def fork(work: Callable[[], object], log: Path) -> BaseProcess:
    """Return a process forked off here, for which nothing is imported again; it dies with this one (Linux only).

    Args:
        work: what it does.
        log: takes what it prints.
    """
    process = multiprocessing.get_context("fork").Process(target=_child, args=(work, log, os.getpid()))
    process.start()
    return process


def _child(work: Callable[[], object], log: Path, parent: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
        assert os.getppid() == parent
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    open_streams()
    try:
        work()
    except Exception as error:
        sys.exit(f"error: {report_error(error)}")


class Stoppable:
    """A process that is asked to end when its job's folder holds a file stop, and killed if it does not."""

    def __init__(self, process, exit_code: Callable[[], int | None], job_dir: Path):
        self.process, self.exit_code, self.stop, self.deadline = process, exit_code, job_dir / STOP, math.inf

    def poll(self) -> int | None:
        code = self.exit_code()
        if code is None and self.deadline == math.inf and self.stop.exists():
            self.deadline = time.monotonic() + GRACE_PERIOD_S
            self.process.terminate()
        elif code is None and time.monotonic() > self.deadline:
            self.process.kill()
        return code

    def wait(self) -> int:
        try:
            while (code := self.poll()) is None:
                time.sleep(0.1)
            return code
        finally:
            if self.exit_code() is None:  # stopped from the keyboard, or by a cluster
                self.stop.touch()
                self.wait()


def run_process(command: list[str], job_dir: str, cwd: str, environment: dict[str, str]) -> int:
    """Run one job to its end, or until its folder holds a file stop; return its exit code.

    The kernel kills it when the thread that starts it dies (Linux only). That is asked for by a word in front of the command,
    because a process of several threads, such as one of Ray, must not run Python between fork and exec.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-ISc", BOUND, str(os.getpid()), *command]
    Path(job_dir, STOP).unlink(missing_ok=True)  # of an earlier start
    with open(Path(job_dir, LOG), "ab") as log:
        where: dict[str, Any] = {"cwd": cwd, "env": os.environ | environment, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(command, **where, stdout=log, stderr=subprocess.STDOUT)
    return Stoppable(process, process.poll, Path(job_dir)).wait()
