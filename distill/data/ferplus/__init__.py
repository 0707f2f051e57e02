"""FER+: faces of FER2013 with ten votes each, packed once; a protocol selects rows and makes targets."""

import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np

from distill.data.common.emotions import EMOTIONS, numbered
from distill.data.common.image_files import find_below, source
from distill.data.common.options import check_limit
from distill.data.common.test_subsets import read_subsets, select
from distill.data.common.twins import selected
from distill.data.ferplus.csv_pair import PIXELS, VOTE_FILE, CsvPair
from distill.data.ferplus.label_folders import LAYOUT, VERSION, LabelFolders, folder_files, tar_files, zip_files
from distill.data.ferplus.protocols import PROTOCOLS, SPLITS, check_names, check_official, count, rows_of
from distill.data.packing.reader import Packed, pack
from distill.system.errors import ConfigError
from distill.types import Dataset, Split

SUBSETS = {"occlusion": ("occlusion_list.txt",), "pose30": ("pose_30_list.txt",), "pose45": ("pose_45_list.txt",)}
LICENSE = (
    "FER+ votes: MIT (Microsoft). The pictures are those of FER2013, collected from the web for a research "
    "competition: research use only, do not redistribute them."
)
INPUTS = f"a folder, tar.gz or zip with {LAYOUT}, or a folder with {PIXELS} and {VOTE_FILE}"


def ferplus(
    store: str | Path,
    root: str | Path,
    protocol: str = "majority",
    train_protocol: str | None = None,
    target: str = "votes",
    test_subset: str | list[str] | None = None,
    subset_dir: str | Path | None = None,
    limit: int | None = None,
    verify: bool = False,
) -> Dataset:
    """Open FER+ under a protocol; the first call for a root decodes it into the store.

    Args:
        store: folder for everything that is computed once.
        root: a folder, tar.gz, tgz, tar or zip with FER2013Train|Valid|Test, or a folder with fer2013.csv and
            fer2013new.csv.
        protocol: majority, argmax, votes or emotions, see ferplus_protocols.
        train_protocol: that of the training split alone, so that faces too ambiguous to be counted in an accuracy can
            still teach their votes; None is protocol.
        target: votes (distribution over the 8 emotions) or majority (one-hot).
        test_subset: occlusion, pose30, pose45 or a list of them: these faces of the test split, as far as the protocol
            keeps them, are measured beside it; None for none.
        subset_dir: where the subsets' lists are; None is root, or the folder that holds the archive.
        limit: keep the first rows of each split only, a number of pictures; None keeps all.
        verify: compare the sha256 of every packed array with the manifest.

    Returns:
        Splits train, valid, test; extra_test_splits: the test faces under every protocol, and the subsets. sha256 is that of a
        split's packed pixels, whatever the protocol. notes tells the counts of every protocol (train, valid, test), the
        vote file and whether the data set is complete; and how many listed faces of each subset the protocol keeps, and
        how many of them the list labels otherwise.

    Raises:
        ValueError: a root, file, row, protocol, target or subset that cannot be used, in a message that says which and
            why.

    Reference:
        The subsets: Wang et al., Region Attention Networks, TIP 2020. Deviation: labels are those of the votes.
    """
    train_protocol = train_protocol or protocol
    check_names(protocol, target)
    check_names(train_protocol, target, "data.train_protocol")
    check_limit(limit)
    subsets = read_subsets(test_subset, root, subset_dir, SUBSETS, _listed)
    packed = pack_ferplus(store, root, verify)
    votes = {split: arrays.annotations for split, arrays in packed.splits.items()}
    vote_file = packed.manifest["facts"]["votes"]
    counts = count(votes)
    complete = check_official(vote_file, counts, str(root))
    of_split = {name: train_protocol if name == "train" else protocol for name in SPLITS}
    splits = {name: _split(name, packed, of_split[name], target, root) for name in SPLITS}
    kept = [name for name in PROTOCOLS if counts[name][SPLITS.index("test")]]  # the same network scores differently
    extra_test_splits, subset_facts = {name: _split("test", packed, name, target, root) for name in kept}, {}
    for name, listed in subsets.items():
        rows, subset_facts[name] = select(splits["test"].ids, splits["test"].label, name, listed)
        extra_test_splits[name] = selected(splits["test"], rows)
    splits, extra_test_splits = (
        {n: selected(s, slice(limit)) for n, s in part.items()} for part in (splits, extra_test_splits)
    )
    notes = {
        "votes": vote_file,
        "counts": {name: list(numbers) for name, numbers in counts.items()},
        "complete": complete,
        "classes_of_test": np.bincount(splits["test"].label, minlength=len(EMOTIONS)).tolist(),
        "limit": limit,
        "packed": packed.folder.name,
        "test_subset": subset_facts,
        "license": LICENSE,
    }
    if unread := packed.manifest["facts"].get("left_out"):
        notes["left_out"] = unread
    words = f"{protocol} ({vote_file}), targets {target}"
    if train_protocol != protocol:
        words += f", trained on the rows of {train_protocol}"
    return Dataset("ferplus", EMOTIONS, words, splits, notes, extra_test_splits)


def pack_ferplus(store: str | Path, root: str | Path, verify: bool = False) -> Packed:
    """Return the packed pictures, ten votes and ids of every split, before any protocol.

    Args:
        store: folder where packed data sets are kept.
        root: a folder or archive of FER+, or the folder of its csv pair.
        verify: compare hashes of what is packed, too.

    Raises:
        ConfigError: no FER+ is there, it is damaged, or a split has no picture.
    """
    reader = reader_of(Path(root).expanduser().absolute())
    packed = pack(Path(store), "ferplus", source("ferplus", VERSION, reader.read), reader.rows, reader.facts, verify)
    empty = [split for split in SPLITS if split not in packed.splits]
    if empty:
        raise ConfigError("data.root", f"{root} holds no picture for {', '.join(empty)}. FER+ is {INPUTS}.")
    return packed


def reader_of(root: Path) -> LabelFolders | CsvPair:
    """Find out what a path holds; folders with pictures come before the csv pair.

    Raises:
        ConfigError: nothing is there, or it is none of the known forms.
    """
    if not root.exists():
        raise ConfigError("data.root", f"{root} does not exist. Give {INPUTS}.")
    if root.is_file():
        if zipfile.is_zipfile(root):
            return LabelFolders(root, zip_files)
        with suppress(OSError, EOFError):
            if tarfile.is_tarfile(root):
                return LabelFolders(root, tar_files)
        raise ConfigError("data.root", f"{root} is neither a folder nor a tar or zip archive. Give {INPUTS}.")
    pair = [find_below(root, [name]) for name in (PIXELS, VOTE_FILE)]
    pictures = find_below(root, ["FER2013T*/*.png"], deep=2)
    if all(pair) and not pictures:
        return CsvPair(*pair)
    if not pictures and any(pair):
        there, missing = (PIXELS, VOTE_FILE) if pair[0] else (VOTE_FILE, PIXELS)
        raise ConfigError("data.root", f"{root} has {there} but not {missing}; the pictures need both. Copy it there.")
    return LabelFolders(root, folder_files)


def _split(name: str, full: Packed, protocol: str, target: str, root: str | Path) -> Split:
    packed = full.splits[name]
    rows, distribution, label = rows_of(packed.annotations, protocol, target)
    if not len(rows):
        raise ConfigError(
            "data.protocol",
            f"{protocol} keeps none of the {len(packed.ids)} pictures for {name} in {root}. "
            "Use data.protocol=emotions, or a larger data set.",
        )
    ids = tuple(packed.ids[row] for row in rows)
    return Split(name, packed.pixels, rows, distribution, label, ids, packed.sha256, *full.copies[name])


def _listed(words: list[str], where: str) -> tuple[str, int]:
    """Read `1_fer0034656.png 8 0` (occlusion) or `0/fer0032226.jpg` (pose): label in the order of FER+, and file."""
    label, _, name = words[0].partition("/" if "/" in words[0] else "_")
    return f"{PurePosixPath(name).stem}.png", numbered(label, EMOTIONS, EMOTIONS, where)
