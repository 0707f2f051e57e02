"""Of which code a run was made: the SHA-256 of the sources of its classes, and the git commits that they lie in."""

import ast
import hashlib
import json
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path

from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.system.console import console

OWN = ("distill", "students", "teachers")
KINDS = ("students.", "teachers.", "distill.losses.", "distill.data.", "distill.models.")  # whose imports are followed
INSTALLED = {"site-packages", "dist-packages"}  # folders of others' packages, which env.json names by their versions
SECONDS = 10  # that git may take
SHOWN = 5  # modules that one message names


def sources(components: dict, plugins: Sequence[str]) -> dict[str, str]:
    """Return module -> SHA-256 of its source: of every class that is named, and of what these import of their own kind.

    Args:
        components: see RunConfig; at any depth.
        plugins: packages besides this project's whose sources count, and those of the modules that lie beside them.
    """
    packages = {name.partition(".")[0] for name in plugins}.difference(OWN)
    beside = {folder for name in packages if (folder := _folder_of(name)) and INSTALLED.isdisjoint(folder.parts)}
    todo, hashes = [name for name in targets(components) if name.partition(".")[0] in {*OWN, *packages}], {}
    while todo:
        name, content = _source(todo.pop())
        if name is None or name in hashes:
            continue
        hashes[name] = hashlib.sha256(content).hexdigest()
        for other in _imports(name, content):
            top = other.partition(".")[0]
            if top in packages or f"{other}.".startswith(KINDS) or (top not in OWN and _folder_of(top) in beside):
                todo.append(other)
    return dict(sorted(hashes.items()))


def _folder_of(top: str) -> Path | None:
    """Return the folder that a package or module lies in, None where it is none or is built in."""
    spec = _spec(top)
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    path = Path(str(spec.origin))
    return path.parent.parent if path.name == "__init__.py" else path.parent


def targets(node: object) -> list[str]:
    """Return every _target_ in a node of a config, also those in its arguments."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
    here = [str(node["_target_"])] if isinstance(node, dict) and "_target_" in node else []
    return here + [target for value in inner for target in targets(value)]


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module is, None where it is not or where its package cannot be imported, which build says."""
    try:
        return find_spec(name)
    except Exception:
        return None


def _source(name: str) -> tuple[str | None, bytes]:
    """Return the module that a dotted name is or is in, and its source; None where there is no such file."""
    while name:
        if spec := _spec(name):
            file = Path(spec.origin or "")
            return (name, file.read_bytes()) if file.suffix == ".py" and file.is_file() else (None, b"")
        name = name.rpartition(".")[0]
    return None, b""


@cache  # runs of one process name the same modules
def _imports(module: str, source: bytes) -> list[str]:
    """Return every name that a module imports, relative ones resolved, and its parent packages."""
    spec = _spec(module)
    package = module if spec and spec.submodule_search_locations else module.rpartition(".")[0]
    names = [package]
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return names
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level <= package.count(".") + 1:
            base = resolve_name("." * node.level + (node.module or ""), package)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def warn_if_code_changed(folder: RunFolder, other: str = "paths.run") -> list[str]:
    """Say loudly, in one line, which code of a run was changed since it was made, and return it; none of a run without a record.

    Args:
        folder: of the run.
        other: the key that gives another folder.
    """
    then = recorded(folder) if folder.config.is_file() else {}
    if folder.config.is_file() and folder.env.exists() and not then:
        console.print(f"*** {folder.env}: damaged: nothing tells whether the code was changed since.", style="bold")
    now = _current(folder)[0] if then else {}
    if different := [name for name in sorted(then) if then[name] != now.get(name)]:
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        console.print(
            f"*** CODE CHANGED since {folder} was made: {', '.join(different[:SHOWN])}{more}. What lies there is of the code as it "
            f"was; to train with the code as it is, type {other}=ANOTHER_FOLDER, or delete that folder.",
            style="bold",
        )
    return different


def recorded(folder: RunFolder) -> dict[str, str]:
    """Return the sources that a run folder's env.json names, none where there is none."""
    try:
        return dict(json.loads(folder.env.read_text(encoding="utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def code(folder: RunFolder) -> dict[str, object]:
    """Return what env.json says of the code: git (package -> commit and dirty, None where no commit holds it) and sources.

    Args:
        folder: of the run, with its config; where it is complete its sources stay; where others go on with it, the earlier
            ones too.
    """
    then, (now, plugins) = recorded(folder), _current(folder)
    kept = {"sources": then} if then and folder.is_complete() else {"sources": now}
    if then and kept["sources"] != then:
        kept["earlier_sources"] = then
    return {"git": {name: git_state(name) for name in ("distill", *plugins)}, **kept}


def _current(folder: RunFolder) -> tuple[dict[str, str], list[str]]:
    """Return the sources of a run as they are today, and its plugins."""
    config = RunConfig.read(folder.config)
    return sources(config.components, config.plugins), config.plugins


def git_state(package: str) -> dict[str, object] | None:
    """Return commit and dirty (a tracked file differs from it) of the repository that a package is tracked in, or None."""
    try:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return None
        file = Path(spec.origin)
        git = ["git", "--no-optional-locks", "-C", str(file.parent)]
        _output_of([*git, "ls-files", "--error-unmatch", file.name])  # else it is that of whom it is installed for
        commit = _output_of([*git, "rev-parse", "HEAD"])
        return {"commit": commit, "dirty": bool(_output_of([*git, "status", "--porcelain", "--untracked-files=no"]))}
    except (OSError, ValueError, ImportError, AttributeError, TypeError, subprocess.SubprocessError):
        return None


def _output_of(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True, encoding="utf-8")
    return done.stdout.strip()
