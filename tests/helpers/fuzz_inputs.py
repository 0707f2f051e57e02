"""Hostile inputs: python tests/helpers/fuzz_inputs.py [COUNT] [SEED] tries mutated words, files, folders and environments of the commands.

Each input is a process of its own, forked off this one, which has imported all there is. Counted are tracebacks, bugs (the line
that names the file of a traceback), deaths by a signal, and failures without a word. Files of the inputs lie in a temporary folder.
"""

import argparse
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from commandline import ROOT
from PIL import Image

WRONG = re.compile(
    r"Traceback|this is a bug|error: ('[\w-]+' codec|Expecting |Extra data|invalid literal)"
)  # or no file is named
SECONDS = 60  # of one input; those that take longer are ended, and are no mistake
SMALL = (
    "data.train=16",
    "data.valid=8",
    "data.test=8",
    "student=microexpnet",
    "student.size=36",
    "teacher=none",
    "loss=[ce]",
)
SMALL += ("loss.ce.weight=1", "train.epochs=1", "train.batch_size=8")
SMALL += ("train.threads=1", "logger=none", "paths.runs=runs")
COMMANDS = {  # name -> (module, its main, words that work)
    "run": ("distill.run", SMALL),
    "measure": ("distill.measure", ("run", "data=procedural", "data.test=8", "data.seed=3", "eval.tta=mirror")),
    "export": ("distill.export.__main__", ("run", "export.int8=false", "export.calibration=8")),
    "publish": ("distill.publish", ("run", "hub", "--overwrite")),
    "report": ("distill.report.__main__", ("run", "--format", "md", "--out", "page")),
    "predict": (
        "distill.predict.__main__",
        ("faces", "--csv", "o.csv", "--boxes", "boxes.csv", "--student", "ferlite_s"),
    ),
    "serve": ("distill.serve.__main__", ("run", "--write", "site", "--ort", "faces", "--port", "0")),
    "bench": ("distill.bench", ("no.onnx", "--seconds", "0.01", "--rounds", "1")),
    "sweep": ("distill.sweep.__main__", ("sweep=optuna", "sweep.run_cap=0", "sweep.jobs=1", "paths.runs=runs")),
}
COMMANDS["own"] = ("distill.run", (*SMALL[3:], "data=folder", "data.root=own", "data.size=36"))
COMMANDS["taught"] = ("distill.run", (*SMALL[:5], *SMALL[8:], "teacher=run", "teacher.run=published", "loss=[ce,kd]"))
COMMANDS["started"] = ("distill.run", (*COMMANDS["own"][1], "student.weights=run/checkpoints/best.safetensors"))
KEYS, VALUES, FLAGS = (
    block.split()
    for block in (ROOT / "tests" / "helpers" / "hostile_words.txt").read_text(encoding="utf-8").split("\n\n")
)
VALUES += ["", "a b", '"', "日本", "\udcff", "a\nb", "\\", "x" * 300, "9" * 30]
ENVIRONMENTS = (
    {},
    {},
    {},
    {"HOME": None},
    {"TMPDIR": "/nonexistent"},
    {"FER_DISTILL_STORE": "boxes.csv"},
    {"COLUMNS": "0"},
    {"FER_DISTILL_STORE": "/dev/null/x"},
    {"OMP_NUM_THREADS": "abc"},
    {"WANDB_MODE": "banana"},
    {"WORLD_SIZE": "2", "RANK": "x"},
    {"TERM": "dumb"},
    {"FER_DISTILL_STORE": ""},
    {"PATH": ""},
    {"FER_DISTILL_JOB": "boxes.csv"},
    {"HYDRA_FULL_ERROR": "0"},
    {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
)
CONTENTS = (
    b"",
    b"\0" * 64,
    b"{}",
    b"[]",
    b"null",
    b'"x"',
    b"{",
    b"\xff\xfe\0",
    b"status: complete",
    b'{"status": "complete"}',
    b'a,b\n"c',
)


def damaged(folder: Path, draw: random.Random) -> str:
    """Damage one file below a folder, and say how."""
    path = draw.choice(sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()))
    kind = draw.choice(("cut", "flip", "content", "gone", "folder", "link"))
    data = path.read_bytes()
    if kind == "cut":
        path.write_bytes(data[: draw.randrange(len(data) + 1)])
    elif kind == "flip":
        at = draw.randrange(len(data) + 1)
        path.write_bytes(data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :])
    elif kind == "content":
        path.write_bytes(draw.choice(CONTENTS))
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to("nowhere")
    return f"{kind} {path.relative_to(folder)}"


NAMES = (
    b"\xff\xfe.png",
    b"a\nb.png",
    b"'\"$(x).png",
    b"[red].png",
    "日本.jpg".encode(),
    b"x" * 240 + b".png",
    b" .png",
    b"-m.png",
    b".x.png",
)
NAMES += (b".ipynb_checkpoints/0.png", b"deep/er/0.png", b"x.eps", b"x.txt", b"no_suffix", b"x.PNG.part")
PICTURES = (
    ("RGBA", "PNG"),
    ("LA", "PNG"),
    ("P", "GIF"),
    ("1", "PNG"),
    ("I;16", "PNG"),
    ("F", "TIFF"),
    ("CMYK", "JPEG"),
    ("L", "WEBP"),
    ("RGB", "PPM"),
)


def odd_file(folder: Path, draw: random.Random) -> str:
    """Put one odd file, link, pipe or picture into a folder, and say which."""
    kind, path = draw.choice(("pipe", "link", "picture", "picture", "bytes")), Path(os.fsdecode(draw.choice(NAMES)))
    path = folder / path
    if os.path.lexists(path):
        return "nothing"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        kind = draw.choice(("nowhere", "/dev/zero", "/dev/null", "..", "/proc/self", path.name, "0.png"))
        path.symlink_to(kind)
    elif kind == "bytes":
        path.write_bytes(
            draw.choice((*CONTENTS, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"GIF89a", b"\x89PNG\r\n\x1a\n"))
        )
    else:
        mode, form = draw.choice(PICTURES)
        Image.new(mode, draw.choice(((48, 48), (1, 1), (900, 2)))).save(path, form)
        kind = f"{mode} {form}"
    return f"{kind} as {path.name!r}"


def mutated(words: list[str], draw: random.Random) -> list[str]:
    """Return words of which some are changed, gone or added."""
    words = list(words)
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        kind, at = (
            draw.choice(("value", "value", "key", "key", "gone", "twice", "flag", "word")),
            draw.randrange(len(words) + 1),
        )
        if kind == "value" and at < len(words):
            key, equals, _ = words[at].partition("=")
            words[at] = f"{key}{equals}{draw.choice(VALUES)}" if equals else draw.choice(VALUES)
        elif kind in ("gone", "twice") and at < len(words):
            words[at : at + 1] = [] if kind == "gone" else [words[at], words[at]]
        else:
            more = {"key": f"{draw.choice(KEYS)}={draw.choice(VALUES)}", "flag": draw.choice(FLAGS)}
            words.insert(at, more.get(kind, draw.choice(VALUES)))
    return words


class Fuzz:
    """A folder with a finished run and faces, whose copies are damaged.

    Args:
        home: a folder.
    """

    def __init__(self, home: Path):
        self.home, self.base = home, home / "base"
        for module, _ in COMMANDS.values():
            importlib.import_module(module)
        (self.base / "faces" / "happy").mkdir(parents=True)
        for k in range(12):
            place = self.base / "own" / ("sad" if k % 2 else "happy") / f"{k}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 48), (20 * k, 99 * (k % 2), 7)).save(place)
        published = self.base / "published"
        published.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(ROOT / "distill" / "shipped" / "microexpnet" / name, published)
        for k in range(3):
            Image.new("RGB", (48, 48), (80 * k, 99, 99)).save(self.base / "faces" / "happy" / f"{k}.png")
        (self.base / "boxes.csv").write_text("happy/0.png,1,1,30,30\n", encoding="utf-8")
        code, printed = self.ended("run", [*SMALL, "paths.run=run"], {}, self.base)
        assert code == 0, printed

    def ended(self, name: str, words: list[str], env: dict, cwd: Path, outputs: str = "") -> tuple[int, str]:
        """Do a command in a process of its own; return its exit code and what it printed."""
        printed = self.home / "printed.txt"
        if (child := os.fork()) == 0:
            self._child(name, words, env, cwd, printed, outputs)
        deadline = time.monotonic() + SECONDS
        while not (done := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return 124, ""
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(done[1]), printed.read_text(encoding="utf-8", errors="replace")

    def _child(self, name: str, words: list[str], env: dict, cwd: Path, printed: Path, outputs: str) -> None:
        code = 70
        try:
            os.setsid()
            file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 2)
            os.dup2(os.open("/dev/full", os.O_WRONLY) if outputs == "full" else file, 1)
            sys.stdout, sys.stderr = open(1, "w", encoding="utf-8"), open(2, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
            os.chdir(cwd)
            store = {
                "FER_DISTILL_STORE": str(self.home / "store"),
                "HOME": str(self.home),
                "WANDB_MODE": "offline",
                "HF_HUB_OFFLINE": "1",
            }
            for key, value in (store | env).items():
                os.environ.pop(key, None) if value is None else os.environ.update({key: value})
            module = importlib.import_module(COMMANDS[name][0])
            sys.argv = [name, *words]
            module.cli() if COMMANDS[name][0] == "distill.run" else module.main(words)
            code = 0
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
            code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stderr, sys.stdout):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def tried(self, seed: int) -> str | None:
        """Try the input of a seed; return what went wrong, or None."""
        draw = random.Random(seed)
        name = draw.choice(("run", "run", "run", "measure", "measure", *COMMANDS))
        cwd = self.home / "case"
        shutil.rmtree(cwd, ignore_errors=True)
        shutil.copytree(self.base, cwd)
        harms = draw.choice((0, 0, 1, 1, 2)) if name not in ("run", "sweep", "own") else draw.choice((0, 0, 0, 1))
        said = [damaged(cwd, draw) for _ in range(harms)]
        folder = {"predict": "faces", "own": "own/happy", "started": "own/happy"}.get(name)
        said += [odd_file(cwd / folder, draw) for _ in range(draw.choice((0, 1, 2)))] if folder else []
        words, env = mutated(list(COMMANDS[name][1]), draw), draw.choice(ENVIRONMENTS)
        outputs = draw.choice(("", "", "", "", "full"))
        code, printed = self.ended(name, words, env, cwd, outputs)
        silent = code not in (0, 124) and not printed.strip()
        if not WRONG.search(printed) and code in (0, 1, 2, 124, 130) and not silent:
            return None
        return f"seed {seed}: exit code {code}: {name} {words!r} {env} {said} {outputs}\n{printed[-1500:]}"


def main(count: int, first: int) -> int:
    """Try inputs; print what went wrong, and return how many did."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        fuzz = Fuzz(Path(folder))
        wrong = 0
        for seed in range(first, first + count):
            if told := fuzz.tried(seed):
                wrong += 1
                print(told, flush=True)
    print(f"{count} inputs, {wrong} of them with a traceback or a bug")
    return wrong


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("count", type=int, nargs="?", default=1000)
    options.add_argument("seed", type=int, nargs="?", default=0, help="of the first input; each has the next")
    asked = options.parse_args()
    sys.exit(min(main(asked.count, asked.seed), 1))
