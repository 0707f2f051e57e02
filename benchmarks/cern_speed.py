"""The published CERN run eagerly in PyTorch beside exported students, in one run, on one thread, as a Markdown table.

python benchmarks/cern_speed.py FILE... [--run RUN | --width 1 --size 64] [--json OUT]

FILE is an .onnx, .pt2, .xml or .pte file of python -m distill.export.

The eager graph is student=cern with the settings of RUN, trained weights and all, or as published in all but --width and
--size, with weights from the start. The median time of one picture, pictures per second in batches of 32, both beside the eager
graph's, and the validation top-1 of each file from the parity.json beside it. Everybody gets the same pictures of 48 x 48 and
prepares them itself; they take turns in processes of their own, as in python -m distill.bench.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_module

from distill import build
from distill.bench import Worker, quartiles
from distill.config import schema as config
from distill.data.common.emotions import EMOTIONS
from distill.export import source_run
from distill.export import weights_and_config as package
from distill.system.files import write_json
from distill.system.hardware import environment
from distill.types import Dataset

BATCHES = (1, 32)


def published(width: float, size: int, folder: Path) -> tuple[Path, str, float | None]:
    """Write an export folder of the published graph with weights from the start; return it, its name, and no accuracy."""
    words = [f"student.width={width}", f"student.size={size}"]
    with initialize_config_module("conf", version_base="1.3"):
        cfg = config.typed(compose("run", overrides=["student=cern", *words, "logger=none"]))
    student = build.network(cfg.student, cfg.plugins, Dataset("", EMOTIONS, "", {}))
    package.save(folder, student, cfg.student, EMOTIONS, [], {})
    return folder, f"CERN, width {width:g}, {size} px, eager PyTorch", None


def trained(run: Path, folder: Path) -> tuple[Path, str, float | None]:
    """Write an export folder of a run's student; return it, its name, and its validation top-1."""
    source = source_run.read_run(run, [])
    node, metrics = source.cfg.student, source.result["student"]["metrics"]
    package.save(folder, source.student, node, source.classes, source.cfg.plugins, {})
    name = f"CERN, width {node['width']:g}, {node['size']} px, {node['variant']}, eager PyTorch"
    return folder, name, metrics["valid/top1_accuracy"]


def described(path: Path) -> tuple[str, float | None]:
    """Return a file's name with the shape of its student, and its validation top-1, from what lies beside it."""
    try:
        node = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["fer_distill"]["network"]
        shape = ", ".join(f"{key} {node[key]}" for key in ("width", "size", "variant") if key in node)
        name = f"{node['_target_'].rsplit('.', 1)[-1]} ({shape}), {path.name}"
    except (OSError, ValueError, KeyError):
        name = str(path)
    try:
        return name, json.loads((path.parent / "parity.json").read_text(encoding="utf-8"))["files"][path.name][
            "accuracy"
        ]
    except (OSError, ValueError, KeyError):
        return name, None


def measure(entries: list[tuple[Path, str]], seconds: float, rounds: int) -> list[dict[int, dict]]:
    """Return batch size -> times of each (path, how), all in turns."""
    times = [{batch: [] for batch in BATCHES} for _ in entries]
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(path, how, 1, "48x48")) for path, how in entries]
        for worker in workers:
            worker.read()
        for _ in range(rounds):
            for worker, of_file in zip(workers, times, strict=True):
                for batch in BATCHES:
                    of_file[batch] += worker.ask(batch, seconds)["times"]
    return [{batch: quartiles(values, batch) for batch, values in of_file.items()} for of_file in times]


def table(names: list[str], accuracies: list[float | None], timed: list[dict[int, dict]]) -> str:
    """Return the Markdown table; the first row is the eager graph, to which the ratios refer."""
    head = "student | one picture, ms (quartiles) | times as fast | images/s, 32 at a time | times as fast | valid top-1, %"
    lines = [f"| {head} |", "|---" + "|---:" * 5 + "|"]
    for name, accuracy, of_file in zip(names, accuracies, timed, strict=True):
        (one, many), (first, first_many) = ([row[batch] for batch in BATCHES] for row in (of_file, timed[0]))
        low, high = one["quartiles"]
        cells = (
            f"{one['milliseconds']:.2f} ({low:.2f} to {high:.2f})",
            f"{first['milliseconds'] / one['milliseconds']:.1f}",
            f"{many['images_per_second']:,.0f}",
            f"{many['images_per_second'] / first_many['images_per_second']:.1f}",
            "-" if accuracy is None else f"{100 * accuracy:.2f}",
        )
        lines.append(f"| {' | '.join((name, *cells))} |")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--run", type=Path, metavar="RUN")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", type=Path, metavar="OUT", help="the numbers, too")
    parser.add_argument("--seconds", type=float, default=1.0, help="per file, batch size and round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(words)
    try:
        with TemporaryDirectory() as place:
            home = Path(place)
            eager = trained(args.run, home) if args.run else published(args.width, args.size, home)
            files = [described(path) for path in args.files]
            timed = measure([(eager[0], "eager"), *((path, "file") for path in args.files)], args.seconds, args.rounds)
    except ValueError as error:
        sys.exit(f"error: {error}")
    rows = [{"name": eager[1], "accuracy": eager[2]}, *({"name": name, "accuracy": share} for name, share in files)]
    if args.json:
        timed_rows = [row | {"passes": of_file} for row, of_file in zip(rows, timed, strict=True)]
        write_json(args.json, {"rows": timed_rows, "environment": environment()})
    print(table([eager[1], *(name for name, _ in files)], [eager[2], *(share for _, share in files)], timed))
    print(f"\n{environment()['processor']}, one thread; medians of all passes, {args.rounds} turns each.")


if __name__ == "__main__":
    main(sys.argv[1:])
