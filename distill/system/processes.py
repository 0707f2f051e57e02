"""Jobs as processes: one at a time in a folder, and one that is killed takes no other along."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from filelock import FileLock, Timeout

from distill.system.cli import open_streams, report_error
from distill.system.console import console

PLACE = "FER_DISTILL_JOB"  # in the environment of a job that is a process of its own: its folder in the sweep's
LATE = ("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg")  # by optimisers and pictures
DIES_WITH_PARENT = 1  # prctl(2), PR_SET_PDEATHSIG
BOUND = f"""import ctypes, os, sys
ctypes.CDLL(None).prctl({DIES_WITH_PARENT}, {int(signal.SIGKILL)})
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])"""


class JobFailed(ValueError):
    """A job of a sweep did not end well; its record says so, and why."""


@contextmanager
def only_here(sweep: Path) -> Iterator[None]:
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


@contextmanager
def hold(folder: Path, wait: bool) -> Iterator[None]:
    """Hold a run folder's lock; a job of a sweep waits for whoever has it, and may find the run complete then.

    Raises:
        ValueError: another process has it, and there is no waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise ValueError(
                f"{folder}: another process is at work in this run folder. Wait for it, or stop it."
            ) from None
        console.print(f"{folder}: another process is at work in this run folder; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_early() -> None:
    """Import what every job imports late, so that those forked off here have it: about two seconds of each."""
    for name in LATE:
        import_module(name)


def apart(work: Callable[[], object], log: Path | None) -> None:
    """Do work in a process of its own, forked off here: nothing is imported again, and its death is its own.

    Args:
        work: the job.
        log: takes what the job prints; None leaves it on the terminal.

    Raises:
        JobFailed: the job failed, or was killed.
    """
    if not hasattr(os, "fork"):
        work()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    told, tell = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _child(work, log, tell, parent)
    os.close(tell)
    with open(told, encoding="utf-8", errors="replace") as pipe:
        error = pipe.read()  # to its end, when the child is gone
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise JobFailed(killed_by(-status))
    if status:
        raise JobFailed(error or f"it ended with exit code {status}")


def killed_by(number: int) -> str:
    """Return what to say of a job that a signal ended."""
    return f"was killed by {signal.Signals(number).name}; the same command again goes on from its last checkpoint"


def _child(work: Callable[[], object], log: Path | None, tell: int, parent: int) -> None:
    """Do the work, tell its error, and never return."""
    status = 1
    try:
        die_with(parent)
        if log is not None:
            _print_into(log)
        work()
        status = 0
    except Exception as error:
        told = report_error(error)
        print(f"error: {told}", file=sys.stderr)
        os.write(tell, told.encode("utf-8", "replace")[:4096])
    except BaseException as error:
        os.write(tell, f"stopped by {type(error).__name__}".encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def bound(command: list[str]) -> list[str]:
    """Return a command that the kernel kills when the thread that starts it dies (Linux only).

    A word in front of it, because a process of several threads, such as one of Ray, must not run Python between fork and exec.
    """
    return [sys.executable, "-ISc", BOUND, str(os.getpid()), *command] if sys.platform == "linux" else command


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (Linux only); it may be the parent itself."""
    if sys.platform == "linux" and parent != os.getpid():
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _print_into(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115, for as long as the process lives
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    open_streams()
