"""The options that every opener of labeled pictures takes, and the types of data keys."""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from distill.data.packing.near_duplicates import CHOICES, REPORT
from distill.system.errors import ConfigError, expect
from distill.system.typed import as_typed

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    list: "a list",
    type(None): "null",
}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What every opener of labeled pictures takes beside its root; conf/data has each data set's own values.

    Raises:
        ValueError: a value of another type or out of range, in a message that names its key.
    """

    size: int = 100  # height and width to store [pixels], 8 to 1024; the resize makes every picture square
    channels: int = 3  # 1 (gray) or 3 (RGB)
    valid: float = 0.1  # share of the training pictures held out where no validation split is distributed, in (0, 1)
    test: float = 0.2  # share held out where there are no test split and no folds, in (0, 1]; 1 makes all test pictures
    fold: int | None = None  # the test split, 0 to folds - 1, by persons; None does without folds
    folds: int = 10  # how many; persons sorted by name are cut into so many runs
    seed: int = 0  # of what is held out
    limit: int | None = None  # keep so many pictures of each split, evenly spread; None keeps all
    verify: bool = False  # compare the sha256 of every packed array with the manifest

    def __post_init__(self):
        check_types(vars(self), get_type_hints(DataOptions), DEFAULTS)
        expect(8 <= self.size <= 1024, "data.size", "8 to 1024", self.size)
        expect(self.channels in (1, 3), "data.channels", "1 (gray) or 3 (RGB)", self.channels)
        expect(0 < self.valid < 1, "data.valid", "a share between 0 and 1, e.g. 0.1", self.valid)
        expect(0 < self.test <= 1, "data.test", "a share above 0, e.g. 0.2, or 1 for a test set alone", self.test)
        check_limit(self.limit)


BESIDE_OPENER = ("near_duplicates", "extra")  # keys of data that build.dataset reads, not the data set's own function
DEFAULTS = {field.name: field.default for field in fields(DataOptions)}


def check_limit(limit: int | None) -> None:
    """Refuse to keep less than one picture of each split.

    Raises:
        ConfigError: limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError("data.limit", f"expected 1 or more pictures of each split, or null for all, got {limit}.")


def typed(node: Mapping[str, Any], opener: Callable) -> dict[str, Any]:
    """Return the keys of a data set's config as the annotations of the function that opens it want them, without BESIDE_OPENER.

    Args:
        node: the config's part data.
        opener: the function that its target names.

    Raises:
        ConfigError: a key of another type, in a message that names it.
    """
    hints, known = get_type_hints(opener), inspect.signature(opener).parameters.items()
    defaults = {name: one.default for name, one in known if one.default is not inspect.Parameter.empty}
    if "options" in hints:
        hints, defaults = get_type_hints(DataOptions) | hints, DEFAULTS | defaults
        if unknown := sorted(node.keys() - hints.keys() - {"_target_", *BESIDE_OPENER}):
            there = ", ".join(sorted(hints.keys() - {"store", "options", "return"}))
            raise ConfigError(f"data.{unknown[0]}", f"no such key. There are: {there}.")
    of_folds = {"fold"} if node.get("fold") == "all" else set()  # run_folds gives each job its number
    if (choice := node.get("near_duplicates", REPORT)) not in CHOICES:
        raise ConfigError(
            "data.near_duplicates", f"expected {' or '.join(CHOICES)}, got {as_typed(choice)}. Type one of them."
        )
    if type(extra := node.get("extra")) not in (str, type(None)) or extra == "":
        raise ConfigError(
            "data.extra", f"expected a folder of pictures or null, got {as_typed(extra)}. Type data.extra=DIR."
        )
    keys = {key: value for key, value in node.items() if key not in BESIDE_OPENER}
    return keys | check_types({key: value for key, value in keys.items() if key not in of_folds}, hints, defaults)


def check_types(values: Mapping[str, Any], hints: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of data keys as their types want them: a folder that is named by a number is one all the same.

    Args:
        values: key -> value, as composed.
        hints: key -> annotation; keys without one, or with one of other types, are not looked at.
        defaults: key -> a value that would do, for messages.

    Raises:
        ConfigError: a value of another type, or an empty text, in a message that names the key.
    """
    checked = dict(values)
    for key, value in values.items():
        kinds = _kinds(hints.get(key))
        if not {*kinds} <= {*KINDS}:
            continue
        if type(value) is int and str in kinds and int not in kinds:
            checked[key] = str(value)
        elif value == "" and str in kinds:
            raise ConfigError(
                f"data.{key}",
                f"expected a text, got an empty one (an unset variable?). Type {_example(key, defaults)}.",
            )
        elif not (type(value) in kinds or (type(value) is int and float in kinds) or isinstance(value, Path)):
            wanted = " or ".join(dict.fromkeys(KINDS[kind] for kind in kinds if kind is not Path))
            raise ConfigError(
                f"data.{key}", f"expected {wanted}, got {as_typed(value)}. Type {_example(key, defaults)}."
            )
    return checked


def _example(key: str, defaults: Mapping[str, Any]) -> str:
    value = defaults.get(key, "DIR")
    return f"data.{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the types in an annotation; of list[str] it is list."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    return (get_origin(hint) or hint,)
