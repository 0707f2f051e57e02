"""Processes: the lock of a sweep, jobs that are forked off, or die with whoever started them, or end when they are asked to."""

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from distill.system.cli import open_streams, report_error

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
def sweep_lock(sweep: Path) -> Iterator[None]:
    """Refuse to do the same sweep in two processes.

    Raises:
        ValueError: another process does it.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(sweep / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"{sweep}: another process is at work on this sweep. Wait for it, or stop it.") from None


class Fork:
    """A process forked off here, for which nothing is imported again; asked as a subprocess.Popen is. It dies with this one.

    Args:
        work: what it does.
        log: takes what it prints.
    """

    def __init__(self, work: Callable[[], object], log: Path):
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _child(work, log, parent)

    def poll(self) -> int | None:
        if self._code is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self._code = os.waitstatus_to_exitcode(ended[1])
        return self._code

    def terminate(self, number: int = signal.SIGTERM) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.terminate(signal.SIGKILL)


def _child(work: Callable[[], object], log: Path, parent: int) -> None:
    """Do the work, and never return."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
            assert os.getppid() == parent
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
        open_streams()
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except Exception as error:
        print(f"error: {report_error(error)}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def with_parent_death_signal(command: list[str]) -> list[str]:
    """Return a command that the kernel kills when the thread that starts it dies (Linux only).

    A word in front of it, because a process of several threads, such as one of Ray, must not run Python between fork and exec.
    """
    return [sys.executable, "-ISc", BOUND, str(os.getpid()), *command] if sys.platform == "linux" else command


class Stoppable:
    """A process that is asked to end when its job's folder holds a file stop, and killed if it does not."""

    def __init__(self, process, job_dir: Path):
        self.process, self.stop, self.deadline = process, job_dir / STOP, math.inf

    def poll(self) -> int | None:
        code = self.process.poll()
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
