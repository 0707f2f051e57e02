"""Values as one types them, YAML, and the types that they have in annotations."""

import math
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args, get_origin

import yaml

from distill.system.errors import ConfigError

WORDS: dict[object, str] = {
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    dict: "names with values, such as {net.fc.: 10}",
    NoneType: "null",
}


def as_yaml(key: str, text: str) -> object:
    """Return a value that was typed as YAML has it: false, 3, [a, b].

    Args:
        key: that it was typed for.
        text: the value.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(key, f"{text[:200]!r} cannot be read. Close brackets and quotes.") from None


def as_typed(value: object) -> str:
    """Return a value as one types it: null, true and numbers bare, words in quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_typed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_typed, value)) + "]"
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))


def is_number(value: object) -> bool:
    """Say whether a value is a finite number; true and false are none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def fits(value: Any, kind: Any) -> bool:
    """Say whether a value is of an annotated kind; whole numbers are numbers, true and false are not."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if kind is float:
        return is_number(value)
    if kind is int:
        return isinstance(value, int) and is_number(value)
    if kind in (bool, str, NoneType):
        return isinstance(value, kind)
    if origin in (list, Sequence):
        return isinstance(value, list | tuple) and (not inner or all(fits(each, inner[0]) for each in value))
    if origin is dict:
        both = value.items() if isinstance(value, dict) and inner else ()
        return isinstance(value, dict) and all(fits(key, inner[0]) and fits(each, inner[1]) for key, each in both)
    if origin is tuple and inner:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    return any(fits(value, part) for part in inner) if inner else True


def described(kind: object) -> str:
    """Return what to give for an annotated kind."""
    if get_origin(kind) in (list, Sequence):
        return f"a list of { {float: 'numbers', int: 'whole numbers'}.get(get_args(kind)[0], 'names') }"
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} numbers"
    if get_origin(kind) is dict:
        return WORDS[dict]
    return WORDS.get(kind) or " or ".join(described(part) for part in get_args(kind))
