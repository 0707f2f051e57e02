"""The options that every opener of labelled pictures takes, and the types of data keys."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "null",
}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What every opener of labelled pictures takes beside its root; conf/data has each data set's own values.

    Args:
        size: height and width to store [pixels], 8 to 1024; pictures that are not square are made so by the resize.
        channels: 1 (grey) or 3 (RGB).
        valid: share of the training pictures held out where no validation split is distributed, in (0, 1).
        test: share held out where no test split is distributed and there are no folds, in (0, 1]; 1 makes every picture a
            test picture.
        fold: the test split, 0 to folds - 1, by persons; None does without folds.
        folds: how many; persons sorted by name are cut into so many runs.
        seed: of what is held out.
        limit: keep so many pictures of each split, evenly spread; None keeps all.
        verify: compare the sha256 of every packed array with the manifest.

    Raises:
        ValueError: a value of another type or out of range, in a sentence that names its key.
    """

    size: int = 100
    channels: int = 3
    valid: float = 0.1
    test: float = 0.2
    fold: int | None = None
    folds: int = 10
    seed: int = 0
    limit: int | None = None
    verify: bool = False

    def __post_init__(self):
        checked(vars(self), get_type_hints(DataOptions))
        if not 8 <= self.size <= 1024:
            raise ValueError(f"data.size: {self.size} pixels were asked for; give 8 to 1024.")
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels: {self.channels} was asked for; store 1 (grey) or 3 (RGB).")
        if not 0 < self.valid < 1:
            raise ValueError(f"data.valid: {self.valid} was asked for; hold out a share between 0 and 1, e.g. 0.1.")
        if not 0 < self.test <= 1:
            raise ValueError(
                f"data.test: {self.test} was asked for; give a share above 0, e.g. 0.2, or 1 for a test set alone."
            )
        check_limit(self.limit)


def check_limit(limit: int | None) -> None:
    """Refuse to keep less than one picture of each split."""
    if limit is not None and limit < 1:
        raise ValueError(f"data.limit: {limit} pictures of each split were asked for. Use at least 1, or null for all.")


def checked(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of data keys as their types want them: a folder that is named by a number is one all the same.

    Args:
        values: key -> value, as composed.
        hints: key -> annotation; keys without one are not looked at.

    Raises:
        ValueError: a value of another type, or an empty text, in a sentence that names the key.
    """
    found = dict(values)
    for key, value in values.items():
        if key not in hints:
            continue
        kinds = _kinds(hints[key])
        if type(value) is int and str in kinds and int not in kinds:
            found[key] = str(value)
        elif value == "" and str in kinds:
            null = ", or null for none" if type(None) in kinds else ""
            raise ValueError(
                f"data.{key}: expected a text, got an empty one (an unset variable?). Type data.{key}=...{null}."
            )
        elif not (type(value) in kinds or (type(value) is int and float in kinds) or isinstance(value, Path)):
            wanted = " or ".join(
                dict.fromkeys(KINDS.get(kind, f"a {kind.__name__}") for kind in kinds if kind is not Path)
            )
            raise ValueError(f"data.{key}: expected {wanted}, got {value!r}. Type data.{key}=... with such a value.")
    return found


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the types in an annotation; of list[str] it is list."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    return (get_origin(hint) or hint,)
