"""Which rows are held out and which persons are in a fold: arithmetic on names alone."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from distill.system.errors import ConfigError, expect


def hold_out(ids: Sequence[str], label: np.ndarray, subject: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mark what is held out: whole persons where any is known, otherwise pictures of every class alike.

    The order is that of sha256("seed name"), so that a row depends on few others: its class or the persons.

    Args:
        ids: names of the rows.
        label: class of each row.
        subject: person of each row, "" where unknown; then the picture counts as a person of its own.
        share: in (0, 1).
        seed: another number holds others out.

    Shape:
        label, subject: [N], returns [N] bool; of a class or of the persons at least one is on either side, where
        there are two.
    """
    groups = np.where(subject == "", np.array(ids, dtype=object), subject.astype(object))
    held: set[str] = set()
    for stratum in [np.full(len(label), True)] if subject.any() else [label == k for k in np.unique(label)]:
        sizes = Counter(groups[stratum])
        order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        total = np.cumsum([sizes[name] for name in order])
        wanted = share * stratum.sum()
        nearest = int(np.abs(total - wanted).argmin()) + 1
        held.update(order[: min(nearest, len(order) - 1)])
    return np.array([group in held for group in groups], bool)


def numbered_folds(subject: np.ndarray, folds: int | Sequence[Collection[str]]) -> tuple[np.ndarray, int]:
    """Say in which fold each row is.

    Args:
        subject: person of each row.
        folds: a number n: the persons, shorter names first, then by name, are cut into n runs whose lengths differ by
            one at most (80 persons in 10 folds: fold k has persons 8 k to 8 k + 7); or the persons of each fold.

    Shape:
        subject: [N], returns [N] int64, -1 for a person in no fold; and the number of folds.

    Raises:
        ConfigError: fewer persons than folds, fewer than two folds, or a person in two folds.
    """
    persons = sorted(set(subject.tolist()) - {""}, key=lambda name: (len(name), name))
    if isinstance(folds, int):
        expect(2 <= folds <= len(persons), "data.folds", f"2 or more, at most the {len(persons)} persons", folds)
        folds = [part.tolist() for part in np.array_split(np.array(persons), folds)]
    of_person = {person: k for k, members in enumerate(folds) for person in members}
    if len(of_person) < sum(len(set(members)) for members in folds):
        twice = [p for p, n in Counter(p for members in folds for p in set(members)).items() if n > 1]
        raise ConfigError(
            "data.fold", f"persons {', '.join(sorted(twice)[:5])} are in two folds. Take the published lists."
        )
    return np.array([of_person.get(person, -1) for person in subject.tolist()], np.int64), len(folds)


def evenly_spaced(rows: np.ndarray, limit: int | None) -> np.ndarray:
    """Keep at most so many rows, evenly spread, so that rows in the order of classes keep all classes.

    Shape:
        rows: [N], returns [min(N, limit)].
    """
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.arange(limit) * len(rows) // limit]
