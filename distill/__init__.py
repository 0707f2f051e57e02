"""A knowledge-distillation compression toolkit for facial expression recognition."""

import sys

from distill.system import abort as abort  # first: Ctrl-C works from here on
from distill.system.cli import pin_packages, start_command

__version__ = "0.1.0"

pin_packages()
if sys.argv[:1] == ["-m"]:  # `python -m distill.COMMAND` is about to import its module, and PyTorch with it
    from distill.config.help import run_help

    start_command(__version__, {"distill.run": run_help})
