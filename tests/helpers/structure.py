"""How the code is built, in numbers, to compare a before with an after: python tests/helpers/structure.py

Lines and files, rooms at the root of distill, own frames between the command and the first loss value (of a real, tiny
training), functions that take the whole config, and private functions that are used once.
"""

import ast
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("distill", "teachers", "students")
TEXTS = (".py", ".css", ".js", ".html", ".yaml", ".md", ".jinja")
WHOLE = ("DictConfig", "RunConfig")  # types of a run's config; before there were any, its name was cfg
TINY = ("data=procedural", "data.train=64", "data.valid=64", "data.test=64", "student=microexpnet", "train.epochs=1")
TINY += ("train.batch_size=32", "teacher=none", "loss=[ce]", "logger=none")


def files(folder: str, endings: tuple[str, ...] = TEXTS) -> list[Path]:
    """Return the text files of a folder, without what is shipped or cached."""
    found = (ROOT / folder).rglob("*")
    return sorted(path for path in found if path.suffix in endings and not {"shipped", "__pycache__"} & {*path.parts})


def rooms() -> tuple[int, int]:
    """Return the modules and the folders at the root of distill."""
    here = [path for path in (ROOT / "distill").iterdir() if path.name not in ("__init__.py", "__pycache__")]
    folders = [path for path in here if any(inner.name != "__pycache__" for inner in path.glob("*"))]
    return sum(path.suffix == ".py" for path in here), len(folders)


def functions() -> list[tuple[Path, ast.FunctionDef]]:
    """Return every function and method of the product."""
    return [
        (path, node)
        for package in PRODUCT
        for path in files(package, (".py",))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def takes_whole_config(node: ast.FunctionDef) -> bool:
    """Say whether an argument is a run's config."""
    asked = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return any(a.arg == "cfg" or (a.annotation and ast.unparse(a.annotation).endswith(WHOLE)) for a in asked)


def used_once() -> tuple[int, int]:
    """Return the private functions that their own file names exactly once besides the definition, and all private functions."""
    uses = {
        path: Counter(getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(ast.parse(path.read_text())))
        for package in PRODUCT
        for path in files(package, (".py",))
    }
    private = [(path, node.name) for path, node in functions() if node.name.startswith("_") and node.name[1] != "_"]
    return sum(uses[path][name] == 1 for path, name in private), len(private)


def frames() -> list[str]:
    """Return the project's functions on the stack when a tiny training asks a loss for its first value."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"paths.store={folder}/store", f"paths.runs={folder}/runs"]
        done = subprocess.run(
            [sys.executable, __file__, *TINY, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    found = [line.removeprefix("FRAME ") for line in done.stdout.splitlines() if line.startswith("FRAME ")]
    assert found, done.stderr
    return found


def watch(words: list[str]) -> None:
    """Do the training of some words, say which of the project's functions lead to a loss, and end there."""
    import os
    import runpy

    def call(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if (
            event != "call"
            or frame.f_code.co_name != "forward"
            or path.parent.name != "losses"
            or path.stem == "objective"
        ):
            return
        while frame:
            code = frame.f_code
            if Path(code.co_filename).is_relative_to(ROOT) and code.co_filename != __file__ and code.co_name[0] != "<":
                place = Path(code.co_filename).relative_to(ROOT)
                print(f"FRAME {place}:{code.co_name}", flush=True)
            frame = frame.f_back
        os._exit(0)

    sys.path.insert(0, str(ROOT))
    sys.argv = ["run", *words]
    from distill.losses.base.objective import Objective

    forward = Objective.forward

    def watched(self, *args):
        sys.setprofile(call)  # here and not before: it slows all that is done until then
        return forward(self, *args)

    Objective.forward = watched
    runpy.run_module("distill.run", run_name="__main__")


def main() -> None:
    """Print one line per number."""
    for folder in (*PRODUCT, "conf", "tests"):
        found = files(folder)
        lines = sum(len(path.read_text().splitlines()) for path in found)
        print(f"{folder:10} {lines:6} lines in {len(found)} files")
    modules, folders = rooms()
    print(f"rooms at the root of distill: {modules} modules + {folders} folders = {modules + folders}")
    defined = [node for _, node in functions()]
    whole = sum(map(takes_whole_config, defined))
    print(f"functions: {len(defined)}, of which {whole} take the whole config")
    print("private functions used exactly once: {} of {}".format(*used_once()))
    stack = frames()
    print(f"own frames from the command to a loss value: {len(stack)}")
    print("".join(f"    {line}\n" for line in reversed(stack)), end="")


if __name__ == "__main__":
    watch(sys.argv[1:]) if len(sys.argv) > 1 else main()
