"""What the command lines share: what a user can mend ends in one sentence, never in a traceback."""

import os
import sys
from collections.abc import Callable
from functools import wraps


def command_line(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    """Return a main whose errors are sentences: `error: ...` and exit code 1; an interrupt is `stopped` and exit code 130.

    A reader of its output that goes away, such as head, ends it without a word.

    Args:
        main: takes the words that were typed.
    """

    @wraps(main)
    def told(words: list[str]) -> None:
        try:
            main(words)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # for the flush when Python ends
            sys.exit(1)
        except ValueError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {_place(error)}{error.strerror or error or type(error).__name__}")

    return told


def _place(error: OSError) -> str:
    return f"{error.filename}: " if error.filename is not None else ""
