"""Finds, in a syntax tree, what opens a text file without saying in which encoding."""

import ast
import re

MODES = {"open": 1, "TemporaryFile": 0, "NamedTemporaryFile": 0, "fdopen": 1}  # position of the mode
BINARY = {"TemporaryFile", "NamedTemporaryFile"}  # where no mode is given
NO_TEXT = ("os", "Image", "av", "tarfile", "zipfile", "wave")  # whose open() is another one
PROCESSES = ("run", "Popen", "check_output", "check_call", "call")


def unencoded(tree: ast.AST) -> list[ast.Call]:
    """Return the calls that read or write text in whatever encoding the locale has."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_text(node) and not _encoded(node)]


def _encoded(node: ast.Call) -> bool:
    return any(word.arg in ("encoding", None) for word in node.keywords)


def _is_text(node: ast.Call) -> bool:
    words = {word.arg: word.value for word in node.keywords}
    if isinstance(node.func, ast.Attribute):
        name, owner = node.func.attr, ast.unparse(node.func.value)
    else:
        name, owner = getattr(node.func, "id", ""), ""
    if name == "read_text":
        return not node.args
    if name == "write_text":
        return len(node.args) < 2
    if name in PROCESSES:
        return any(key in words and ast.unparse(words[key]) == "True" for key in ("text", "universal_newlines"))
    if name not in MODES or (owner in NO_TEXT and name == "open"):
        return False
    place = MODES[name] - (1 if name == "open" and owner else 0)  # of a path, which is no argument
    mode = words.get("mode", node.args[place] if len(node.args) > place else None)
    if mode is None:
        return name not in BINARY and not owner
    return isinstance(mode, ast.Constant) and bool(re.fullmatch(r"[rwax][t+]*", str(mode.value)))
