"""A knowledge-distillation compression toolkit for facial expression recognition.

In Python:
  distill.run(["student=microexpnet"])            a run, as python -m distill.run student=microexpnet
  distill.export(run)                             its files, as python -m distill.export RUN
  distill.load("microexpnet").predict("face.jpg") probabilities of a student, without PyTorch
  distill.find_faces("photo.jpg")                 boxes around faces
Each is imported when it is first used.
"""

import importlib
import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:  # `python -m distill.COMMAND`
    # the current directory comes last, not first: a yaml.py or random.py in it is not what is meant
    sys.path.append(sys.path.pop(0))

from distill.system import abort as abort  # first of ours: Ctrl-C works from here on
from distill.system.cli import format_error, pin_packages, start_command

__version__ = "0.1.0"
PYTHON = {  # name -> module; run and export are modules that can be called, see distill.system.callable_module
    "run": "distill.run",
    "export": "distill.export",
    "load": "distill.predict.student",
    "find_faces": "distill.predict.detector",
}

pin_packages()
if sys.argv[:1] == ["-m"]:  # `python -m distill.COMMAND` is about to import its module, and PyTorch with it
    start_command(
        __version__, {"distill.run": lambda words: importlib.import_module("distill.config.help").run_help(words)}
    )


def __getattr__(name: str) -> object:
    if name not in PYTHON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(PYTHON[name])
    except ModuleNotFoundError as error:
        error.msg = format_error(error)  # what to type
        raise
    return module if PYTHON[name] == f"distill.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PYTHON})
