"""Which graph gives most for its time: python benchmarks/graph_front.py [--results FILE|RUN ...] [--json F] [--plot F]

Each candidate below is exported with weights from the start, as distill.export does it, float32 and int8, preparation of the picture
included, and run in ONNX Runtime on one thread, all candidates in turns: medians of processor time, which neighbors hardly slow, about
one face of 48 x 48 and about one of a batch of 32. Parameters, MACs and bytes beside them. Validation accuracy is joined from finished
runs, folders or their result.json, by student, parameters and MACs; without one a candidate has its costs alone. Which epochs, losses
and teacher a run had stands beside it: only runs of one budget can be compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from distill.augment.views import identity, render
from distill.evaluation.cost import profile
from distill.export import int8_static, onnx_graph
from distill.export.runtimes import open_file
from distill.system.files import atomic, write_json
from distill.system.hardware import environment
from students import ferlite
from students.cern import Cern
from students.ferlite import FerLite, Graph, Stage
from students.microexpnet import MicroExpNet

CLASSES, BATCH, SIDE = 8, 32, 48
MOVED = {  # what is changed of FerLite's graphs: blocks, stem, depth
    "S, separable": Graph(24, (Stage(48, 3), Stage(72, 3), Stage(88, 3)), 128),
    "M, separable": Graph(32, (Stage(64, 3), Stage(128, 4), Stage(192, 3)), 256),
    "S, stem 16": Graph(16, ferlite.SIZES["S"].stages, 128),
    "S, stem 32": Graph(32, ferlite.SIZES["S"].stages, 128),
    "S, wider and late": Graph(16, (Stage(16, 1), Stage(32, 1), Stage(48, 1)), 128),
    "S, two blocks each": Graph(16, (Stage(16, 2), Stage(24, 2), Stage(32, 2)), 128),
}


class Separable(nn.Module):
    """y = relu(f(x) + x), f = depthwise conv 3x3 - conv 1x1 without a ReLU between them; without x where the shape changes.

    Reference: the linear depthwise convolution is EtinyNet's (Xu et al., AAAI 2022).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, pooling: str):
        super().__init__()
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.body = nn.Sequential(depthwise, nn.BatchNorm2d(inputs), *ferlite.convolution(inputs, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return F.relu(y + x if self.residual else y)


def _ferlite(width: str | float, size: int = SIDE) -> Callable[[], nn.Module]:
    return lambda: FerLite(CLASSES, size, width, "none", 0.0, 0.5, 0.25)


CANDIDATES: dict[str, Callable[[], nn.Module]] = {
    **{f"FerLite {width}": _ferlite(width) for width in ("S", "M", "L", *sorted(FerLite.ELASTIC)[:-1], 1.5)},
    **{
        f"FerLite {width} at {size} px": _ferlite(width, size)
        for width, size in (("S", 40), ("S", 64), ("M", 40), ("M", 64))
    },
    **{f"FerLite {name}": _ferlite(name) for name in MOVED},
    "MicroExpNet XXS": lambda: MicroExpNet(CLASSES, 84, "XXS", "both", 0.0, "xavier", 0.5, 0.25),
    "CERN, half width": lambda: Cern(CLASSES, 64, 0.5, "max_avg", 0.0, 1, "full", 1.0, False),
    "CERN, half width, at 48 px": lambda: Cern(CLASSES, 48, 0.5, "max_avg", 0.0, 1, "full", 1.0, False),
}


def make(name: str) -> nn.Module:
    """Return a candidate's network, its weights from the start, in eval mode."""
    torch.manual_seed(0)
    block = Separable if name.endswith("separable") else ferlite.Block
    with mock.patch.dict(ferlite.SIZES, MOVED), mock.patch.object(ferlite, "Block", block):
        return CANDIDATES[name]().eval()


def export(student: nn.Module, folder: Path) -> dict[str, Path]:
    """Write student.onnx and student.int8.onnx into a folder; ranges are those of noise, which costs as much as faces."""
    network, prepare = onnx_graph.bare_onnx(student), onnx_graph.prepare_onnx(student)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 1, SIDE, SIDE), np.uint8)
    images = render(torch.from_numpy(pixels), identity(BATCH), student.input)
    graphs = {"float32": network, "int8": int8_static.quantize(network, images)}
    paths = {kind: folder / f"{kind}.onnx" for kind in graphs}
    for kind, graph in graphs.items():
        onnx_graph.save_onnx(onnx_graph.deployable(graph, prepare, student, CLASSES), paths[kind], {})
    return paths


def microseconds(answer: Callable, pictures: np.ndarray, seconds: float) -> float:
    """Return processor time per face of passes that take so many seconds together, two at least [us]."""
    passes, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds or passes < 2:
        answer(pictures)
        passes += 1
    return 1e6 * spent / passes / len(pictures)


def measure(names: list[str], rounds: int, seconds: float) -> list[dict]:
    """Return one row per candidate: parameters, MACs, bytes, microseconds."""
    rng, rows, engines = np.random.default_rng(1), [], {}
    pictures = {
        "one": rng.integers(0, 256, (1, SIDE, SIDE, 3), np.uint8),
        "batch": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
    }
    with TemporaryDirectory() as temporary:
        for number, name in enumerate(names):
            student, folder = make(name), Path(temporary) / str(number)
            folder.mkdir()
            paths = export(student, folder)
            costs = profile(student, student.input)
            sizes = {f"{kind}_bytes": path.stat().st_size for kind, path in paths.items()}
            kind = type(student).__name__.lower()
            rows.append({"graph": name, "student": kind, "size": student.input.size, **costs, **sizes})
            engines[name] = {kind: open_file(path, 1).answer for kind, path in paths.items()}
        times: dict[tuple, list[float]] = {}
        for turn in range(rounds + 1):
            for name, kinds in engines.items():
                for kind, answer in kinds.items():
                    for batch, given in pictures.items():
                        spent = microseconds(answer, given, seconds)
                        if turn:  # the first one warms up
                            times.setdefault((name, kind, batch), []).append(spent)
    for row in rows:
        row["microseconds"] = {
            f"{kind}_{batch}": round(statistics.median(times[row["graph"], kind, batch]), 1)
            for kind in ("float32", "int8")
            for batch in pictures
        }
    return rows


def join(rows: list[dict], files: list[Path]) -> None:
    """Put what finished runs reached on validation into the rows of their graphs, best first.

    Raises:
        ValueError: a file is no result of a finished run.
    """
    for path in files:
        file = path / "result.json" if path.is_dir() else path
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            student, teacher = result["student"], result["teacher"]
            key = [student[name] for name in ("name", "num_parameters", "macs")]
            summary = {
                "run": file.parent.name if file.name == "result.json" else file.stem,
                "valid_top1_accuracy": student["metrics"]["valid/top1_accuracy"],
                "valid_faces": result["data"]["rows"]["valid"],
                "data": f"{result['data']['name']}, {result['data']['protocol']}",
                "epochs": result["epochs"],
                "teacher": teacher and teacher["name"],
                "seed": result["seed"],
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file}: expected the result.json of a finished run, got {type(error).__name__}: {error}."
            ) from error
        for row in rows:
            if [row["student"], row["num_parameters"], row["macs"]] == key:
                row.setdefault("results", []).append(summary)
                row["results"].sort(key=lambda one: -one["valid_top1_accuracy"])


def front(rows: list[dict], cost: Callable[[dict], float]) -> list[dict]:
    """Return the rows with a result that no other one beats in accuracy at this cost or less, cheapest first."""
    best = []
    for row in sorted((row for row in rows if "results" in row), key=lambda row: (cost(row), -_best(row))):
        if not best or _best(row) > _best(best[-1]):
            best.append(row)
    return best


def _best(row: dict) -> float:
    return row["results"][0]["valid_top1_accuracy"]


def quickest(row: dict) -> float:
    """Return the microseconds of one face in the faster of a graph's two files."""
    return min(row["microseconds"]["float32_one"], row["microseconds"]["int8_one"])


def plot(rows: list[dict], path: Path) -> None:
    """Draw validation top-1 against time and bytes; graphs without a result are marks at the bottom."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), dpi=100, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    costs = (
        ("one face, faster of float32 and int8 (µs)", quickest),
        ("int8 file (kB)", lambda row: row["int8_bytes"] / 1e3),
    )
    known, others = [row for row in rows if "results" in row], [row for row in rows if "results" not in row]
    low = min((100 * _best(row) for row in known), default=50.0) - 4
    numbers = {row["graph"]: str(k) for k, row in enumerate(sorted(others, key=quickest), 1)}
    for axis, (title, cost) in zip(axes, costs, strict=True):
        middle = np.sqrt(max(map(cost, rows)) * min(map(cost, rows)))
        axis.set_xscale("log")
        axis.set_xlabel(f"{title}, ONNX Runtime, one thread" if cost is quickest else title)
        best = front(rows, cost)
        axis.step(
            [cost(row) for row in best], [100 * _best(row) for row in best], where="post", color="#0072b2", linewidth=1
        )
        for row in known:
            color = "#0072b2" if row in best else "#6b6b6b"
            axis.plot(cost(row), 100 * _best(row), "o", color=color)
            left = cost(row) < middle
            place = {"xytext": (6, -4), "ha": "left", "va": "top"}  # where the front's line is not
            if row["graph"].endswith("64 px"):  # beside the same graph at 48 pixels
                place = {"xytext": (6, 3), "ha": "left", "va": "bottom"}
            elif not left:
                place = {"xytext": (-6, 4), "ha": "right", "va": "bottom"}
            axis.annotate(row["graph"], (cost(row), 100 * _best(row)), textcoords="offset points", fontsize=8, **place)
        for k, row in enumerate(sorted(others, key=cost)):
            axis.plot(cost(row), low, "|", color="#d55e00", markersize=10)
            place = (0, 7 + 8 * (k % 4))  # neighbors one above the other
            axis.annotate(
                numbers[row["graph"]], (cost(row), low), place, textcoords="offset points", fontsize=7, ha="center"
            )
    axes[0].set_ylabel("validation top-1 (%), best run")
    axes[0].margins(y=0.12)
    if others:
        listed = "marks at the bottom, not trained: " + ", ".join(
            f"{number} {name}" for name, number in numbers.items()
        )
        figure.supxlabel(fill(listed, 170), fontsize=8, color="#d55e00")
    figure.suptitle("Graphs for faces of 48 pixels; the epochs of training differ")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")


def main(words: list[str] | None = None) -> None:
    """Read the command line, measure, join, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--results", nargs="*", type=Path, default=[])
    parser.add_argument(
        "--times", type=Path, help="a file that --json wrote: costs are taken from it instead of measured"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each file, batch size and round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    if args.times:
        facts = json.loads(args.times.read_text(encoding="utf-8"))
        facts["graphs"] = [{key: row[key] for key in row if key != "results"} for row in facts["graphs"]]
    else:
        rows = measure(args.graphs, args.rounds, args.seconds)
        facts = {"rounds": args.rounds, "seconds": args.seconds, "graphs": rows, "environment": environment()}
    rows = facts["graphs"]
    join(rows, args.results)
    print("| graph | parameters | MACs | int8 bytes | µs float32 | µs int8 | µs int8, of 32 | valid top-1 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for row in sorted(rows, key=quickest):
        us = row["microseconds"]
        accuracy = f"{100 * _best(row):.2f}" if "results" in row else "-"
        print(
            f"| {row['graph']} | {row['num_parameters']:,} | {row['macs'] / 1e6:.2f} M | {row['int8_bytes']:,} | {us['float32_one']:.0f} "
            f"| {us['int8_one']:.0f} | {us['int8_batch']:.0f} | {accuracy} |"
        )
    if args.json:
        write_json(args.json, facts)
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
