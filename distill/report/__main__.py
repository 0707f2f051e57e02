"""Finished runs as a page, a table and a choice: python -m distill.report DIR...

DIR is a run folder, or a folder that holds run folders at any depth. Written beside them, or into --out FOLDER:
  report.html   one page that needs no network, a section for each data set: table, Pareto fronts, effects, curves, mistakes
  report.md     the table for people, one row per configuration
  report.csv    the table for programs, one row per run, with its command
  --where KEY=VALUE  only runs with this setting, by its key in config.yaml, seed or data; with !=, <, <=, > and >= too; repeatable
  --plot KEY[,KEY]   top-1 over a numeric setting, with a line for each value of the second one; repeatable
  --pair             print only how two run folders, A B, differ on the same faces, with McNemar's test
  --debug            count runs of debug=smoke and debug=overfit, which are left out without it
  --best RULE        print only the winning run folder: "max valid/top1_accuracy where bytes<1e6 and latency_ms<1";
                     where the runs are of several data sets: "max valid/top1_accuracy where data==ferplus", or
                     data.root==own, or valid_rows==3191, number of validation faces; seed==0 looks at the runs of one
                     seed alone; any other setting goes by its key in config.yaml, words with == and !=: student.width==S
  --format md|csv    print only the table
  --no-faces         leave out faces and Grad-CAM maps, which need the packed data and the networks
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.evaluation.tables import count
from distill.report.aggregate import RunTable, aggregate_runs
from distill.report.example_faces import Faces, example_faces
from distill.report.html.page import page
from distill.report.markdown_csv import comma_separated, markdown
from distill.report.pair import pair
from distill.report.predictions import problems
from distill.report.select import best, where
from distill.runs.reading import find
from distill.system.cli import command_line, format_error, parser, user_path
from distill.system.console import loud_warnings
from distill.system.files import atomic
from distill.system.hardware import set_threads

SHOWN = 5  # run folders that are not counted, on the console; the page has all


def faces(table: RunTable) -> Faces | str:
    """Return the faces of a data set's best student, or why there are none."""
    try:
        return example_faces(table.configurations[0].runs[0])
    except Exception as error:  # of networks and data that may be gone: the rest of the page does not depend on them
        return format_error(error, inside=True)


def write(table: RunTable, out: Path, with_faces: bool, plots: Sequence[Sequence[str]] = ()) -> list[Path]:
    """Write the page and both tables, each whole or not at all; return their paths."""
    damaged = [(run, messages) for run in table.runs if (messages := problems(run))]
    texts = {
        "report.html": page(table, faces if with_faces else lambda _: None, plots, damaged),
        "report.md": markdown(table),
        "report.csv": comma_separated(table),
    }
    for name, text in texts.items():
        with atomic(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")  # a folder name may be no text
    if damaged:
        print(f"{count(len(damaged), 'run')} with damaged files: the page says which", file=sys.stderr)
    return [out / name for name in texts]


def report(options: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if options.pair:
        print(pair(options.folders))
        return
    table = where(aggregate_runs(find(options.folders), options.debug), options.where)
    if options.best is not None:
        print(best(table, options.best))
        return
    if options.format:
        print({"md": markdown, "csv": comma_separated}[options.format](table), end="")
    else:
        for path in write(table, options.out or options.folders[0], not options.no_faces, options.plot):
            print(path)
    if table.left_out:
        print(f"{count(len(table.left_out), 'run folder')} not counted:", file=sys.stderr)
        for run in table.left_out[:SHOWN]:
            first, *_ = (run.error or "").splitlines() or [""]
            print(f"  {run.folder}: {run.status}: {first}", file=sys.stderr)
        if more := table.left_out[SHOWN:]:
            print(f"  and {len(more)} more, which the page of python -m distill.report lists", file=sys.stderr)
    if table.debug:
        print(f"{count(table.debug, 'run')} of debug=smoke or overfit left out: --debug counts them", file=sys.stderr)


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    options = parser("python -m distill.report", __doc__)
    options.add_argument("folders", nargs="+", type=user_path, metavar="DIR")
    options.add_argument("--out", type=user_path, metavar="FOLDER")
    options.add_argument("--where", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument(
        "--plot", action="append", default=[], type=lambda text: text.split(",", 1), metavar="KEY[,KEY]"
    )
    options.add_argument("--pair", action="store_true")
    options.add_argument("--debug", action="store_true")
    options.add_argument("--best", metavar="RULE")
    options.add_argument("--format", choices=("md", "csv"))
    options.add_argument("--no-faces", action="store_true")
    loud_warnings()
    set_threads(None)
    report(options.parse_args(words))


if __name__ == "__main__":
    main(sys.argv[1:])
