"""Commands as processes of their own that import no library anew: forked off one process that has imported them.

Such a process does what python -m MODULE does: the product's own modules are imported anew, and words, environment, output,
signals and exit code are the command's. Tests of how a python starts begin one themselves.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = ["timm", "torch._dynamo", "hydra", "wandb", "matplotlib.figure", "matplotlib.backends.backend_agg"]


class Command:
    """A started [python, "-m", MODULE, ...], as subprocess.Popen with both outputs in pipes as text.

    Args:
        words: the command.
        cwd: the folder that it is typed in.
        env: its environment.
    """

    def __init__(self, words: list[str], cwd: Path, env: dict[str, str]):
        self.words, self.folder = words, TemporaryDirectory()
        self.printed = [Path(self.folder.name, name) for name in ("stdout", "stderr")]
        for path in self.printed:
            path.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        arguments = (words[2:], str(cwd), env, *map(str, self.printed))
        self.process = context.Process(target=_become, args=arguments, daemon=True)  # it ends with this one
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Return what it printed, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
        """
        self.process.join(timeout)
        if self.poll() is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.words, timeout)
        return tuple(path.read_text() for path in self.printed)


def run(words: list[str], cwd: Path, env: dict[str, str], timeout: float = 300) -> subprocess.CompletedProcess:
    """Do such a command to its end."""
    command = Command(words, cwd, env)
    printed = command.communicate(timeout)
    return subprocess.CompletedProcess(words, command.poll(), *printed)


def _become(words: list[str], cwd: str, env: dict[str, str], *printed: str) -> None:
    """Be that command, to its end."""
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    multiprocessing.current_process()._config["daemon"] = False  # or it could not start workers
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, cwd)
    sys.argv = ["-m", *words[1:]]  # as it is while the packages of the module are imported
    sys.orig_argv = [sys.executable, "-m", *words]
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
