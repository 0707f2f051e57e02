"""Pictures with one label each: a reader lists them, here they are packed once and become train, valid and test.

A reader is one function that lists Entry rows and calls labelled(); it finds what it needs in labels.py (orders of label
files, names), pictures.py (files, list files, descriptions of a source) and subsets.py (lists of occluded, turned faces).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.data.common.entries import SPLITS, Entry, Listing
from distill.data.common.splits import hold_out, numbered_folds, spread
from distill.data.common.test_subsets import select
from distill.data.packing.reader import Packed, pack
from distill.types import Dataset, Split

__all__ = ["Entry", "labelled"]

VERSION = 1  # of how a picture becomes an array; raise it when the same files would give other pixels


def labelled(
    store: str | Path,
    name: str,
    source: dict,
    entries: Callable[[], Sequence[Entry]],
    classes: tuple[str, ...],
    *,
    size: int,
    channels: int,
    valid: float = 0.1,
    test: float = 0.2,
    keep: tuple[str, ...] | None = None,
    fold: int | None = None,
    folds: int | Sequence[Collection[str]] | None = None,
    subsets: Mapping[str, Collection[str] | Mapping[str, int]] | None = None,
    seed: int = 0,
    limit: int | None = None,
    verify: bool = False,
    words: str = "",
    notes: dict | None = None,
) -> Dataset:
    """Open a labelled data set as train, valid and test; the first call for a source decodes it into the store.

    Pictures are turned to grey or RGB and resized to size x size with antialiasing. Splits stay as distributed; where
    there is no validation split, a share of the training pictures is held out, by the hash of (seed, id) within each
    class, or whole persons where persons are known. Split `all` is divided by persons into folds: fold k is test and
    some persons of the rest are valid; without folds a share is held out for test first.

    Args:
        store: folder for everything that is computed once.
        name: the data set's name.
        source: what will be read (reader, version, path, sizes and times of files): another source is another pack.
            size, channels and classes are added here; leave out what only selects rows.
        entries: lists the pictures in the order to store them; called only while packing.
        classes: names in canonical order, what Entry.label counts in.
        size: height and width to store [pixels].
        channels: 1 (grey) or 3 (RGB).
        valid: share of the training pictures held out where no validation split is distributed, in (0, 1).
        test: share held out of split `all` when there are no folds, in (0, 1]; 1 leaves a test split alone, for
            measuring a student that learnt elsewhere.
        keep: the classes to offer, an ordered part of classes; None keeps all. One pack serves all choices.
        fold: which fold is the test split, 0 to folds - 1; None does without folds.
        folds: how many folds of persons, persons sorted by name and cut into equal neighbours; or the persons of each.
        subsets: name -> ids: these pictures of the test split, which stays whole, are Dataset.further[name]. An id is
            that of an entry, or its file name or stem; those that are not there are counted in notes. A mapping
            id -> label index into classes has its labels compared and differences counted.
        seed: of what is held out.
        limit: keep so many pictures of each split, spread evenly over it; None keeps all.
        verify: compare the sha256 of every packed array with the manifest.
        words: beginning of Dataset.protocol.
        notes: added to Dataset.notes.

    Returns:
        Splits with one-hot targets, rows of one packed array or several; protocol tells what was held out.

    Raises:
        ValueError: a key out of range, a picture that cannot be read, an id listed twice, a split or class without
            pictures, in a sentence.
    """
    keep = keep or classes
    assert set(keep) <= set(classes) and len(set(classes)) == len(classes)
    _check(size, channels, valid, test, limit)
    listing = Listing(name, entries, classes, size, channels)
    key = source | {"labelled": VERSION, "classes": list(classes), "size": size, "channels": channels}
    packed = pack(Path(store), name, key, listing.rows, listing.facts, verify)
    parts = {split: _Part(packed, split, classes, keep) for split in packed.splits}
    chosen, rule = _divide(name, parts, valid=valid, test=test, fold=fold, folds=folds, seed=seed)
    facts = {"packed": packed.folder.name, "limit": limit, "seed": seed} | (notes or {})
    if "train" in chosen:
        _check_classes(name, *chosen["train"], keep)
    splits = {split: part.split(split, spread(rows, limit)) for split, (part, rows) in chosen.items()}
    facts["classes_of_test"] = np.bincount(splits["test"].label, minlength=len(keep)).tolist()
    further, about = _further(*chosen["test"], subsets or {}, limit)
    if about:
        facts["test_subset"] = about
    return Dataset(name, keep, "; ".join(filter(None, [words, *rule])), splits, facts, further)


def _further(part: "_Part", rows: np.ndarray, subsets: Mapping, limit: int | None) -> tuple[dict, dict]:
    """Return the subsets of the test pictures by name, and how much of each list was found."""
    ids, further, facts = [part.ids[row] for row in rows], {}, {}
    for name, listed in subsets.items():
        kept, facts[name] = select(ids, part.packed_label[rows], name, listed)
        further[name] = part.split("test", spread(rows[kept], limit))
    return further, facts


class _Part:
    """One packed split with the rows of the classes that are kept."""

    def __init__(self, packed: Packed, split: str, classes: tuple[str, ...], keep: tuple[str, ...]):
        self.pixels, annotations, self.ids, self.sha256 = packed.splits[split]
        of_class = np.array([keep.index(name) if name in keep else -1 for name in classes])
        self.packed_label = annotations[:, 0].astype(np.int64)
        self.label, self.num_classes = of_class[self.packed_label], len(keep)
        subjects = packed.manifest["facts"]["subjects"]
        self.subject = np.array([*subjects, ""])[annotations[:, 1].astype(np.int64)]
        self.rows = np.flatnonzero(self.label >= 0)

    def hold_out(self, rows: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
        """Divide rows: those that stay, those held out, and how in words."""
        ids = [self.ids[row] for row in rows]
        held = hold_out(ids, self.label[rows], self.subject[rows], share, seed)
        return rows[~held], rows[held], "persons" if self.subject[rows].any() else "pictures"

    def split(self, name: str, rows: np.ndarray) -> Split:
        label = self.label[rows]
        target = np.eye(self.num_classes, dtype=np.float32)[label]
        return Split(name, self.pixels, rows, target, label, tuple(self.ids[row] for row in rows), self.sha256)


def _divide(name: str, parts: dict[str, _Part], *, valid, test, fold, folds, seed) -> tuple[dict, list[str]]:
    """Return {split: (part, rows)} and the rules in words."""
    if "all" in parts:
        assert len(parts) == 1
        return _divide_all(name, parts["all"], valid, test, fold, folds, seed)
    if fold is not None:
        raise ValueError(f"data.fold: {name} is divided as distributed, it has no folds. Use data.fold=null.")
    chosen = {split: (part, part.rows) for split, part in parts.items()}
    _check_splits(name, chosen, ("train", "test"))
    if "valid" in chosen:
        _check_splits(name, chosen, ("valid",))
        return {split: chosen[split] for split in SPLITS}, []
    part = parts["train"]
    train, held, what = part.hold_out(part.rows, valid, seed)
    chosen = {"train": (part, train), "valid": (part, held), "test": chosen["test"]}
    return chosen, [f"valid: {valid:.0%} of train held out by {what}, seed {seed}"]


def _divide_all(name: str, part: _Part, valid, test, fold, folds, seed) -> tuple[dict, list[str]]:
    if fold is not None:
        if folds is None or not part.subject.any():
            raise ValueError(f"data.fold: {name} tells no persons to make folds of. Use data.fold=null.")
        of_row, count = numbered_folds(part.subject, folds)
        if not 0 <= fold < count:
            raise ValueError(f"data.fold: {fold} was asked for; there are {count} folds, 0 to {count - 1}.")
        tested = part.rows[of_row[part.rows] == fold]
        rest = part.rows[(of_row[part.rows] != fold) & (of_row[part.rows] >= 0)]
        rule = [f"test: fold {fold} of {count} by persons"]
    elif test == 1:
        _check_splits(name, {"test": (part, part.rows)}, ("test",))
        return {"test": (part, part.rows)}, ["test: all pictures"]
    else:
        rest, tested, what = part.hold_out(part.rows, test, seed)
        rule = [f"test: {test:.0%} held out by {what}, seed {seed}"]
    train, held, what = part.hold_out(rest, valid, seed + 1)
    chosen = {"train": (part, train), "valid": (part, held), "test": (part, tested)}
    _check_splits(name, chosen, SPLITS)
    return chosen, [*rule, f"valid: {valid:.0%} of the rest held out by {what}, seed {seed}"]


def _check(size: int, channels: int, valid: float, test: float, limit: int | None) -> None:
    if not 8 <= size <= 1024:
        raise ValueError(f"data.size: {size} pixels were asked for; give 8 to 1024.")
    if channels not in (1, 3):
        raise ValueError(f"data.channels: {channels} was asked for; store 1 (grey) or 3 (RGB).")
    if not 0 < valid < 1:
        raise ValueError(f"data.valid: {valid} was asked for; hold out a share between 0 and 1, e.g. 0.1.")
    if not 0 < test <= 1:
        raise ValueError(f"data.test: {test} was asked for; give a share above 0, e.g. 0.2, or 1 for a test set alone.")
    if limit is not None and limit < 1:
        raise ValueError(f"data.limit: {limit} pictures of each split were asked for. Use at least 1, or null for all.")


def _check_splits(name: str, chosen: dict, needed: tuple[str, ...]) -> None:
    empty = [split for split in needed if split not in chosen or not len(chosen[split][1])]
    if empty:
        raise ValueError(f"data.root: {name} holds no picture for {', '.join(empty)}. Check its lists and folders.")


def _check_classes(name: str, part: _Part, rows: np.ndarray, keep: tuple[str, ...]) -> None:
    counts = np.bincount(part.label[rows], minlength=len(keep))
    never = [keep[k] for k in np.flatnonzero(counts == 0)]
    if never:
        raise ValueError(
            f"data.root: {name} has no picture of {', '.join(never)} among its {len(rows):,} for train. Check its lists "
            "and folders: every class must occur there."
        )
