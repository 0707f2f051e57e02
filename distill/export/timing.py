"""A process that times one exported student whenever it is asked."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile


class Worker:
    """One file in a process of its own; the others wait while it is timed.

    Args:
        path, how: see distill.export.timing_worker.open_any.
        threads: of its engine.
        picture: height x width.
        plugins: packages besides this project's whose code may run.
    """

    def __init__(self, path: Path, how: str, threads: int, picture: str, plugins: Sequence[str] = ()):
        words = [str(path), how, str(threads), picture, *plugins]
        command = [sys.executable, "-m", "distill.export.timing_worker", *words]
        self.path, self.stderr = path, TemporaryFile("w+", errors="replace", encoding="utf-8")  # noqa: SIM115 a pipe unread fills up
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            encoding="utf-8",
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.stderr.close()

    def read(self) -> dict:
        """Return its next answer.

        Raises:
            ValueError: it cannot open the file, or it died.
        """
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.stderr.seek(0)
            errors = self.stderr.read().strip().splitlines() or [f"exit code {code}"]
            raise ValueError(f"{self.path}: its process ended: {errors[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def ask(self, batch: int, seconds: float) -> dict:
        with suppress(BrokenPipeError):  # it died: read() says so
            self.process.stdin.write(json.dumps({"batch": batch, "seconds": seconds}) + "\n")
            self.process.stdin.flush()
        return self.read()
