"""Pictures with one label each: a reader lists them, here they are packed once and become train, valid and test.

A reader is one function that lists Entry rows and calls labeled(); it finds what it needs in emotions.py (orders of label files,
names), image_files.py (files, list files, descriptions of a source) and test_subsets.py (lists of occluded, turned faces).
"""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.data.common.entries import SPLITS, Entry, Listing, class_entries
from distill.data.common.options import DataOptions
from distill.data.common.splits import evenly_spaced, hold_out, numbered_folds
from distill.data.common.test_subsets import select
from distill.data.packing.reader import Packed, pack
from distill.system.errors import ConfigError, expect
from distill.system.files import digest, sha256
from distill.types import Dataset, Split

__all__ = ["Entry", "class_entries", "labeled"]

UNKNOWN = -1  # the label of a face without one
VERSION = 2  # of how a picture becomes an array; raise it when the same files would give other pixels


def labeled(
    store: str | Path,
    name: str,
    source: dict,
    entries: Callable[[], Iterable[Entry]],
    classes: tuple[str, ...],
    *,
    options: DataOptions,
    keep: tuple[str, ...] | None = None,
    folds: Sequence[Collection[str]] | None = None,
    subsets: Mapping[str, Collection[str] | Mapping[str, int]] | None = None,
    walked: Sequence[Path] = (),
    words: str = "",
    notes: dict | None = None,
) -> Dataset:
    """Open a labeled data set as train, valid and test; the first call for a source decodes it into the store.

    Pictures are turned to gray or RGB and resized to size x size with antialiasing. Splits stay as distributed; where
    there is no validation split, a share of the training pictures is held out, by the hash of (seed, id) within each
    class, or whole persons where persons are known. Split `all` is divided by persons into folds: fold k is test and
    some persons of the rest are valid; without folds a share is held out for test first.

    Args:
        store: folder for everything that is computed once.
        name: the data set's name.
        source: what will be read (reader, version, path, sizes and times of files): another source is another pack.
            size, channels, classes and the code of a reader of one's own are added here; leave out what only selects rows.
        entries: lists the pictures in the order to store them; called only while packing.
        classes: names in canonical order, what Entry.label counts in.
        keep: the classes to offer, an ordered part of classes; None keeps all. One pack serves all choices.
        options: see there.
        folds: the persons of each fold, where they are published; None cuts the persons into options.folds runs.
        subsets: name -> ids: these pictures of the test split, which stays whole, are Dataset.extra_test_splits[name]. An id is
            that of an entry, or its file name or stem; those that are not there are counted in notes. A mapping
            id -> label index into classes has its labels compared and differences counted.
        walked: folders of which every picture should be an entry: what is not is counted and said; each Entry.load is a
            Picture then.
        words: beginning of Dataset.protocol.
        notes: added to Dataset.notes.

    Returns:
        Splits with one-hot targets, rows of one packed array or several; protocol tells what was held out.

    Raises:
        ConfigError: a key out of range, a picture that cannot be read, an id listed twice, a split or class without
            pictures, in a message.
    """
    keep = keep or classes
    assert set(keep) <= set(classes) and len(set(classes)) == len(classes)
    listing = Listing(entries, classes, options.size, options.channels, walked, source.get("paths", ()))
    stored = {"size": options.size, "channels": options.channels}
    key = source | {"labeled": VERSION, "classes": list(classes)} | stored | _own_code(entries)
    packed = pack(Path(store), name, key, listing.rows, listing.facts, options.verify)
    parts = {split: _Part(packed, split, classes, keep) for split in packed.splits}
    chosen, rule = _divide(name, parts, options, folds)
    facts = {"packed": packed.folder.name, "limit": options.limit, "seed": options.seed} | (notes or {})
    if packed.manifest["facts"]["left_out"]:
        facts["left_out"] = packed.manifest["facts"]["left_out"]
    people = {split: set(part.subject[rows]) - {""} for split, (part, rows) in chosen.items()}
    if shared := people.pop("test").intersection(set().union(*people.values())):
        facts["shared_persons"] = len(shared)
    if "train" in chosen:
        part, rows = chosen["train"]
        if never := [keep[k] for k in range(len(keep)) if k not in part.label[rows]]:
            raise ConfigError(
                "data.root",
                f"{name} has no picture of {', '.join(never)} among its {len(rows):,} for train. Check its lists "
                "and folders: every class must occur there.",
            )
    splits = {split: part.split(split, evenly_spaced(rows, options.limit)) for split, (part, rows) in chosen.items()}
    facts["classes_of_test"] = np.bincount(splits["test"].label, minlength=len(keep)).tolist()
    (part, rows), extra_test_splits, about = chosen["test"], {}, {}
    for subset, listed in (subsets or {}).items():
        kept, about[subset] = select([part.ids[row] for row in rows], part.packed_label[rows], subset, listed)
        extra_test_splits[subset] = part.split("test", evenly_spaced(rows[kept], options.limit))
    facts |= {"test_subset": about} if about else {}
    return Dataset(name, keep, "; ".join(filter(None, [words, *rule])), splits, facts, extra_test_splits)


def _own_code(entries: Callable) -> dict[str, str]:
    """Return the SHA-256 of a reader that is not of this package, and of the modules beside it that it takes names from.

    Whoever changes a line of them raises no version.
    """
    entries = getattr(entries, "func", entries)  # of a partial
    code = getattr(entries, "__code__", None)
    if code is None or entries.__module__.startswith("distill.") or not Path(code.co_filename).is_file():
        return {}
    taken = {getattr(value, "__module__", getattr(value, "__name__", None)) for value in entries.__globals__.values()}
    files = {code.co_filename, *(getattr(sys.modules.get(str(name)), "__file__", None) or "" for name in taken)}
    beside = sorted(file for file in files if Path(file).parent == Path(code.co_filename).parent)
    return {"code": digest([sha256(file) for file in beside])}


class _Part:
    """One packed split with the rows of the classes that are kept."""

    def __init__(self, packed: Packed, split: str, classes: tuple[str, ...], keep: tuple[str, ...]):
        self.pixels, annotations, self.ids, self.sha256 = packed.splits[split]
        self.copies = packed.copies[split]
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
        return Split(
            name, self.pixels, rows, target, label, tuple(self.ids[row] for row in rows), self.sha256, *self.copies
        )


def _divide(name: str, parts: dict[str, _Part], options: DataOptions, folds: Sequence | None) -> tuple[dict, list[str]]:
    """Return {split: (part, rows)} and the rules in words."""
    if "all" in parts:
        assert len(parts) == 1
        return _divide_all(name, parts["all"], options, folds or options.folds)
    if options.fold is not None:
        raise ConfigError("data.fold", f"{name} is divided as distributed, it has no folds. Use data.fold=null.")
    chosen = {split: (part, part.rows) for split, part in parts.items()}
    _check_splits(name, chosen, [split for split in SPLITS if split != "valid" or split in chosen])
    if "valid" in chosen:
        return {split: chosen[split] for split in SPLITS}, []
    part = parts["train"]
    train, held, what = part.hold_out(part.rows, options.valid, options.seed)
    chosen = {"train": (part, train), "valid": (part, held), "test": chosen["test"]}
    return chosen, [f"valid: {options.valid:.0%} of train held out by {what}, seed {options.seed}"]


def _divide_all(name: str, part: _Part, options: DataOptions, folds: int | Sequence) -> tuple[dict, list[str]]:
    fold, test, valid, seed = options.fold, options.test, options.valid, options.seed
    if fold is not None:
        if not part.subject.any():
            raise ConfigError("data.fold", f"{name} tells no persons to make folds of. Use data.fold=null.")
        of_row, count = numbered_folds(part.subject, folds)
        expect(0 <= fold < count, "data.fold", f"0 to {count - 1}", fold)
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


def _check_splits(name: str, chosen: dict, needed: Sequence[str]) -> None:
    if empty := [split for split in needed if split not in chosen or not len(chosen[split][1])]:
        raise ConfigError("data.root", f"{name} holds no picture for {', '.join(empty)}. Check its lists and folders.")
