"""A module that is a command and a function: python -m distill.run, and distill.run([...]) in Python."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType


def make_callable(module: str, function: Callable) -> None:
    """Let a call of a module be a call of a function.

    Whoever imports distill.run makes distill.run the module, whatever the package had under this name before; so that
    both spellings hold in any order, the module itself is called. Python allows a module another class for such ends.

    Args:
        module: its name, as in sys.modules.
        function: what is called; its signature is the module's.
    """

    class CallableModule(ModuleType):
        __call__ = staticmethod(function)
        __signature__ = inspect.signature(function)

    sys.modules[module].__class__ = CallableModule
