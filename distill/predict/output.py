"""Where answers go: a table, a csv or JSON file written row by row, drawn pictures and videos, bars in a terminal."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from distill.data.common.walker import shown
from distill.predict.drawing import draw
from distill.predict.pictures import DRAWN, SOFTWARE, identity, is_drawing
from distill.predict.pipeline import FrameResult
from distill.predict.video import Recording, is_recording
from distill.system.cli import format_error
from distill.system.files import writing

COLUMNS = ("file", "frame", "seconds", "face", "x", "y", "width", "height", "score", "expression", "probability")
ROWS = 500  # of the printed table
BAR = 24  # letters


@contextmanager
def opened(path: str):
    """Yield a text file to write, or standard output for "-"."""
    if path == "-":
        yield sys.stdout
        return
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    with writing(file), open(file, "w", encoding="utf-8", newline="") as text:
        yield text


def records(seen: FrameResult, classes: Sequence[str]) -> list[dict]:
    """Return what there is to say about each face."""
    faces = []
    for k, row in enumerate(seen.probabilities):
        score = None if seen.frame.scores is None else round(float(seen.frame.scores[k]), 4)
        best = int(row.argmax())
        face: dict = {"box": [round(float(value), 1) for value in seen.frame.boxes[k]], "score": score}
        face |= {"expression": classes[best], "probability": round(float(row[best]), 6)}
        faces.append(face | {"probabilities": {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}})
    return faces


def _plain(text: str, before: str) -> str:
    return before + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


class Csv:
    """One row per face, or one without a face; what could not be read has one with an error.

    No cell is a formula to a spreadsheet: a file name that begins as one has ./ before it, a class an apostrophe.
    """

    def __init__(self, file: TextIO, classes: Sequence[str]):
        self.rows, self.classes = csv.writer(file, lineterminator="\n"), classes
        self.rows.writerow([*COLUMNS, *(_plain(name, "'") for name in classes), "error"])

    def add(self, seen: FrameResult) -> None:
        frame = seen.frame
        seconds = None if frame.seconds is None else round(frame.seconds, 4)
        first = [_plain(shown(frame.name), "./"), frame.number, seconds]
        for number, face in enumerate(records(seen, self.classes), 1):
            best = _plain(face["expression"], "'")
            cells = [face["score"], best, face["probability"], *face["probabilities"].values()]
            self.rows.writerow([*first, number, *face["box"], *cells, None])
        if not len(seen.probabilities):
            self.rows.writerow([*first, *[None] * (len(COLUMNS) + len(self.classes) - 3), frame.error])

    def close(self) -> None:
        """Nothing follows the last row."""


class Json:
    """A list of pictures or frames, each with its faces; what could not be read has an error instead."""

    def __init__(self, file: TextIO, classes: Sequence[str]):
        self.file, self.classes, self.empty = file, classes, True
        file.write("[")

    def add(self, seen: FrameResult) -> None:
        frame = seen.frame
        if frame.error:
            self._write({"file": shown(frame.name), "error": frame.error})
            return
        known = {"file": shown(frame.name), "height": frame.size[0], "width": frame.size[1]}
        known |= {} if frame.number is None else {"frame": frame.number, "seconds": round(frame.seconds, 4)}
        known |= {"note": frame.note} if frame.note else {}
        self._write(known | {"faces": records(seen, self.classes)})

    def _write(self, record: dict) -> None:
        self.file.write(("\n" if self.empty else ",\n") + json.dumps(record, ensure_ascii=False))
        self.empty = False

    def close(self) -> None:
        self.file.write("\n]\n")


class AnnotationWriter:
    """Pictures with boxes and bars in a folder, under the names that they have below theirs; a video as one .mp4.

    Args:
        folder: where to.
        root: the folder that names begin below.
        classes: the class names, K of them, in the order of the probabilities.
        rate: frames per second of a video; None for pictures.
        say: told of a file and why it is not drawn; other pictures go on, a video is drawn no further.
    """

    def __init__(
        self, folder: Path, root: Path, classes: Sequence[str], rate: Fraction | None, say: Callable[[str, str], None]
    ):
        self.folder, self.root, self.classes, self.rate, self.say = folder, root, classes, rate, say
        self.recording: Recording | None = None
        self.broken, self.targets = "", dict[Path, Path]()

    def add(self, seen: FrameResult) -> None:
        if not (self.broken or seen.frame.error):
            self._try(seen.frame.name, self._add, seen)

    def _try(self, name: str, do: Callable, *words) -> None:
        try:
            do(*words)
        except (ValueError, OSError, MemoryError) as error:
            self.broken = name if self.rate is not None else ""
            self.say(name, f"not drawn: {format_error(error, inside=True)}.")

    def _add(self, seen: FrameResult) -> None:
        frame = seen.frame
        drawn = draw(frame.picture, frame.boxes, seen.probabilities, self.classes)
        target = self.targets.get(Path(frame.name)) or self.place(Path(frame.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.rate is None:
            exif = Image.Exif()
            exif[SOFTWARE] = DRAWN
            Image.fromarray(drawn).save(target, quality=92, exif=exif)
            return
        if self.recording is None:
            if self.foreign_file(target):  # a camera's; those of files are planned
                raise ValueError(f"{target} is there, and no drawing")
            self.recording = Recording(target, self.rate)
        self.recording.add(drawn, frame.seconds)

    def plan(self, files: Iterable[Path]) -> None:
        """Choose a place of its own for each file's drawing; .png comes twice where another one has the place.

        Raises:
            ValueError: it would replace a file that is read, or one that this program has not drawn.
        """
        read, taken = {identity(path): path for path in files}, set()
        for path in sorted(files, key=lambda path: self.place(path).name != path.name):  # first those that keep theirs
            target = self.place(path)
            while identity(target) in taken:
                target = target.with_name(f"{target.name}.png")
            if known := read.get(identity(target)) or self.foreign_file(target):
                raise ValueError(f"--draw: {shown(known)} would be overwritten. Give another folder.")
            taken.add(identity(target))
            self.targets[path] = target

    def place(self, path: Path) -> Path:
        """Return where the drawing of a file goes if no other one is there."""
        below = path.relative_to(self.root) if path.is_relative_to(self.root) else Path(path.name)
        kinds = (".mp4",) if self.rate is not None else (".jpg", ".jpeg", ".png")
        target = self.folder / below
        if below.suffix.lower() not in kinds:
            target = target.with_name(target.name.replace(":", "-") + (".mp4" if self.rate is not None else ".png"))
        return target

    def foreign_file(self, target: Path) -> Path | None:
        """Return a target that is there and no drawing of this program."""
        ours = is_drawing if self.rate is None else is_recording
        return target if target.is_file() and target.stat().st_size and not ours(target) else None

    def close(self) -> None:
        if self.recording is not None and not self.broken:
            self._try(str(self.recording.path), self.recording.close)


class TableWriter:
    """The table that is printed at the end, and how often each expression was seen."""

    def __init__(self, classes: Sequence[str], root: Path, rows: bool):
        self.classes, self.root, self.wanted, self.rows = classes, root, rows, list[list]()
        self.counts, self.frames, self.left_out, self.without = Counter[str](), 0, 0, 0

    def add(self, seen: FrameResult) -> None:
        name = seen.frame.name
        if seen.frame.error:  # was said when it came up
            return
        path = Path(name)
        name = shown(path.relative_to(self.root) if path.is_relative_to(self.root) else name)
        faces = records(seen, self.classes)
        self.frames += 1
        self.without += not faces
        self.counts.update(face["expression"] for face in faces)
        rows = [(name, " ".join(f"{v:.0f}" for v in f["box"]), f["expression"], f["probability"]) for f in faces]
        rows = rows or [(name, "no face found", "", None)]
        room = max(0, ROWS - len(self.rows)) if self.wanted else 0
        self.rows += rows[:room]
        self.left_out += len(rows[room:]) if self.wanted else 0

    def close(self) -> None:
        """The table is printed by whoever asks for it."""

    def table(self) -> Table:
        table = Table(box=SIMPLE, collapse_padding=True, pad_edge=False)
        table.add_column("file", overflow="fold")
        table.add_column("box: x y width height", no_wrap=True)
        table.add_column("expression", no_wrap=True)
        table.add_column("probability", no_wrap=True)
        for name, box, expression, probability in self.rows:
            table.add_row(Text(name), box, expression, "" if probability is None else bar(probability, 10))
        return table

    def messages(self) -> list[str]:
        """Return what is to be said below the table."""
        total = sum(self.counts.values())
        lines = [f"{self.left_out:,} more rows: --csv FILE has them all"] if self.left_out else []
        shares = [f"{name} {count:,} ({count / total:.0%})" for name, count in self.counts.most_common()]
        return lines + ([f"{_faces(total)}: {', '.join(shares)}"] if total else ["no face found"])


def _faces(number: int) -> str:
    return f"{number:,} face{'' if number == 1 else 's'}"


def bar(share: float, letters: int) -> str:
    """Return a bar of blocks for a share in [0, 1], and its percent."""
    full, eighths = divmod(round(share * letters * 8), 8)
    return f"{('█' * full + ('', *'▏▎▍▌▋▊▉')[eighths]).ljust(letters)} {share:4.0%}"


def live(seen: FrameResult, classes: Sequence[str], rate: float) -> Text:
    """Return what a terminal shows of a camera: bars of the three largest faces, and frames per second."""
    lines = [f"{rate:.1f} frames/s, {_faces(len(seen.probabilities))}; Ctrl-C ends"]
    for k in np.argsort(-seen.frame.boxes[:, 2:].prod(1))[:3]:
        lines.append(f"face {k + 1}")
        best = seen.probabilities[k].argmax()
        for j, name in enumerate(classes):
            lines.append(f"{'>' if j == best else ' '} {name:<10} {bar(float(seen.probabilities[k][j]), BAR)}")
    return Text("\n".join(lines))
