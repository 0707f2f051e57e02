"""FER+ protocols: which pictures count and what their targets are, given ten votes for each.

Two published vote files exist, FER2013*/label.csv and fer2013new.csv, and they differ on 1,602 rows: a protocol's name
says little without the name of the file. The known counts of both are kept here to check a complete data set against.
"""

import numpy as np

from distill.data.common.emotions import EMOTIONS
from distill.system.errors import ConfigError

VOTES = (*EMOTIONS, "unknown", "NF")
K = len(EMOTIONS)
SPLITS = ("train", "valid", "test")
TARGETS = ("votes", "majority")

# vote file -> pictures with a name, then pictures kept by each protocol; train, valid, test.
OFFICIAL = {
    "label.csv": {
        "pictures": (28558, 3579, 3573),
        "majority": (25045, 3191, 3137),
        "argmax": (28385, 3555, 3545),
        "votes": (27947, 3508, 3507),
        "emotions": (28556, 3579, 3573),
    },
    "fer2013new.csv": {
        "pictures": (28561, 3579, 3574),
        "majority": (25060, 3199, 3153),
        "argmax": (28389, 3553, 3546),
        "votes": (27956, 3505, 3505),
        "emotions": (28559, 3579, 3573),
    },
}


def majority(votes: np.ndarray) -> np.ndarray:
    """Keep a picture when one emotion has more than half of the votes, single votes set aside as outliers.

    Args:
        votes: the ten columns of a vote file.

    Shape:
        votes: [M, 10], returns [M, 8]: the emotions' votes that are left, a row of zeros where the picture is dropped.

    Reference:
        Barsoum et al., Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution,
        ICMI 2016; mode majority of the authors' ferplus.py. Deviation: their target is one-hot, here rows_of decides.
    """
    left = np.where(votes <= 1, 0, votes)
    top = left.max(1)
    keep = (top > 0.5 * left.sum(1)) & (left.argmax(1) < K)
    return left[:, :K] * keep[:, None]


def argmax(votes: np.ndarray) -> np.ndarray:
    """Keep a picture when the first largest of all ten columns is an emotion; every vote for an emotion counts.

    Shape:
        votes: [M, 10], returns [M, 8] as majority does.
    """
    return votes[:, :K] * (votes.argmax(1) < K)[:, None]


def soft_votes(votes: np.ndarray) -> np.ndarray:
    """Keep the leading emotions, most votes first, until they hold 75% of the votes, at most three of them.

    Single votes are set aside. A picture is dropped when more than three share the lead, when unknown or NF leads, or
    when what was kept before unknown or NF came up is no more than half of the votes.

    Shape:
        votes: [M, 10], returns [M, 8] as majority does.

    Reference:
        Barsoum et al., ICMI 2016; modes probability and crossentropy of the authors' ferplus.py, same rows and targets.
    """
    left = np.where(votes <= 1, 0, votes)
    total = left.sum(1)
    kept = np.zeros_like(left[:, :K])
    taken, count, going = np.zeros(len(left)), np.zeros(len(left), int), np.ones(len(left), bool)
    for _ in range(3):  # every round takes at least one column
        going &= (taken < 0.75 * total) & (count < 3)
        best = (left == left.max(1, keepdims=True)) & going[:, None]
        kept += np.where(best[:, :K], left[:, :K], 0)
        taken += np.where(best[:, :K], left[:, :K], 0).sum(1)
        count += best[:, :K].sum(1)
        left = np.where(best, 0, left)
        going &= ~best[:, K:].any(1)  # unknown or NF ends the search
    keep = (kept.sum(1) > 0.5 * total) & (count <= 3)
    return kept * keep[:, None]


def emotions(votes: np.ndarray) -> np.ndarray:
    """Keep every picture that has a vote for an emotion; unknown and NF are not looked at.

    Shape:
        votes: [M, 10], returns [M, 8] as majority does.
    """
    return votes[:, :K]


PROTOCOLS = {"majority": majority, "argmax": argmax, "votes": soft_votes, "emotions": emotions}


def rows_of(votes: np.ndarray, protocol: str, target: str = "votes") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply a protocol to the votes of packed pictures.

    Args:
        votes: the annotations of a packed split.
        protocol: majority, argmax, votes or emotions.
        target: votes (the votes that the protocol left, divided by their sum) or majority (one-hot).

    Shape:
        votes: [M, 10].

    Returns:
        rows [N] int64, ascending: the pictures kept; target [N, 8] float32; label [N] int64, the top emotion.
    """
    left = PROTOCOLS[protocol](np.asarray(votes, np.float64))
    rows = np.flatnonzero(left.any(1))
    left = left[rows]
    label = left.argmax(1)
    distribution = left / left.sum(1, keepdims=True) if target == "votes" else np.eye(K)[label]
    return rows, distribution.astype(np.float32), label


def check_names(protocol: str, target: str, key: str = "data.protocol") -> None:
    """Refuse a protocol, which a key names, or a target that does not exist, and list those that do; see rows_of.

    Raises:
        ConfigError: it does not exist.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(key, f"there is no protocol {protocol!r}. Use one of {', '.join(PROTOCOLS)}.")
    if target not in TARGETS:
        raise ConfigError("data.target", f"there is no target {target!r}. Use one of {', '.join(TARGETS)}.")


def count(votes: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return {protocol: number of pictures it keeps of train, valid, test}, and under "pictures" that of all.

    Args:
        votes: split -> [M, 10] votes of its packed pictures.
    """
    counts = {name: tuple(len(rows_of(votes[split], name)[0]) for split in SPLITS) for name in PROTOCOLS}
    return {"pictures": tuple(len(votes[split]) for split in SPLITS), **counts}


def check_official(vote_file: str, counts: dict[str, tuple[int, ...]], where: str) -> bool:
    """Compare the counts with the published ones when every picture of the official data set is there.

    Args:
        vote_file: name of the file with the votes: the published ones differ.
        counts: see count.
        where: the data set's path, for messages.

    Returns:
        True for the complete data set, False for any other set of pictures.

    Raises:
        ConfigError: all pictures are there, but a protocol keeps another number of them.
    """
    official = OFFICIAL[vote_file]
    if counts["pictures"] != official["pictures"]:
        return False
    for protocol, expected in official.items():
        if counts[protocol] != expected:
            raise ConfigError(
                "data.root",
                f"{where} holds all {sum(official['pictures']):,} pictures of FER+, but protocol {protocol} "
                f"keeps {counts[protocol]} of train, valid, test instead of {expected}: votes were changed in its "
                f"{vote_file}. Take the published file from github.com/microsoft/FERPlus.",
            )
    return True
