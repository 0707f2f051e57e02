"""The real command line on a very small job, for tests."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import warm
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]

TINY = (
    *("data.train=192", "data.valid=64", "data.test=64"),
    *("teacher=timm", "teacher.name=test_resnet", "teacher.pretrained=false", "teacher.size=32"),
    *("teacher.train.epochs=1", "teacher.train.batch_size=32", "student=microexpnet"),
    *("train.epochs=2", "train.batch_size=32", "train.log_every=2", "views.cached=2", "logger=none"),
)


def command(*overrides: object, store: Path, runs: Path) -> list[str]:
    """Return the command of one tiny job; a group chosen anew loses the keys that the tiny job sets in it."""
    where = [f"paths.store={store}", f"paths.runs={runs}"]
    chosen = {word.split("=")[0] for word in map(str, overrides)}
    base = [word for word in TINY if not any(word.startswith(f"{group}.") for group in chosen & {"data", "teacher"})]
    flags = [word for word in overrides if word == "-m"]
    return [sys.executable, "-m", "distill.run", *flags, *base, *where, *(str(o) for o in overrides if o not in flags)]


def environment() -> dict[str, str]:
    """Return this process's environment with one thread and without a wandb key."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def distill(
    *overrides: object, store: Path, runs: Path, timeout: float = 300, cwd: Path = ROOT
) -> subprocess.CompletedProcess:
    """Run one tiny job to its end."""
    return warm.run(command(*overrides, store=store, runs=runs), cwd, environment(), timeout)


def kill_when(
    ready: Callable[[], bool], *overrides: object, store: Path, runs: Path, number: int = signal.SIGKILL
) -> tuple[int, str]:
    """Start one tiny job and send it a signal, SIGKILL, as soon as ready() says so; return its exit code and stderr."""
    job = warm.Command(command(*overrides, store=store, runs=runs), ROOT, environment())
    deadline = time.monotonic() + 120
    while not ready():
        assert job.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    job.send_signal(number)
    error = job.communicate(timeout=120)[1]
    return job.poll(), error


def checkpoint_writes(runs: Path, count: int) -> Callable[[], bool]:
    """Return a predicate that is true once the last checkpoint was replaced count times."""
    seen = set()

    def ready() -> bool:
        seen.update(path.stat().st_mtime_ns for path in runs.glob("*/checkpoints/last.pt"))
        return len(seen) >= count

    return ready


def assert_equal_runs(folder: Path, whole: Path) -> None:
    """Compare what two runs logged, learned and predicted, bit for bit."""
    for file in ("metrics.jsonl", "predictions/test.csv"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes()
    ours, theirs = (load_file(path / "checkpoints" / "best.safetensors") for path in (folder, whole))
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in theirs)


def benchmark(name: str, folder: str = "benchmarks") -> ModuleType:
    """Return FOLDER/NAME.py, which is in no package, as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(folder: Path) -> dict[Path, int]:
    """Return when each file under a folder was last written, locks left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: path.stat().st_mtime_ns for path in found}


def result_of(runs: Path) -> dict:
    """Return result.json of the only run folder."""
    (path,) = runs.glob("*/result.json")
    return json.loads(path.read_text())
