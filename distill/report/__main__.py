"""Finished runs as a page, a table and a choice: python -m distill.report DIR...

DIR is a run folder, or a folder that holds run folders at any depth. Written beside them, or into --out FOLDER:
  report.html   one page that needs no network: table, Pareto fronts, effects, curves, mistakes, faces
  report.md     the table for people, one row per configuration
  report.csv    the table for programs, one row per run, with its command
  --best RULE        print only the winning run folder: "max valid/top1_accuracy where bytes<1e6 and latency_ms<1";
                     where the runs are of several data sets: "max valid/top1_accuracy where data==ferplus", or
                     data.root==own, or valid_rows==3191, number of validation faces; seed==0 looks at the runs of one
                     seed alone; any other setting goes by its key in config.yaml, words with == and !=: student.width==S
  --format md|csv    print only the table
  --no-faces         leave out faces and Grad-CAM maps, which need the packed data and the networks
"""

import argparse
import sys
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from distill.report.aggregate import Sweep, sweep
from distill.report.commands import command
from distill.report.example_faces import Faces, gather
from distill.report.html.page import page
from distill.report.html.summary import count
from distill.report.markdown_csv import comma_separated, markdown
from distill.report.select import best
from distill.runs.reading import find
from distill.system.cli import command_line, format_error, parser, user_path
from distill.system.console import loud_warnings
from distill.system.files import atomic
from distill.system.hardware import set_threads


@cache
def composed(overrides: tuple[str, ...]) -> dict:
    """Return what python -m distill.run makes of overrides, references unresolved."""
    with initialize_config_module("conf", version_base="1.3"):
        return OmegaConf.to_container(compose("run", overrides=list(overrides)))


def commands(found: Sweep) -> dict[str, str]:
    """Return run folder -> its command; a run of a config that this version cannot make says so."""
    words = {}
    for run in found.runs:
        try:
            words[str(run.folder)] = command(run, composed)
        except (
            Exception
        ) as error:  # conf/ may have changed since, a package of theirs be missing: the row is still worth having
            words[str(run.folder)] = f"# {run.folder}/config.yaml cannot be told as a command: {error}".splitlines()[0]
    return words


def faces(found: Sweep) -> Faces | str:
    """Return the faces of the best student, or why there are none."""
    try:
        return gather(found.configurations[0].runs[0])
    except Exception as error:  # of networks and data that may be gone: the rest of the page does not depend on them
        return format_error(error, inside=True)


def write(found: Sweep, out: Path, with_faces: bool) -> list[Path]:
    """Write the page and both tables, each whole or not at all; return their paths."""
    lines = commands(found)
    texts = {
        "report.html": page(found, lines, lambda: faces(found) if with_faces else None),
        "report.md": markdown(found),
        "report.csv": comma_separated(found, lines),
    }
    for name, text in texts.items():
        with atomic(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")  # a folder name may be no text
    return [out / name for name in texts]


def report(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    found = sweep(find(arguments.folders))
    if arguments.best is not None:
        print(best(found, arguments.best))
    elif arguments.format == "md":
        print(markdown(found), end="")
    elif arguments.format == "csv":
        print(comma_separated(found, commands(found)), end="")
    else:
        for path in write(found, arguments.out or arguments.folders[0], not arguments.no_faces):
            print(path)
        if found.left_out:
            print(f"{count(len(found.left_out), 'run folder')} not counted: the page says why", file=sys.stderr)


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1."""
    options = parser("python -m distill.report", __doc__)
    options.add_argument("folders", nargs="+", type=user_path, metavar="DIR")
    options.add_argument("--out", type=user_path, metavar="FOLDER")
    options.add_argument("--best", metavar="RULE")
    options.add_argument("--format", choices=("md", "csv"))
    options.add_argument("--no-faces", action="store_true")
    loud_warnings()
    set_threads(None)
    report(options.parse_args(words))


if __name__ == "__main__":
    main(sys.argv[1:])
