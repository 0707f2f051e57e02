"""A command in a session of its own, so that a test finds every process that it leaves."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from commandline import ROOT


class Process(NamedTuple):
    """One that lives."""

    pid: int
    parent: int
    words: str


def start(words: list[str], env: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def living(session: int) -> list[Process]:
    """Return the processes of a session, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _, own = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(own) == session and state != "Z":
                found.append(Process(int(path.name), int(parent), (path / "cmdline").read_text()))
    return found


def until(ready, process: subprocess.Popen | None = None, seconds: float = 150) -> None:
    """Wait for something that is to come while a process lives."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not come"
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
