"""One exported student in a process of its own, timed on request: what `python -m distill.bench` starts, one per file.

It answers one JSON line when it is ready, and one for each line that it reads: {"batch": B, "seconds": S}.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.export.runtimes import LoadedModel, from_pytorch, open_file

EAGER = ("eager", "eager-net")


def open_any(path: Path, how: str, threads: int, plugins: Sequence[str]) -> LoadedModel:
    """Open a file, or the PyTorch student of a run or export folder.

    Args:
        path: a file or folder.
        how: file, eager (with the picture's preparation) or eager-net (the network alone).
        threads: of the engine.
        plugins: packages besides this project's whose code may run.
    """
    if how not in EAGER:
        return open_file(path, threads)
    import torch

    from distill.evaluation.cost import macs, num_parameters
    from distill.export.weights_and_config import load

    torch.set_num_threads(threads)
    student = load(path, plugins)
    facts = {"num_parameters": str(num_parameters(student)), "macs": str(macs(student, student.input))}
    return from_pytorch(student, how == "eager", facts)


def inputs(opened: LoadedModel, batch: int, picture: tuple[int, int]) -> np.ndarray:
    """Return random pictures, always the same ones, of the shape that a file wants."""
    free = iter((batch, *picture))
    shape = [next(free) if size is None else size for size in opened.shape]
    draw = np.random.default_rng(0)
    if opened.dtype == "uint8":
        return draw.integers(0, 256, shape, dtype=np.uint8)
    return draw.standard_normal(shape, dtype=np.float32)


def passes(opened: LoadedModel, given: np.ndarray, seconds: float) -> list[float]:
    """Return the seconds of each pass, after a fifth of the time for warming up; at least five passes."""
    warm = time.perf_counter() + seconds / 5
    opened.answer(given)
    while time.perf_counter() < warm:
        opened.answer(given)
    times, end = list[float](), time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        opened.answer(given)
        times.append(time.perf_counter() - start)
    return times


def peak_memory() -> int:
    """Return the most memory that this process ever held, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):  # not Linux
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def main(path: str, how: str, threads: str, picture: str, *plugins: str) -> None:
    """Answer requests until the input ends."""
    try:
        opened = open_any(Path(path), how, int(threads), plugins)
    except ValueError as error:
        return print(json.dumps({"error": str(error)}), flush=True)
    size = tuple(map(int, picture.split("x")))
    print(json.dumps({"facts": opened.facts, "input": [opened.dtype, opened.shape]}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        times = passes(opened, inputs(opened, request["batch"], size), request["seconds"])
        print(json.dumps({"times": times, "memory": peak_memory()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
