"""The real command line on a very small job, for tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

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


def distill(*overrides: object, store: Path, runs: Path, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run one tiny job to its end."""
    return subprocess.run(
        command(*overrides, store=store, runs=runs),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def result_of(runs: Path) -> dict:
    """Return result.json of the only run folder."""
    (path,) = runs.glob("*/result.json")
    return json.loads(path.read_text())
