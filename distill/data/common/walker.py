"""The one walker of folders, for training and use: which files below a folder are pictures, and which are left out and why."""

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from os.path import abspath, exists, isdir, isfile, realpath, relpath
from pathlib import Path
from typing import NamedTuple

NAMES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
SYSTEM = (  # folders that systems keep for themselves, in lower case
    "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
)  # fmt: skip
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
PORTABLE = tuple(b"P%d%c" % (kind, blank) for kind in range(1, 7) for blank in b" \t\n\r")


class FileEntry(NamedTuple):
    """A file below a folder; hidden says that its name is, or that of a folder between the two."""

    path: str
    hidden: bool


def walk(top: str | Path, deep: bool = True) -> Iterator[FileEntry]:
    """Yield what lies below a folder and is no folder; nothing is opened.

    Links are followed, and a folder that several ways lead to is read once, by its own name where that is below `top`; a
    link to a folder that `top` lies in is not. A link to nothing counts where it is called like a picture.

    Args:
        top: the folder.
        deep: with the folders in it.

    Raises:
        OSError: a folder that may not be read.
    """
    seen = _above(top)
    linked = deque([(str(top), False)])
    while linked:
        real = [linked.popleft()]
        while real:
            folder, hidden = real.pop()
            if (key := _identity(folder)) in seen:
                continue
            seen.add(key)
            deeper = list[tuple]()
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                link = entry.is_symlink()
                if isdir(entry.path) if link else entry.is_dir():
                    if deep:
                        (linked if link else deeper).append((entry.path, hidden or is_hidden(entry.name)))
                elif not link or exists(entry.path) or _named(entry.name):
                    yield FileEntry(entry.path, hidden or entry.name.startswith("."))
            real += reversed(deeper)


def _above(folder: str | Path) -> set[tuple[int, int]]:
    """Return the folders that a folder lies in, by the way that is typed and by its own."""
    # abspath: the parents of photos/../photos have photos among them
    ways = (Path(abspath(folder)), Path(folder).resolve())
    return {_identity(above) for way in ways for above in way.parents if above.exists()}


def _identity(folder: str | Path) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino


def is_hidden(name: str) -> bool:
    """Return whether a folder of this name holds what programs put there: previews, checkpoints, resource forks."""
    return name.startswith((".", "__")) or name.lower() in SYSTEM


def class_folders(path: Path) -> list[Path]:
    """Return the folders in a folder by name, without hidden ones and links to it or to one that it lies in."""
    above = {_identity(path), *_above(path)}
    visible = (sub for sub in path.iterdir() if sub.is_dir() and not is_hidden(sub.name))
    return sorted(sub for sub in visible if _identity(sub) not in above)


def pictures_below(path: Path, deep: bool = False) -> list[Path]:
    """Return the pictures in a folder by name, with deep=True also those of the folders in it; hidden ones are skipped."""
    return sorted(Path(entry.path) for entry in walk(path, deep) if not entry.hidden and is_picture(entry.path))


def is_picture(path: str) -> bool:
    """Return whether a file is called like a picture, or begins like one."""
    if not isfile(path):  # a pipe or device is not opened, whatever its name; of a link to nothing its reader says so
        return _named(path) and not exists(path)
    if _named(path):
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    webp = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    bmp = start[:2] == b"BM" and start[2:6] == os.path.getsize(path).to_bytes(8, "little")[:4]
    return webp or bmp or start.startswith(BEGINNINGS + PORTABLE)


def _named(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in NAMES


def left_out(tops: Iterable[str], read: Collection[str]) -> dict[str, list]:
    """Count the files below some folders that are not read.

    Args:
        tops: the folders.
        read: paths of the files that are.

    Returns:
        why -> [how many, the first, its path below the folder].
    """
    counts: dict[str, list] = {}
    read, real = set(read), None
    for top in tops:
        for path, hidden in walk(top):
            if path in read:
                continue
            real = real or {realpath(name) for name in read}
            if realpath(path) in real and not hidden:
                continue
            why = "in no list and no class's folder" if is_picture(path) else "no picture"
            why = "hidden" if hidden else why if isfile(path) else "neither file nor folder"
            counts.setdefault(why, [0, shown(relpath(path, top))])[0] += 1
    return counts


def left_out_message(counts: dict[str, list]) -> str:
    """Return one line that says what left_out counted."""
    number = sum(count for count, _ in counts.values())
    each = ", ".join(f"{count:,} {why} ({example})" for why, (count, example) in counts.items())
    return f"{number:,} file{'' if number == 1 else 's'} left out: {each}"


def shown(path: Path | str) -> str:
    """Return a name as text that every terminal and file can hold, whatever its bytes; others stay others."""
    text = str(path)
    if text.isprintable():
        return text
    letters = []
    for letter in text:
        code = ord(letter)
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is no letter in the file system's encoding
            code -= 0xDC00
        escaped = f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
        letters.append(letter if letter.isprintable() else escaped)
    return "".join(letters)
