"""Several processes that do one job, with the environment that torchrun gives them but forked off one that has imported torch."""

import socket
import subprocess
import time
from pathlib import Path

import warm
from commandline import ROOT, environment


def start(words: list[str], processes: int = 2, cwd: Path = ROOT) -> list[warm.Command]:
    """Start [python, "-m", MODULE, ...] in some processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    all_of_them = {
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    own = [all_of_them | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(processes)]
    return [warm.Command(words, cwd, environment() | {key: str(value) for key, value in env.items()}) for env in own]


def end(commands: list[warm.Command], timeout: float = 300) -> subprocess.CompletedProcess:
    """Wait for all of them; return the largest exit code and all that they printed.

    Raises:
        subprocess.TimeoutExpired: one took longer than `timeout` seconds, or than 60 after another had failed.
    """
    deadline = time.monotonic() + timeout
    while any(command.poll() is None for command in commands):
        if any(command.poll() for command in commands):
            deadline = min(deadline, time.monotonic() + 60)
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    printed = [command.communicate(timeout=0) for command in commands]
    code = max(abs(command.poll()) for command in commands)
    return subprocess.CompletedProcess(commands[0].words, code, *map("".join, zip(*printed, strict=True)))


def run(words: list[str], processes: int = 2, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Do such a job to its end."""
    return end(start(words, processes, cwd))
