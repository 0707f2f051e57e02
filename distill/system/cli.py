"""What the command lines share: what a user can mend ends in one sentence, never in a traceback."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from shlex import quote


def command_line(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    """Return a main whose errors are sentences: `error: ...` and exit code 1; an interrupt is `stopped` and exit code 130.

    A reader of its output that goes away, such as head, ends it without a word; a letter that standard output cannot hold
    is printed as a question mark.

    Args:
        main: takes the words that were typed.
    """

    @wraps(main)
    def told(words: list[str]) -> None:
        try:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors="replace")
            main(words)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            _flush()
            sys.exit(1)
        except (ValueError, OSError) as error:
            _flush()
            sys.exit(f"error: {said(error)}")

    return told


def said(error: Exception) -> str:
    """Return what an error says; of the operating system's, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__


def to_export(folder: Path) -> str:
    """Return the sentence that says how a run's student is exported; of a folder with several runs, that of the best one."""
    of, then = ("best of ", " and give the run folder that it names") if any(folder.glob("*/config.yaml")) else ("", "")
    return f"Type python -m distill.export {of}{quote(str(folder))}{then}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for a place within a sentence; its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _flush() -> None:
    """Empty standard output, into nothing where it takes no more: else Python says so when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def number(kind: type, low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return what argparse reads a number in [low, high] with."""

    range_words = f"{low:g} on" if math.isinf(high) else f"{low:g} to {high:g}"

    def read(text: str) -> float:
        if not low <= kind(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} was asked for; give a number from {range_words}")
        return kind(text)

    return read
