"""One command of python -m distill.predict: what is looked at, by whom, where answers go, and what went wrong."""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from os.path import abspath, commonpath
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import Progress

from distill.data.common.walker import NAMES, is_picture, left_out_message, shown
from distill.predict import video
from distill.predict.boxes import check_inside, read_boxes, squares, whole_picture
from distill.predict.detector import DETECTORS, open_detector
from distill.predict.output import AnnotationWriter, Csv, Json, TableWriter, live, opened
from distill.predict.pictures import listed, read
from distill.predict.pipeline import FACES, Frame, run_inference
from distill.predict.student import open_student
from distill.system.console import bar


def _check_targets(options: argparse.Namespace, paths: list[Path]) -> None:
    """Raise ValueError where an output would replace an input or another output."""
    homes = [path.resolve() for path in paths]
    if options.draw and paths[0].is_dir() and options.draw.resolve() in (homes[0], *homes[0].parents):
        raise ValueError(
            f"--draw: drawings in {options.draw} could overwrite pictures of {paths[0]}. Give another folder."
        )
    words = [word for word in (options.boxes, options.student, options.detector) if word and str(word) not in DETECTORS]
    taken = {*homes, *(Path(word).expanduser().resolve() for word in words)}
    for option, word, kind in (("--csv", options.csv, ".csv"), ("--json", options.json, ".json")):
        file = Path(word or "-").expanduser()
        if word in (None, "-"):
            continue
        if file.resolve() in taken:
            raise ValueError(f"{file} is named twice. Give --csv and --json files that nothing else is read from.")
        if file.is_file() and file.stat().st_size and file.resolve().suffix.lower() != kind:
            raise ValueError(
                f"{file} is there and no {kind} file, which {option} does not overwrite. Give another file."
            )
        taken.add(file.resolve())


class Job:
    """One command: what is looked at, by whom, and what went wrong on the way.

    Args:
        options: the command line.

    Raises:
        ValueError: it cannot begin.
    """

    def __init__(self, options: argparse.Namespace):
        self.options, self.failed, self.stopped, self.done = options, 0, False, 0
        self.errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        first = options.paths[0]
        self.index = None if Path(first).exists() or len(options.paths) > 1 else video.camera_index(first)
        self.paths = list(dict.fromkeys(Path(word).expanduser() for word in options.paths))
        self.path = self.paths[0]
        _check_targets(options, self.paths)
        self.files, self.opened, others = self._files()
        self.root = self.path if self.path.is_dir() else self.path.parent
        if len(self.paths) > 1:  # absolute: no .. of a path leads out of --draw
            self.root = Path(commonpath(abspath(path.parent) for path in self.paths))
        self.given = read_boxes(options.boxes, self.root) if options.boxes else None
        if self.opened and (options.crops or options.boxes):
            raise ValueError("--crops and --boxes are for pictures. Leave them out for a video or a camera.")
        self.student = open_student(options.student, options.threads)
        if not (options.crops or options.boxes):
            source = "pictures" if not self.opened else "video" if self.index is None else "camera"
            words = (options.threads, options.size, options.threshold, options.smallest, source)
            self.detector = open_detector(str(options.detector), *words)
        if others:
            self.errors.print(left_out_message(others), style="dim")

    def _files(self) -> tuple[list[Path], video.OpenVideo | None, dict[str, list]]:
        """Return pictures, or an opened video or camera; and what is left out."""
        if len(self.paths) > 1:
            for path in self.paths:
                if not path.is_file() or not is_picture(str(path)):
                    what = "is no picture" if path.exists() else "no such file"
                    raise ValueError(
                        f"{shown(path)}: {what}. Give pictures alone, or one folder, one video or one camera."
                    )
            return self.paths, None, {}
        if self.index is not None:
            source = video.camera(self.index)
        elif self.path.is_dir():
            files, others = listed(self.path, self.options.draw)
            if not files:
                raise ValueError(f"{shown(self.path)}: no picture is in this folder ({', '.join(NAMES)}).")
            return files, None, others
        elif not self.path.is_file():
            what = "is neither file nor folder" if self.path.exists() else "no such file or folder"
            raise ValueError(f"{shown(self.path)}: {what}. Give a picture, a folder, a video or camera.")
        elif is_picture(str(self.path)):
            return [self.path], None, {}
        else:
            source = video.Source(str(self.path), None, str(self.path))
        try:
            return [], video.open_source(source), {}
        except ValueError as error:
            raise ValueError(f"{shown(source.name)}: {error}.") from None

    @property
    def total(self) -> int | None:
        """How many pictures or frames there will be, or None."""
        if not self.opened:
            return len(self.files)
        return min((n for n in (self.opened.total, self.options.frames) if n), default=None)

    def say(self, name: str, message: str) -> None:
        """Say what went wrong with a file, for people alone."""
        self.failed += 1
        self.errors.print(f"error: {shown(name)}: {message}")

    def unread(self, name: str, message: str) -> Frame:
        """Say what cannot be read, and return what stands in its place; the rest goes on."""
        self.say(name, message)
        return Frame(name, None, (0, 0), np.zeros((0, 4)), None, error=shown(message))

    def _pictures(self) -> Iterator[Frame]:
        missing = set(self.given or ()) if self.path.is_dir() else set()  # one picture has its own rows alone
        for path in self.files:
            missing.discard(abspath(path))
            try:
                picture, note = read(path)
                boxes, scores = self.boxes(picture, path)
            except (ValueError, OSError) as error:
                yield self.unread(str(path), f"{str(error).rstrip('.')}.")
                continue
            if note:
                self.errors.print(f"{shown(path)}: {note}", style="dim")
            yield Frame(str(path), picture, picture.shape[:2], boxes, scores, note=note)
        for name in sorted(missing):
            yield self.unread(name, f"{self.options.boxes} has boxes for it, but there is no such picture.")

    def _frames(self) -> Iterator[Frame]:
        name = self.options.paths[0] if self.index is not None else str(self.path)
        try:
            for number, (picture, seconds) in enumerate(islice(self.opened.frames, self.options.frames)):
                boxes, scores = self.boxes(picture, None)
                yield Frame(name, picture, picture.shape[:2], boxes, scores, number, seconds)
        except ValueError as error:
            yield self.unread(name, f"{error}.")

    def boxes(self, picture: np.ndarray, path: Path | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the boxes in a picture, [N, 4], and the detector's scores or None."""
        if self.options.crops:
            return whole_picture(picture), None
        if self.given is not None:
            boxes = self.given.get(abspath(path), whole_picture(picture)[:0])
            check_inside(boxes, picture)
            return boxes, None
        boxes, scores = self.detector(picture)
        return squares(boxes, self.options.margin), scores

    def run(self, out: Console) -> TableWriter:
        """Look at everything, or as far as Ctrl-C lets it, and write what is asked for."""
        options, classes = self.options, self.student.classes
        printed = TableWriter(classes, self.root, rows=not self.opened)
        with ExitStack() as stack:
            sinks = [printed]
            if options.draw:
                rate = self.opened.rate if self.opened else None
                drawn = AnnotationWriter(options.draw, self.root, classes, rate, self.say)
                if self.index is None:
                    drawn.plan(self.files or [self.path])
                options.draw.mkdir(parents=True, exist_ok=True)
                sinks.append(drawn)
            for path, kind in ((options.csv, Csv), (options.json, Json)):
                if path:
                    sinks.append(kind(stack.enter_context(opened(path)), classes))
            for sink in sinks:
                stack.callback(sink.close)
            try:
                self._go(sinks, out)
            except KeyboardInterrupt:
                self.stopped = True
                self.errors.print("stopped; what was seen until here is kept", style="dim")
        return printed

    def _go(self, sinks: list[Csv | Json | AnnotationWriter | TableWriter], out: Console) -> None:
        watching = self.index is not None
        frames = self._frames() if self.opened else self._pictures()
        seen = run_inference(frames, self.student, bool(self.options.draw), 1 if watching else FACES)
        start, hidden = time.perf_counter(), not self.errors.is_terminal
        shows = Live(console=out, transient=True) if watching else None
        with shows or Progress(*bar().columns, console=self.errors, transient=True, disable=hidden) as screen:
            task = None if watching else screen.add_task("frames" if self.opened else "pictures", total=self.total)
            for one in seen:
                for sink in sinks:
                    sink.add(one)
                self.done += 1
                if watching:
                    rate = self.done / (time.perf_counter() - start)
                    screen.update(live(one, self.student.classes, rate), refresh=True)
                else:
                    screen.advance(task)
