"""Lists of occluded and turned faces, measured beside the whole test split: data.test_subset=occlusion|pose30|pose45."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from distill.data.common.image_files import find_below, folder, lines
from distill.system.errors import ConfigError


def requested_subsets(data: Mapping[str, Any]) -> dict[str, str | None]:
    """Return which lists of test faces a config's data ask for: name -> folder where they lie, None where the data do."""
    names, where = data.get("test_subset") or [], data.get("subset_dir")
    where = where and os.path.abspath(os.path.expanduser(where))  # however it was typed
    return dict.fromkeys(names if isinstance(names, list) else [names], where)


def read_subsets(
    chosen: str | Sequence[str] | None,
    root: str | Path,
    subset_dir: str | Path | None,
    files: Mapping[str, tuple[str, ...]],
    parse: Callable[[list[str], str], tuple[str, int | None]],
) -> dict[str, dict[str, int] | list[str]]:
    """Read the lists of test subsets, as labeled(subsets=...) wants them.

    Args:
        chosen: occlusion, pose30, pose45, some of them, or None for no subset.
        root: the data set's folder or archive; lists are looked for there and in the folders just below.
        subset_dir: where the lists are instead, None is root.
        files: for each name the file names it has been published under.
        parse: (words of a line, file and row) -> id, and the label index that the list tells or None.

    Returns:
        name -> {id: label}, or ids where the list tells no labels.

    Raises:
        ConfigError: an unknown name, no such list, or a line that cannot be read.
    """
    names = chosen if isinstance(chosen, list | tuple) else [chosen] if chosen else []
    if unknown := [name for name in names if name not in files]:
        raise ConfigError(
            "data.test_subset", f"there is no subset {unknown[0]!r}. Use null or some of {', '.join(files)}."
        )
    subsets = {}
    for name in names:
        if subset_dir is not None:
            home = folder(subset_dir, f"a folder with {' or '.join(files[name])}", "data.subset_dir")
        else:
            home = Path(root).expanduser().absolute()
            home = home if home.is_dir() else home.parent
        path = find_below(home, files[name])
        if path is None:
            raise ConfigError(
                "data.test_subset",
                f"{name} needs {' or '.join(files[name])} in {home}; it is not there. Copy the list there, or "
                "give data.subset_dir its folder.",
            )
        listed = dict(parse(words, where) for words, where in lines(path, 1, "one picture a line"))
        if not listed:
            raise ConfigError("data.test_subset", f"{path} is empty. Take the published list.")
        subsets[name] = list(listed) if None in listed.values() else listed
    return subsets


def select(ids: Sequence[str], label: np.ndarray, name: str, listed: Collection[str]) -> tuple[np.ndarray, dict]:
    """Find the listed pictures among those of a test split.

    Args:
        ids: names of the test split's pictures.
        label: their labels.
        name: the subset's name.
        listed: names, each an id, or a file name (or its stem) that just one id ends with; a mapping name -> label has its labels
            compared.

    Shape:
        label: [N], returns positions [M] in it, ascending; and facts: listed, found, missing, other_label.

    Raises:
        ConfigError: none is there.
    """
    exact, stems = dict[str, int](), dict[str, set[int]]()
    for position, known in enumerate(ids):
        exact[known] = position
        stems.setdefault(PurePosixPath(known).stem, set()).add(position)
    at = {one: {exact[one]} if one in exact else stems.get(one.rpartition(".")[0] or one, set()) for one in listed}
    matches = {one: min(positions) for one, positions in at.items() if len(positions) == 1}
    if not matches:
        raise ConfigError(
            "data.test_subset",
            f"none of the {len(listed):,} pictures listed for {name} is among the {len(ids):,} for "
            "test. Take the list of this data set.",
        )
    facts = {"listed": len(listed), "found": len(matches), "missing": len(listed) - len(matches)}
    if isinstance(listed, Mapping):
        facts["other_label"] = sum(int(label[position]) != listed[one] for one, position in matches.items())
    return np.array(sorted(set(matches.values())), np.int64), facts
