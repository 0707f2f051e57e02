"""How fast exported students answer on this machine: python -m distill.bench FILE...

FILE is an .onnx, .pt2, .xml, .pte or .tflite file, or a run folder: its PyTorch student, and all that lies in its export/.
  --batch 32          pictures per pass beside single ones
  --threads 1 2       thread counts; all of this process's cores without it, and one
  --picture 48x48     height and width of the pictures where a file takes any; .pte and .tflite files take one size, one at a time
  --seconds 0.5       per file, batch size and round; five passes at least
  --rounds 3          files take turns, so that what else the machine does meets all of them
  --plugins PACKAGE   packages of yours that a PyTorch student may be from: their code is run; a run folder names its own
  --json FILE         the numbers, too; those of a run's files always go to RUN/export/bench.json, for python -m distill.report
Each file runs in a process of its own, on the CPU, in float32 (int8 where the file is): medians and quartiles of all passes.
At the end it names the file of each folder to take: of those that passed the gate the fastest, or a smaller one as fast.
"""

import argparse
import json
import re
import statistics
import sys
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from rich.box import SIMPLE
from rich.table import Table

from distill.export.runtimes import ENGINES
from distill.export.timing import Worker
from distill.runs.config import RunConfig
from distill.runs.exported_files import recommend_file, takes
from distill.runs.folder import RunFolder
from distill.system.cli import command_line, number, parser, to_export, user_path
from distill.system.console import bar, console, duration, loud_warnings
from distill.system.cores import cores
from distill.system.files import write_json
from distill.system.hardware import environment

WORDS = {"eager": "eager PyTorch", "eager-net": "eager PyTorch, network alone"}


def entries(paths: list[Path]) -> list[tuple[str, Path, str]]:
    """Return (name, path, how) of everything that is to be timed; what has no engine here is left out with a line.

    Raises:
        ValueError: a path that is neither a file nor a folder with an exported student.
    """
    files_to_time = []
    for path in paths:
        if not path.exists():
            raise ValueError(
                f"{path}: no such file or folder. Give an exported file, or the folder of a run that was exported."
            )
        if not path.is_dir():
            files_to_time.append((str(path), path, "file"))
            continue
        homes = (path, path / "export", path / "export" / "bare")
        home = next((folder for folder in homes if (folder / "config.json").is_file()), None)
        if home is None:
            raise ValueError(f"{path}: no exported student is there. {to_export(path)}")
        files_to_time += [(f"{path}: {words}", home, how) for how, words in WORDS.items()]
        for folder in (home, home / "bare"):
            for kind, (engine, extra) in ENGINES.items():
                files = sorted(folder.glob(f"*{kind}"))
                if files and find_spec(engine) is None:
                    print(f"{folder}/*{kind}: left out without {engine}. Type pip install -e '.[{extra}]'.")
                else:
                    files_to_time += [(str(file), file, "file") for file in files]
    return files_to_time


def quartiles(times: list[float], batch: int) -> dict[str, float | list[float]]:
    """Return median and quartiles of a pass in milliseconds, and pictures per second by the median."""
    low, middle, high = statistics.quantiles(times, n=4)
    return {
        "milliseconds": 1000 * middle,
        "quartiles": [1000 * low, 1000 * high],
        "images_per_second": batch / middle,
        "passes": len(times),
    }


@contextmanager
def _collecting_errors(bad: dict[str, str], name: str):
    """Keep the message about one that cannot be timed; the others are."""
    try:
        yield
    except ValueError as error:
        bad[name] = str(error)


def bench(options: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """Time every file with every number of threads.

    Args:
        options: the command line.

    Returns:
        One row for each, and the messages about those that cannot be timed.
    """
    named, rows = [], []
    bad: dict[str, str] = {}
    for path in options.files:
        with _collecting_errors(bad, str(path)):
            named += entries([path])
    batches = sorted({1, options.batch})
    turns = len(options.threads) * len(named) * options.rounds * len(batches)
    if turns:
        counts, least = " and ".join(map(str, options.threads)), duration(turns * options.seconds)
        console.print(f"timing {len(named)} with {counts} threads: {least}, and until they are opened", style="dim")
    with bar() as progress:
        task = progress.add_task("timing", total=turns)
        for threads in options.threads:
            with ExitStack() as stack:
                given = (threads, options.picture, options.plugins)
                workers = [stack.enter_context(Worker(path, how, *given)) for _, path, how in named]
                ready: list[dict] = [{} for _ in named]
                times: list[dict[int, list[float]]] = [{batch: [] for batch in batches} for _ in named]
                memory = [0] * len(named)
                for k, (name, _, _) in enumerate(named):
                    with _collecting_errors(bad, name):
                        ready[k] = workers[k].read()
                for turn in range(options.rounds * len(workers) * len(batches)):
                    k, batch = turn // len(batches) % len(workers), batches[turn % len(batches)]
                    progress.advance(task)
                    if named[k][0] in bad:
                        continue
                    with _collecting_errors(bad, named[k][0]):
                        answer = workers[k].ask(batch, options.seconds)
                        times[k][batch] += answer["times"]
                        memory[k] = answer["memory"]
            for k, entry in enumerate(named):
                if entry[0] not in bad:
                    rows.append(_row(entry, threads, ready[k], times[k], memory[k], options.picture))
    return rows, list(dict.fromkeys(bad.values()))


def _row(entry: tuple[str, Path, str], threads: int, ready: dict, times: dict, memory: int, picture: str) -> dict:
    (name, path, how), facts = entry, ready["facts"]
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    if how != "file":
        files = [path / name for name in ("model.safetensors", "student.safetensors") if (path / name).is_file()][:1]
    return {
        "name": name,
        "threads": threads,
        "takes": takes(ready["input"], picture),
        "passes": {str(batch): quartiles(values, batch) for batch, values in times.items()},
        "peak_memory_bytes": memory,
        "file_bytes": sum(file.stat().st_size for file in files),
        **{name: int(facts[name]) if name in facts else None for name in ("num_parameters", "macs")},
        "passed": "file_agreement_with_pytorch" in facts,  # the gate writes it into what passes
        "valid_top1_accuracy": facts.get("file_top1_accuracy"),
    }


def show(rows: list[dict], picture: str) -> None:
    """Print what each file is, by its number, and the table of times."""
    numbers = {name: k for k, name in enumerate(dict.fromkeys(row["name"] for row in rows), 1)}
    for row in {row["name"]: row for row in rows}.values():
        sizes = {"bytes": row["file_bytes"], "parameters": row["num_parameters"], "MACs": row["macs"]}
        words = [f"{value:,} {name}" for name, value in sizes.items() if value is not None]
        if row["valid_top1_accuracy"] is not None:
            words.append(f"valid top-1 {float(row['valid_top1_accuracy']):.2%}")
        console.print(f"{numbers[row['name']]}  {row['name']}: takes {row['takes']}; {', '.join(words)}")
    table = Table(box=SIMPLE, collapse_padding=True, pad_edge=False)
    batches = list(rows[0]["passes"])
    timed = [name for batch in batches for name in (f"{batch}: ms", "quartiles", "img/s")]
    for name in ("", "threads", *timed, "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for timed in row["passes"].values():
            shown = timed["quartiles"][0], timed["milliseconds"], timed["quartiles"][1]
            low, middle, high = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in shown)
            cells += [middle, f"{low}-{high}", f"{timed['images_per_second']:,.0f}"]
        memory = f"{row['peak_memory_bytes'] / 1e6:,.0f}"
        table.add_row(str(numbers[row["name"]]), str(row["threads"]), *cells, memory)
    console.print(table)
    words = " and ".join(batches)
    console.print(
        f"pictures of {picture}, {words} a pass: median and quartiles of all passes in ms, images per second by the median; "
        "MB: the most memory that the process held",
        style="dim",
    )


def _picture(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; type HEIGHTxWIDTH, such as 48x48")
    return text


def _arguments(words: list[str]) -> argparse.Namespace:
    options = parser("python -m distill.bench", __doc__)
    options.add_argument("files", nargs="+", type=user_path, metavar="FILE")
    options.add_argument("--batch", type=number(int, 1), default=32)
    options.add_argument("--threads", type=number(int, 1), nargs="+", default=sorted({1, cores()}))
    options.add_argument("--picture", type=_picture, default="48x48")
    options.add_argument("--seconds", type=number(float, 0.001, 3600), default=0.5)
    options.add_argument("--rounds", type=number(int, 1), default=3)
    options.add_argument("--plugins", nargs="+", default=[], metavar="PACKAGE")
    options.add_argument("--json", type=user_path, metavar="FILE")
    return options.parse_args(words)


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1.

    Raises:
        ValueError: --json names a file that is no earlier answer of this command.
    """
    args = _arguments(words)
    loud_warnings()
    if args.json:
        keys = {"picture", "rows", "environment"}
        ours = not args.json.is_file()  # a model or a config is not replaced
        with suppress(ValueError, AttributeError):
            ours = ours or json.loads(args.json.read_text(encoding="utf-8")).keys() == keys
        if not ours:
            raise ValueError(f"--json: {args.json} is there and was not written by this command. Give another name.")
        args.json.parent.mkdir(parents=True, exist_ok=True)  # what goes wrong here goes wrong before the timing
        TemporaryFile(dir=args.json.parent).close()
    configs = [RunFolder(path).config for path in args.files]
    args.plugins += [name for file in configs if file.is_file() for name in RunConfig.read(file).plugins]
    rows, bad = bench(args)
    folders = list(dict.fromkeys(Path(row["name"]).parent for row in rows))
    if rows:
        show(rows, args.picture)
    for folder in folders:
        if lines := recommend_file([row for row in rows if Path(row["name"]).parent == folder]):
            console.print(lines)
    report = {"picture": args.picture, "rows": rows, "environment": environment()}
    if rows and args.json:
        write_json(args.json, report)
        console.print(f"written: {args.json}")
    for folder in folders:
        if (folder / "parity.json").is_file():  # the export of a run: its report shows these speeds
            of_run = [row for row in rows if Path(row["name"]).parent == folder]
            write_json(folder / "bench.json", report | {"rows": of_run})
            console.print(f"written: {folder / 'bench.json'}")
    if bad:
        sys.exit("\n".join(f"error: {message}" for message in bad))


if __name__ == "__main__":
    main(sys.argv[1:])
