"""CK+ with 8 emotions: the authors' sequences, published lists of frames, or the folders of 48x48 faces (CK+48)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from distill.data.ckplus.frames import FRAME, listed_frames, published_folds, sequence_frames
from distill.data.common.emotions import EMOTIONS, canonical, named
from distill.data.common.image_files import folder, source
from distill.data.common.labeled import Entry, class_entries, labeled
from distill.data.common.options import DataOptions
from distill.data.common.walker import class_folders
from distill.system.errors import ConfigError
from distill.types import Dataset

VERSION = 1  # of what is read; raise it when the same files would give other rows
ALIGNED, FRAMES = "cohn_kanade_images_aligned", "cohn-kanade-images"
LIST = "metafile/CK+last3frameslabels.txt"
LAYOUT = (
    f"a folder with {FRAMES} and Emotion, one with {ALIGNED} and {LIST}, or one of folders anger, ... with names such as "
    "S010_004_00000017.png"
)
LICENSE = (
    "CK+ (Lucey et al., CVPR Workshops 2010): for non-commercial research, under an agreement with its authors; do not "
    "redistribute it."
)


def ckplus(store: str | Path, root: str | Path, margin: float | None = 0.2, **options: Any) -> Dataset:
    """Open CK+: the last three frames of every labeled sequence, and its first frame as a neutral face.

    CK+48 has no neutral face: it has seven classes to learn from, and all eight as a test set alone (fold null, test 1).

    Args:
        store: folder for everything that is computed once.
        root: folder of one of the forms, or the one around it.
        margin: what is added on each side of the landmarks, a share of the longer side, when faces are cut out of the
            authors' frames by their folder Landmarks; None keeps whole frames.
        options: fields of DataOptions; where there are lists of folds, metafile/cv/test_ids_<k>.csv, those count, and
            folds must be their number.

    Raises:
        ConfigError: a root, file, row, name or fold that cannot be used, in a message that says which and why.
    """
    if margin is not None and not 0 <= margin <= 2:
        raise ConfigError("data.margin", f"expected 0 to 2, e.g. 0.2, or null for whole frames, got {margin}.")
    chosen = DataOptions(**{"fold": 0, "size": 128, "channels": 1} | options)
    form = _form(folder(root, LAYOUT), margin)
    if chosen.fold is not None and form.folds is not None and chosen.folds != len(form.folds):
        raise ConfigError("data.folds", f"expected {len(form.folds)}, as the lists in {root} make, got {chosen.folds}.")
    alone = chosen.fold is None and chosen.test == 1
    return labeled(
        store,
        "ckplus",
        source("ckplus", VERSION, form.paths) | {"form": form.words},
        form.entries,
        EMOTIONS,
        keep=EMOTIONS if form.neutral or alone else EMOTIONS[1:],
        folds=form.folds,
        walked=form.walked,
        words=form.words,
        notes={"license": LICENSE},
        options=chosen,
    )


class Release(NamedTuple):
    """One of the forms CK+ comes in: what is read, what lists its pictures, and its own folds."""

    words: str
    paths: list[Path]
    entries: Callable[[], Iterable[Entry]]
    folds: Sequence[set[str]] | None = None
    neutral: bool = True
    walked: Sequence[Path] = ()


def _form(root: Path, margin: float | None) -> Release:
    """Find the form in a folder or a little deeper: lists come before the authors' labels, those before CK+48."""
    homes = [root, *class_folders(root)]
    for home in homes:
        if (home / LIST).is_file():
            images = next((home / name for name in (ALIGNED, FRAMES) if (home / name).is_dir()), None)
            if images is None:
                raise ConfigError("data.root", f"{home} has {LIST} but no pictures in {ALIGNED}. Copy them there.")
            listed, cross = home / LIST, (home / LIST).parent / "cv"
            folds = published_folds(cross) if cross.is_dir() else None
            words = f"CK+, frames of {listed.name} and the first" + (", published folds" if cross.is_dir() else "")
            return Release(words, [listed, images], partial(listed_frames, listed, images), folds)
    if emotion := _persons_folder(root, "Emotion"):
        images = _persons_folder(root, FRAMES)
        if images is None:
            raise ConfigError("data.root", f"{root} has Emotion but no {FRAMES}. Copy the pictures there.")
        landmarks = None if margin is None else _persons_folder(root, "Landmarks")
        cut = f"faces cut out, margin {margin}" if landmarks else "whole frames"
        paths = [emotion, images, *filter(None, [landmarks])]
        words = f"CK+, last three frames and the first, {cut}"
        return Release(words, paths, partial(sequence_frames, emotion, images, landmarks, margin))
    for home in homes:
        if any(canonical(path.name) for path in class_folders(home)):
            neutral = any(canonical(path.name) == "neutral" for path in class_folders(home))
            words = f"CK+48{'' if neutral else ', no neutral faces'}"
            return Release(words, [home], partial(_entries48, home), None, neutral, [home])
    raise ConfigError("data.root", f"{root} holds no CK+. Give {LAYOUT}.")


def _persons_folder(root: Path, name: str) -> Path | None:
    """Find a folder of this name with folders S005, ... in it; the archives unpack to Landmarks/Landmarks and the like."""
    candidates = (path for at in ("", "*/", "*/*/") for path in sorted(root.glob(f"{at}{name}/")))
    return next((path for path in candidates if any(path.glob("S*/"))), None)


def _entries48(home: Path) -> Iterator[Entry]:
    for entry in class_entries("all", home, lambda name, where: named(name, EMOTIONS, where)):
        frame = FRAME.fullmatch(Path(entry.where).name)
        if not frame:
            raise ValueError(
                f"{entry.where}: the name tells no person; names must be like S010_004_00000017.png. Rename it."
            )
        yield entry._replace(id=frame[0], subject=frame[1])
