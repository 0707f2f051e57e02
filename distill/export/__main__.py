"""A finished student as files that run elsewhere, each proven on the whole validation split: python -m distill.export RUN

RUN is a run folder, or the words best of SWEEP: the run of a sweep's folder, or of any folder of runs, with the best validation
top-1; --best "RULE" takes another rule, as in python -m distill.report. --width 0.5 takes, of a run of several widths, the
student of that one, RUN/width-0.5, instead of RUN. Written to RUN/export/:
  student.safetensors, config.json   weights and config: distill.export.load(FOLDER); timm reads a timm student's, too
  student.onnx                       float32
  student.int8.onnx                  activations uint8, weights of 7 bits in int8, per channel: alike on every processor
  student.pt2                        torch.export
  parity.json, model-card.md         what the gate measured, and the model card
Their input is `image`, uint8 [B, H, W, 3], RGB, any B, H and W; they answer `logits` and `probabilities` [B, K].
  export.preprocess=false            the bare network into RUN/export/bare/: `images`, float [B, C, S, S], already rendered
  export.calibrate=false             logits as they were trained, not divided by the temperature that was fitted on validation
  export.int8=false                  no file that is rounded to 8 bits
  export.calibration=256             validation pictures that set the ranges of int8
  export.openvino=true               OpenVINO's student.xml and student.bin, too
  export.executorch=true             ExecuTorch's student.pte, too: one picture at a time, as large as those of the data
  export.litert=true                 LiteRT's student.tflite and student.int8.tflite, too, for the same pictures
  data.root=DIR, paths.store=DIR     where the data or the store have moved
A file that does not answer as the PyTorch student does is not written: the exit code is 1, and a message says what to try.
"""

import argparse
import json
import sys
from pathlib import Path
from shlex import quote

from rich.box import SIMPLE
from rich.table import Table

from distill.config.hints import with_suggestions
from distill.export.job import export, export_folder, refusals
from distill.export.options import read_options
from distill.export.source_run import of_width
from distill.report.aggregate import aggregate_runs
from distill.report.select import best
from distill.runs.folder import RunFolder
from distill.runs.reading import find
from distill.system.cli import command_line, parser
from distill.system.console import console, loud_warnings
from distill.system.hardware import set_threads, tune_allocator

BEST = "max valid/top1_accuracy"


def show(parity: dict, target: Path) -> None:
    """Print the gate's table, and what to type next."""
    facts = parity["facts"]
    rows, labeled = json.loads(facts["valid_rows"]), "valid_top1_accuracy" in facts
    if labeled:
        accuracy, (low, high) = (json.loads(facts[f"valid_{key}"]) for key in ("top1_accuracy", "top1_accuracy_ci"))
        known = f"PyTorch: top-1 {accuracy:.2%} ({low:.1%} to {high:.1%})"
    else:
        known = "no labels, so no accuracy: top-1 is by the run's own answers"
    console.print(
        f"{parity['run']} on {rows:,} validation faces of {facts['dataset']} ({facts['protocol']}); {known}",
    )
    table = Table(box=SIMPLE, collapse_padding=True, pad_edge=False)
    for name in ("file", "bytes", "agrees", "top-1", "change", "batch", "size"):
        table.add_column(name, justify="left" if name == "file" else "right", no_wrap=True)
    for name, numbers in parity["files"].items():
        cells = ("-",) * 5
        if numbers:
            other_size = f"{numbers['other_size']:.1e}" if numbers["other_sizes"] else "-"
            shares = f"{numbers['agreement']:.2%}", f"{numbers['accuracy']:.2%}", f"{100 * numbers['difference']:+.2f}"
            cells = (*shares, f"{numbers['other_batch']:.1e}", other_size)
        table.add_row(name, "NOT WRITTEN" if name in parity["refused"] else f"{numbers['bytes']:,}", *cells)
    console.print(table)
    console.print(
        "agrees: share of faces that get PyTorch's answer; change of top-1, points; largest change of a probability at another "
        "batch size, and at another picture size",
        style="dim",
    )
    for message in parity["left_out"]:
        console.print(message)
    console.print(f"folder: {target}")
    run = RunFolder(target.parent)
    home = run if run.config.is_file() and target == run.export else target
    console.print(f"next: python -m distill.bench {quote(str(home))}")


def _folder(options: argparse.Namespace) -> Path:
    """Return the run folder that the words before KEY=VALUE name: RUN, or the chosen one of SWEEP."""
    named = [word for word in options.words if "=" not in word or Path(word).expanduser().is_dir()]
    of = named[:2] == ["best", "of"]
    if len(named) != (3 if of else 1):
        raise ValueError(
            f"{' '.join(named) or 'no run'}: cannot be read. Type python -m distill.export RUN, or best of SWEEP in place "
            "of RUN."
        )
    folder = Path(named[-1]).expanduser()
    options.words = [word for word in options.words if word not in named]
    return best(aggregate_runs(find([folder])), options.best or BEST) if of or options.best else folder


def _read(words: list[str]) -> argparse.Namespace:
    options = parser("python -m distill.export", __doc__)
    options.add_argument("--best", metavar="RULE")
    options.add_argument("--width", metavar="W", type=float)
    options.add_argument("words", nargs="+", metavar="RUN | best of SWEEP | KEY=VALUE")
    return options.parse_intermixed_args(words)


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    args = _read(words)
    loud_warnings()
    tune_allocator()
    set_threads(None)
    with with_suggestions(args.words):
        folder = of_width(_folder(args), args.width)
        options = read_options([word for word in args.words if word.startswith("export.")])
        parity = export(folder, options, [word for word in args.words if not word.startswith("export.")])
    show(parity, export_folder(folder, options))
    if parity["refused"]:
        sys.exit("\n".join(f"error: {message}" for message in refusals(parity)))


if __name__ == "__main__":
    main(sys.argv[1:])
