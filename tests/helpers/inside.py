"""The real command line without a new process, speeds and pictures, for tests of many tiny jobs."""

import io
import json
import sys
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest import mock

from commandline import command
from hydra import compose, initialize_config_module
from PIL import Image

from distill.config import schema as config
from distill.pipeline.completed import resolve_weight_files
from distill.run import cli
from distill.runs.config import RunConfig

SMALL = (
    *("data.train=64", "data.valid=32", "data.test=32", "student.size=36"),
    *("train.batch_size=16", "train.threads=1", "train.precision=fp32"),
)


def job(*overrides: object, store: Path, runs: Path) -> str:
    """Do what python -m distill.run does with these words, and return what it prints.

    Not for -m: the jobs of a sweep are forked off, which autograd forbids in a process that has exported a network.

    Raises:
        SystemExit: with the sentence that a user would read.
    """
    words = command(*SMALL, *overrides, store=store, runs=runs)[2:]
    printed = io.StringIO()
    instead = {"speed": lambda *_: {}, "figures.confusion_matrix": _blank, "figures.sample_predictions": _blank}
    with ExitStack() as stack:
        for name, function in instead.items():
            stack.enter_context(mock.patch(f"distill.pipeline.finish.{name}", function))
        stack.enter_context(mock.patch.object(sys, "argv", words))
        stack.enter_context(redirect_stdout(printed))
        cli()
    return printed.getvalue()


def _blank(*drawn: object) -> None:
    """Write a picture of one pixel to the path, which comes last."""
    drawn[-1].parent.mkdir(exist_ok=True)
    Image.new("L", (1, 1)).save(drawn[-1])


def composed(*words: str) -> RunConfig:
    """Return the config of these words."""
    with initialize_config_module("conf", version_base="1.3"):
        return config.typed(compose("run", overrides=list(words)))


def resolved(cfg: RunConfig) -> RunConfig:
    """Return a config whose weight files are named by the SHA-256 of what they hold."""
    return replace(cfg, **resolve_weight_files(cfg.student, cfg.teacher, cfg.data))


def folder_of(runs: Path) -> Path:
    """Return the only run folder."""
    (path,) = (path.parent for path in runs.glob("*/result.json"))
    return path


def read(folder: Path) -> dict:
    """Return a run's result.json."""
    return json.loads((folder / "result.json").read_text())
