"""Lists of labelled pictures of noise, and the data sets that distill.data.common.labelled makes of them."""

from functools import partial

from face_trees import face

from distill.data.common.labelled import Entry, labelled
from distill.data.common.options import DataOptions

ABC = ("a", "b", "c")


def entry(split, i, label=None, subject="", load=None, where=None):
    name = f"{split}/{i:03d}.png"
    label = i % 3 if label is None else label
    return Entry(split, name, label, load or partial(face, name), where or f"list.txt row {i + 1}", subject)


def listed(**sizes):
    return [entry(split, i) for split, number in sizes.items() for i in range(number)]


def opened(tmp_path, entries, classes=ABC, size=20, **options):
    lists = {"folds": options.pop("folds")} if isinstance(options.get("folds"), list) else {}
    own = {key: options.pop(key) for key in ("keep", "subsets", "walked", "words", "notes") if key in options}
    asked = DataOptions(size=size, **options)
    return labelled(tmp_path, "faces", {"reader": "test"}, lambda: entries, classes, options=asked, **own, **lists)


def persons(number=80, each=6):
    return [entry("all", i, subject=str(i // each)) for i in range(number * each)]
