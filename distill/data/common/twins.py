"""Faces of one split whose photograph another split has, too: counted, told, left out of train or of a second test."""

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from distill.data.common.walker import left_out_message
from distill.data.packing.near_duplicates import DROP, bands, pairs
from distill.system.console import WITHOUT_TWINS
from distill.system.errors import ConfigError
from distill.types import Dataset, Split


def checked_splits(data: Dataset, needed: Collection[str], near_duplicates: str) -> Dataset:
    """Return a data set, and one to learn from with what its splits share counted in notes, and the test without it in extra_test_splits.

    Args:
        data: the packed data set.
        needed: the splits that it must have; with train among them it is one to learn from.
        near_duplicates: report, or drop_from_train: training faces whose photograph is in valid or test are left out.

    Raises:
        ConfigError: it lacks a split, each test face is a training or validation face, or no training face is left.
    """
    if missing := [name for name in needed if name not in data.splits]:
        raise ConfigError(
            "data",
            f"{data.name}, as asked for, has no {' and no '.join(missing)} split. A run learns from train, chooses by "
            "valid and is told by test: give data.test a share below 1, such as 0.2; or measure a finished run on the test "
            "split alone with python -m distill.measure RUN and the same words for data.",
        )
    if "train" not in data.splits or data.splits["test"].photo is None:
        return data
    train, valid, test = (data.splits[name] for name in ("train", "valid", "test"))
    if "train" in needed and copied(test, [train, valid]).all():
        raise ConfigError(
            "data",
            f"each of the {len(test):,} test faces of {data.name} is, pixel for pixel, a training or validation face; "
            "such a test says nothing of other faces. Put other faces into the test split, or delete it and type data.test=0.2 to hold "
            "some out.",
        )
    dropped = 0
    if near_duplicates == DROP:
        twin = same_photo(train, [valid, test])
        if twin.all():
            raise ConfigError(
                "data.near_duplicates", "drop_from_train leaves no training face. Type data.near_duplicates=report."
            )
        dropped, train = int(twin.sum()), selected(train, ~twin)
    exact = {"valid": copied(valid, [train]), "test": copied(test, [train, valid])}
    near = {"valid": same_photo(valid, [train]), "test": same_photo(test, [train, valid])}
    counts = {name: [int(near[name].sum()), int(exact[name].sum())] for name in near}
    protocol = f"{data.protocol}; {dropped:,} near-duplicates left out of train" if dropped else data.protocol
    unique = ~near["test"]
    unseen = {WITHOUT_TWINS: selected(test, unique)} if unique.any() and not unique.all() else {}
    return replace(
        data,
        protocol=protocol,
        splits=data.splits | {"train": train},
        notes=data.notes | {"near_duplicates": counts | {"dropped_from_train": dropped}},
        extra_test_splits=data.extra_test_splits | unseen,
    )


def copied(split: Split, others: Iterable[Split]) -> np.ndarray:
    """Say of each face of a split whether others have it, pixel for pixel.

    Shape:
        returns [N] bool.
    """
    return np.isin(split.content[split.rows], np.concatenate([other.content[other.rows] for other in others]))


def same_photo(split: Split, others: Iterable[Split]) -> np.ndarray:
    """Say of each face of a split whether others of the same pack have its photograph.

    Shape:
        returns [N] bool.
    """
    return np.isin(split.photo[split.rows], np.concatenate([other.photo[other.rows] for other in others]))


def near_duplicate(split: Split, others: Iterable[Split]) -> np.ndarray:
    """Say the same of splits of another pack, whose faces may be of another size: they are compared now.

    Shape:
        returns [N] bool.
    """
    duplicate, pictures = np.zeros(len(split), bool), bands(split.pixels[split.rows])
    for other in others:
        for position, _ in pairs(pictures, bands(other.pixels[other.rows])):
            duplicate[position] = True
    return duplicate


def selected(split: Split, kept: np.ndarray | slice) -> Split:
    """Return the faces of a split that a mask [N], positions or a slice keeps."""
    ids = tuple(np.array(split.ids, object)[kept])
    return replace(split, rows=split.rows[kept], target=split.target[kept], label=split.label[kept], ids=ids)


def start_messages(data: Dataset) -> list[str]:
    """Return the lines that a run begins with: what is left out of its data, and what its splits share."""
    lines = [f"data: {left_out_message(data.notes['left_out'])}"] if "left_out" in data.notes else []
    counts: dict = data.notes.get("near_duplicates") or {}
    shares, many = [], False
    for name, where in (("test", "train or valid"), ("valid", "train")):
        near, exact = counts.get(name, (0, 0))
        if near:
            faces = f"{near:,} of {len(data.splits[name]):,} {name} faces"
            shares.append(f"{faces} seem to show a photograph that {where} has, too ({exact:,} pixel for pixel)")
            many = many or exact > len(data.splits[name]) / 10
    if shares:
        mend = "" if counts["dropped_from_train"] else "; data.near_duplicates=drop_from_train leaves them out of train"
        lines.append(f"{'*** ' * many}data: {', '.join(shares)}{mend}")
    if people := data.notes.get("shared_persons"):
        lines.append(
            f"*** SHARED PERSONS: {people:,} of the test split are in train or valid, too, so that it says little of other people. "
            "Move their pictures, or put train and test together: whole persons are held out then."
        )
    if data.extra is not None:
        left_out, held_out, known = (data.notes["extra"][name] for name in ("left_out", "in_valid_or_test", "in_train"))
        lines += [f"data.extra: {left_out_message(left_out)}"] if left_out else []
        line = f"data.extra: {len(data.extra):,} more training faces without labels, for the losses that compare with the teacher"
        if held_out:
            line += f"; {held_out:,} left out, as {'its' if held_out == 1 else 'their'} photograph is in valid or test"
        if known:
            line += f"; {known:,} of them {'is a face' if known == 1 else 'are faces'} of train, pixel for pixel"
        lines.append(line)
    return lines
