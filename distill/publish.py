"""An exported run as the folder that a model hub takes: python -m distill.publish RUN DIR

RUN is a run folder that python -m distill.export has been through. Written to DIR, all of it or nothing:
  README.md                        the model card
  model.safetensors, config.json   weights and config: distill.export.load(DIR); timm reads a timm student's, too
  model.onnx, model.int8.onnx      what the export holds of ONNX and OpenVINO (model.xml, model.bin)
  preprocessor_config.json         how a picture is prepared; the ONNX files do it themselves
  --compact                        weights in float16, measured anew on validation, and of the others model.int8.onnx alone
  --overwrite                      replace a folder that holds other files
  --teacher                        of any finished run, no export is needed: weights in float16 and their card, to teach with:
                                   teacher.weights=DIR/model.safetensors teacher.train.epochs=0
Nothing of it is or holds a pickle: student.pt2, whose example input is one, stays in RUN/export/.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from rich.box import SIMPLE
from rich.table import Table

from distill.augment.views import LUMA
from distill.export import float16_teacher, load
from distill.export.card.card import card, exported
from distill.export.job import rounded_weights
from distill.export.options import Options
from distill.export.weights_and_config import PUBLISHED, WEIGHTS
from distill.runs.published import CONFIG, OURS, published_config
from distill.system.cli import command_line, parser, user_path
from distill.system.console import console, loud_warnings
from distill.system.files import sha256, write_json
from distill.system.hardware import set_threads

CARD, PREPARATION = "README.md", "preprocessor_config.json"
NAMES = {  # file of the export -> its name in the folder
    WEIGHTS: PUBLISHED,
    CONFIG: CONFIG,
    "student.onnx": "model.onnx",
    "student.int8.onnx": "model.int8.onnx",
    "student.xml": "model.xml",
    "student.bin": "model.bin",
}
COMPACT = (WEIGHTS, CONFIG, "student.int8.onnx")
BILINEAR = 2  # as PIL numbers it


def publish(folder: Path, target: Path, overwrite: bool, compact: bool = False) -> dict:
    """Write the folder that a model hub takes, all of it or nothing.

    Args:
        folder: the run folder, exported.
        target: where to; empty, not there yet, or an earlier publication of this run.
        overwrite: replace other files in it, too.
        compact: weights rounded to float16, and of the other files the int8 ONNX alone.

    Returns:
        export/parity.json.

    Raises:
        ValueError: the run is not finished, not exported or damaged, or the target holds something else; compact: its data are
            gone, or it was exported without int8.
    """
    _, parity, recorded = exported(folder)
    names = {name: NAMES[name] for name in recorded if name in (COMPACT if compact else NAMES)}
    with _replacing(target, folder, parity["run"], overwrite) as new:
        for name, value in recorded.items():
            source = folder / "export" / name
            copy = new / names[name] if name in names else None
            if not source.is_file():
                raise ValueError(f"{source}: missing. Type python -m distill.export {quote(str(folder))}")
            if copy:
                shutil.copyfile(source, copy)
            if sha256(copy or source) != value:
                raise ValueError(
                    f"{source}: damaged or changed, it is not the file that passed the gate. "
                    f"Type python -m distill.export {quote(str(folder))}"
                )
        for needed in COMPACT if compact else (WEIGHTS,):
            if needed not in names:
                why = "refused by the gate" if needed in parity["refused"] else "export.int8=false"
                raise ValueError(f"{folder}/export: holds no {needed} ({why}). Export this run again.")
        rounded = None
        if compact:
            rounded = rounded_weights(folder, new.parent, Options(**parity["options"]))
            for name in (WEIGHTS, CONFIG):
                os.replace(new.parent / name, new / names[name])
        (new / CARD).write_text(card(folder, names, rounded, target.name), encoding="utf-8")
        write_json(new / PREPARATION, preparation(json.loads(parity["facts"]["network_input"])))
        plugins = published_config(new)["plugins"]  # of the run, which is one's own
        load(new if compact else folder / "export", plugins)
    return parity


def publish_teacher(folder: Path, target: Path, overwrite: bool) -> dict:
    """Write the folder of float16 weights that a finished run teaches with, all of it or nothing; see float16_teacher.write.

    Args:
        folder: the run folder.
        target: where to; empty, or not there yet.
        overwrite: replace files in it, too.

    Returns:
        What its config.json holds.

    Raises:
        ValueError: the run is not finished, its data are gone, or the target holds something.
    """
    with _replacing(target, folder, None, overwrite) as new:
        return float16_teacher.write(folder, new, [])


@contextmanager
def _replacing(target: Path, folder: Path, run: str | None, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder whose files, once all are written, replace those of the target; refuse one of something else."""
    _refuse_target(folder.resolve(), target, run, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        _swap(new, target, Path(temporary) / "old")


def _refuse_target(folder: Path, target: Path, run: str | None, overwrite: bool) -> None:
    """Refuse a place that holds something else than an earlier publication of this run; without a run, anything."""
    if target == folder or target in folder.parents or folder in target.parents:
        raise ValueError(
            f"{target}: is, holds or lies in the run folder. Give another folder, such as {folder.name}-hub"
        )
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target}: is a file. Give a folder.")
    entries = sorted(target.iterdir())
    if inner := [entry.name for entry in entries if entry.is_dir()]:
        raise ValueError(
            f"{target}: holds folders ({', '.join(inner[:3])}), which are never deleted here. Give another folder."
        )
    strange = [entry.name for entry in entries if entry.name not in (*NAMES.values(), CARD, PREPARATION)]
    earlier = None
    with suppress(ValueError):  # none, or of another tool
        earlier = published_config(target)["facts"].get("run")
    if entries and (strange or not run or earlier != run) and not overwrite:
        why = f"is not of {run}" if run else "is not empty"
        what = f"holds other files ({', '.join(strange[:3])})" if strange else why
        raise ValueError(f"{target}: {what}. Give another folder, or --overwrite to replace all that is in it.")


def preparation(spec: dict) -> dict:
    """Return how a picture becomes the network's input, in the words of the hub's image processors.

    Args:
        spec: size, channels, mean and std.
    """
    mean, std = (spec[key] * spec["channels"] if len(spec[key]) == 1 else spec[key] for key in ("mean", "std"))
    gray = f"gray = {LUMA[0]} R + {LUMA[1]} G + {LUMA[2]} B, then " if spec["channels"] == 1 else ""
    return {
        "do_resize": True,
        "size": {"height": spec["size"], "width": spec["size"]},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "num_channels": spec["channels"],
        OURS: f"{gray}the mean over whole blocks of floor(min(H, W) / {spec['size']}) pixels, then bilinear. The ONNX files hold "
        "all of this: their input is uint8 [B, H, W, 3], RGB.",
    }


def _swap(new: Path, target: Path, old: Path) -> None:
    """Replace a folder's files by another one's; the folder itself stays, as a shell may be in it."""
    if not target.exists():
        os.rename(new, target)
        return
    old.mkdir()
    moved = []
    try:
        for source, folder in ((target, old), (new, target)):
            for path in sorted(source.iterdir()):
                os.rename(path, folder / path.name)
                moved.append((path, folder / path.name))
    except BaseException:
        for path, there in reversed(moved):
            os.rename(there, path)
        raise


def show(parity: dict, target: Path) -> None:
    """Print what lies in the folder, and the line that loads it."""
    table = Table(box=SIMPLE, collapse_padding=True, pad_edge=False)
    table.add_column("file", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for path in sorted(target.iterdir()):
        table.add_row(path.name, f"{path.stat().st_size:,}")
    console.print(table)
    for name, message in parity["refused"].items():
        console.print(f"left out, {name}: {message}")
    console.print(f"license of the data: {parity['facts']['license_of_the_data']}")
    console.print(f"folder: {target}")
    console.print(f"next: from distill.export import load; student = load({str(target)!r})")


@command_line()
def main(words: list[str]) -> None:
    """Read the command line and do what it asks for; user errors are printed as one line, exit code 1.

    Raises:
        ValueError: the folder cannot be written.
    """
    options = parser("python -m distill.publish", __doc__)
    options.add_argument("run", type=user_path, metavar="RUN")
    options.add_argument("folder", type=lambda word: user_path(word).resolve(), metavar="DIR")
    options.add_argument("--overwrite", action="store_true")
    kinds = options.add_mutually_exclusive_group()
    for kind in ("--compact", "--teacher"):
        kinds.add_argument(kind, action="store_true")
    args = options.parse_args(words)
    loud_warnings()
    set_threads(None)
    try:
        if args.teacher:
            facts = publish_teacher(args.run, args.folder, args.overwrite)
        else:
            parity = publish(args.run, args.folder, args.overwrite, args.compact)
    except OSError as error:
        raise ValueError(f"{args.folder}: cannot be written ({error.strerror}). Give another folder.") from error
    if args.teacher:
        console.print(f"folder: {args.folder}, test top-1 {facts['test']['top1_accuracy']:.2%}")
    else:
        show(parity, args.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
