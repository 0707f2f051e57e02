"""What every command shares: user errors are printed as one line, exit code 1, and no traceback reaches a user.

FER_DISTILL_TRACEBACK=1 shows the traceback of every error, too.
"""

import argparse
import ast
import csv
import errno
import getpass
import importlib.util
import math
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from distill.system.abort import stop_now

PACKAGE = Path(__file__).parents[1]
SIBLINGS = ("conf", "students", "teachers")  # packages that are installed beside this one
USER_ERRORS = (ValueError, OSError, FloatingPointError, ImportError, MemoryError, csv.Error)
NO_HOME = "Could not determine home directory."  # of pathlib
ADVICE = {
    errno.EEXIST: "A folder was expected, and this is a file. Give another path.",
    errno.ENOTDIR: "A folder was expected, and this path is, or leads through, a file. Give another path.",
    errno.EISDIR: "A file was expected, and this is a folder. Give the path of a file.",
    errno.EACCES: "Give another path, or allow it to this user with chmod.",
    errno.EROFS: "Give a path on a disk that can be written to.",
    errno.ENOSPC: "Make room, or give a path on another disk.",
}
NO_MEMORY = ("can't allocate memory", "out of memory")  # of PyTorch, which raises RuntimeError


@contextmanager
def command_line(stopped: str = "stopped", speaks: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Guard a command, also as a decorator: user errors are one line on stderr and exit code 1, Ctrl-C is exit code 130.

    Any other exception is a bug: one line says so, and in which file its traceback is. A reader of standard output that goes
    away, such as head, ends the command without a word.

    Args:
        stopped: what is said after Ctrl-C.
        speaks: says whether this process, of several that do one job, prints the error.

    Raises:
        SystemExit: instead of whatever the command ended with.
    """
    open_streams()
    if signal.getsignal(signal.SIGINT) is stop_now:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        with suppress(ValueError):  # not in a thread
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it at once
        _discard_output()
        if speaks():
            print(stopped, file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _discard_output()
        sys.exit(1)
    except SystemExit:
        _discard_output()
        raise
    except Exception as error:
        _discard_output()
        if not speaks():
            sys.exit(1)
        sys.exit(f"error: {report_error(error)}")


def is_user_error(error: BaseException) -> bool:
    """Say whether an error is one that a user can mend."""
    text = str(error)
    return isinstance(error, USER_ERRORS) or text == NO_HOME or any(words in text for words in NO_MEMORY)


def format_error(error: BaseException, inside: bool = False) -> str:
    """Return an error as one line: its text, of the operating system's the file and the reason, of a bug its type, too.

    Args:
        error: the exception.
        inside: for a place inside a message: the first line, at most 200 letters, without the file and the full stop.
    """
    kind, reason = type(error).__name__, getattr(error, "strerror", None)
    lines = str(reason or error).strip().splitlines() or [kind]
    if lines[0] == NO_HOME:
        lines = ["a path begins with ~, but there is no such home folder here. Type the path in full."]
    if reason and isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd
        lines = ["the current directory is not there any more. Type the command in another one."]
    if isinstance(error, ModuleNotFoundError) and error.name and not inside:
        lines = [
            f"the Python package {error.name} is not installed. In the clone of fer-distill, pip install -e . installs what "
            "its commands need; a package that your own code imports is installed by its own name."
        ]
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        lines = ["out of memory. Give a smaller train.batch_size, a smaller network or smaller pictures."]
    text = lines[0][:200].rstrip(". ") if inside else " ".join(line.strip() for line in lines)
    if reason and not inside and (file := getattr(error, "filename", None)) is not None:
        text = ". ".join([f"{os.fsdecode(file)}: {text}", *filter(None, [ADVICE.get(getattr(error, "errno", None))])])
    return text if is_user_error(error) or text == kind else f"{kind}: {text}"


def report_error(error: BaseException) -> str:
    """Return what to print of an error that ends a command, and keep the traceback of a bug in a file."""
    if os.environ.get("FER_DISTILL_TRACEBACK"):
        traceback.print_exception(error)
    if is_user_error(error):
        return format_error(error)
    try:
        file, path = tempfile.mkstemp(prefix="fer-distill-", suffix=".txt")
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as opened:
            opened.writelines(traceback.format_exception(error))
        where = f"The traceback is in {path}; FER_DISTILL_TRACEBACK=1 prints it"
    except OSError:
        where = "FER_DISTILL_TRACEBACK=1 prints the traceback"
    return f"this is a bug, here or in a component of yours: {format_error(error, inside=True)}. {where}."


def not_installed(package: str, error: ImportError, extra: str) -> str:
    """Return the message about a package that cannot be imported: it is missing, or it is there and broken."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed. Type pip install -e '.[{extra}]'."
    return (
        f"{package} is installed, but cannot be imported ({format_error(error, inside=True)}). "
        f"Type pip install --force-reinstall {package}"
    )


def parser(command: str, text: str | None) -> argparse.ArgumentParser:
    """Return the argument parser of a command.

    Args:
        command: as it is typed, such as python -m distill.bench.
        text: its help.
    """
    made = argparse.ArgumentParser(command, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.register("type", None, _not_empty)  # of an argument without a type
    made.add_argument("--version", action="version", version=f"fer-distill {sys.modules['distill'].__version__}")
    return made


def to_export(folder: Path) -> str:
    """Return the message that says how a run's student is exported; of a folder with several runs, that of the best one."""
    folder = folder.parent if folder.name == "export" else folder
    several = any(not path.parent.name.startswith("width-") for path in folder.glob("*/config.yaml"))
    of, then = ("best of ", " and give the run folder that it names") if several else ("", "")
    return f"Type python -m distill.export {of}{quote(str(folder))}{then}"


def number(kind: type, low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return what argparse reads a number in [low, high] with."""

    range_words = f"{low:g} on" if math.isinf(high) else f"{low:g} to {high:g}"

    def read(text: str) -> float:
        if not low <= kind(text) <= high:
            raise argparse.ArgumentTypeError(f"expected a number from {range_words}, got {text}")
        return kind(text)

    read.__name__ = kind.__name__  # argparse says it of what is no number
    return read


def _not_empty(word: str) -> str:
    if not word:
        raise argparse.ArgumentTypeError("expected a value, got an empty one (an unset variable?)")
    return word


def user_path(word: str) -> Path:
    """Return the path that a word of the command line names.

    Raises:
        ArgumentTypeError: it is empty, or begins in the home folder of nobody.
    """
    try:
        return Path(_not_empty(word)).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{word}: {format_error(error)}") from None


def open_streams() -> None:
    """Make both outputs ones that can be printed to: closed ones lead nowhere, letters that one cannot hold are escaped."""
    # a file of ours would else be number 1, and take what is printed
    while (file := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(file, True)
    os.close(file)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for as long as the process lives
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def pin_packages() -> None:
    """Import the packages beside this one as they are there: a folder conf in the current directory is not ours."""
    for name in SIBLINGS:
        file = PACKAGE.parent / name / "__init__.py"
        if name not in sys.modules and file.is_file():
            spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
            assert spec and spec.loader
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])


def start_command(version: str, pages: dict[str, Callable[[list[str]], str]]) -> None:
    """Prepare `python -m distill.COMMAND` before its module is imported, which takes seconds.

    Args:
        version: of this package.
        pages: module -> what makes its help of the words behind it; others' is the docstring of their file.
    """
    open_streams()
    sys.excepthook = _uncaught
    _make_home()
    words = sys.argv[1:]
    if "--version" in words:
        sys.exit(print(f"fer-distill {version}"))
    if {"-h", "--help"} & set(words):
        with command_line():
            module = sys.orig_argv[-len(words) - 1].removeprefix("-m")
            page = pages[module](words) if module in pages else _docstring(module)
        if page is not None:
            sys.exit(print(page))


def _docstring(module: str) -> str | None:
    """Return the text of a module's file; None where it has none to run, which Python says itself."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = next((f for f in (path.with_suffix(".py"), path / "__main__.py") if f.is_file()), None)
    return file and (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")


def _make_home() -> None:
    """Give a process without a home folder, as in a container, one in the temporary folder: many packages insist on one.

    Neither one that is not there nor one that takes no files is one: docker run --user 1000 says HOME=/.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = "nobody"
    given = os.path.expanduser("~")
    if any(os.access(folder, os.W_OK) for folder in (given, os.path.join(given, ".cache")) if given != "~"):
        return
    home = Path(tempfile.gettempdir(), f"fer-distill-home-{os.getuid()}")
    with suppress(OSError):
        home.mkdir(mode=0o700, exist_ok=True)
    if not home.is_dir() or home.stat().st_uid != os.getuid():
        home = Path(tempfile.mkdtemp(prefix="fer-distill-home-"))
    os.environ["HOME"] = str(home)
    print(
        f"There is no home folder to write to: what is kept goes to {home}. Set HOME for another one.", file=sys.stderr
    )


def _uncaught(kind: type, error: BaseException, trace) -> None:
    """Print an error that comes before a command's own guard, such as a library that is not installed."""
    with command_line():
        raise error


def _discard_output() -> None:
    """Empty standard output, into nothing where it takes no more: else Python says so when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
