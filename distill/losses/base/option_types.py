"""What may be given for a loss's options: values of the kind that its constructor names, and ramps of numbers alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from types import NoneType
from typing import get_args, get_origin

from distill.losses.base.ramps import is_ramp, ramp
from distill.system.errors import ConfigError
from distill.system.typed import as_typed

WORDS: dict[object, str] = {
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    dict: "names with values, such as {net.fc.: 10}",
    NoneType: "null",
}


def check_options(key: str, make: Callable, given: Mapping[str, object]) -> None:
    """Check a loss's options by the annotations of what makes it; what has none is not checked.

    Raises:
        ConfigError: an option that does not exist, a value of another kind, or a ramp of what is no number with fractions.
    """
    known = signature(make).parameters
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [
        name for name, option in known.items() if option.default is Parameter.empty and option.kind not in variadic
    ]
    if missing := [name for name in needed if name not in given]:
        raise ConfigError(
            f"{key}.{missing[0]}",
            f"has no value. Give it one in conf/loss/{key.rsplit('.', 1)[-1]}.yaml; weight is no option of a class.",
        )
    for name, value in given.items():
        if name in known:
            _check(f"{key}.{name}", value, known[name])
        elif not any(word.kind is Parameter.VAR_KEYWORD for word in known.values()):
            raise ConfigError(key, f"there is no option {name!r}. Choose from {', '.join(known)}.")


def _check(key: str, value: object, option: Parameter) -> None:
    kind, default = option.annotation, option.default
    such = f", such as {default}" if type(default) in (int, float, str) else ""
    ends = [value]
    if is_ramp(value):
        if not fits(0.5, kind):
            raise ConfigError(key, f"{words(kind)} cannot follow a ramp over epochs; give one value{such}.")
        made = ramp(value, key)
        ends = [made.first, made.last]
    for end in ends:
        if not fits(end, kind):
            raise ConfigError(key, f"expected {words(kind)}{such}, got {as_typed(end)}.")


def fits(value: object, kind: object) -> bool:
    """Say whether a value is of an annotated kind; whole numbers are numbers, true and false are not."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (bool, str, NoneType):
        return isinstance(value, kind)
    if get_origin(kind) in (list, Sequence):
        return isinstance(value, list | tuple) and all(fits(each, get_args(kind)[0]) for each in value)
    if kind is dict or get_origin(kind) is dict:
        return isinstance(value, dict)
    parts = get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and len(value) == len(parts) and all(map(fits, value, parts))
    return any(fits(value, part) for part in parts) if parts else True


def words(kind: object) -> str:
    """Return what to give for an annotated kind."""
    if get_origin(kind) in (list, Sequence):
        return f"a list of { {float: 'numbers', int: 'whole numbers'}.get(get_args(kind)[0], 'names') }"
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} numbers"
    if get_origin(kind) is dict:
        return WORDS[dict]
    return WORDS.get(kind) or " or ".join(words(part) for part in get_args(kind))
