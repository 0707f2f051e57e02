"""Whether a .pt2 file is a program of tensors and PyTorch's own operations: torch.export.load itself would run what it holds."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import torch

PLAIN = r"[\w.+: -]*"  # names, versions, devices: nothing that is code
NUMBERS = "add|sub|mul|truediv|floordiv|mod|pow|neg|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_"
OPERATION = (
    rf"torch\.ops\.aten\.(?!from_file\.|save\.|__)\w+\.(?!__)\w+|torch\.sym_\w+|_operator\.({NUMBERS})|math\.(?!__)\w+"
)
EXPRESSION = r"(?:[A-Z][A-Za-z]*+|[su]\d++|positive|integer|nonnegative|images?|size|[\d\s()',.+*/<>=!%\[\]-])*+"
SPECIFICATION = r'(?:builtins\.(?:tuple|list|dict)|type|context|children_spec|null|images?|[\d\s\[\]{}(),:"\\])*+'
PATTERNS = {
    **{"target": OPERATION, "as_operator": OPERATION, "expr_str": EXPRESSION, "guards_code": EXPRESSION},
    **{"in_spec": SPECIFICATION, "out_spec": SPECIFICATION},
}
ARRAYS = r"data/(weights/weight|constants/tensor)_\d+"  # raw numbers
WORDS = r"version|byteorder|archive_(format|version)|\.data/\w+|extra(_files)?/[\w.]+"


def refuse_code(path: Path) -> None:
    """Refuse a .pt2 file that holds anything but arrays of numbers and a graph of PyTorch's own operations on them.

    Args:
        path: the file, a zip.

    Raises:
        ValueError: it holds a pickle of more than tensors, a compiled library, or strings that would be run.
    """
    with ZipFile(path) as file:
        names = file.namelist()
        if len({name.lower() for name in names}) < len(names):
            raise ValueError("it holds two parts of one name")
        for name in names:
            inner = name if re.fullmatch(WORDS, name) or "/" not in name else name.partition("/")[2]
            _check(name, inner, file)


def _check(name: str, inner: str, file: ZipFile) -> None:
    if inner.endswith(".pt"):
        _refuse_pickle(name, file.read(name))
    elif inner.endswith(".json") and not re.fullmatch(WORDS, inner):
        for key, text in _strings(json.loads(file.read(name))):
            if not re.fullmatch(PATTERNS.get(key, PLAIN), text):
                raise ValueError(f"its {name} says {text[:60]!r}, which is not opened: it could be run")
    elif not re.fullmatch(f"{ARRAYS}|{WORDS}", inner):
        raise ValueError(f"it holds {name}, which no student has")


def _refuse_pickle(name: str, content: bytes) -> None:
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:
        raise ValueError(
            f"its {name} is a pickle of more than tensors, which is not opened: it could run code"
        ) from None


def _strings(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key above it, text) of every string of a JSON value, without those that only tell where a node came from."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, dict):
        if value.get("use_pickle"):
            raise ValueError("a part of it is a pickle, which is not opened: it could run code")
        for name, inner in value.items():
            yield "", name
            told = (
                name == "metadata" and isinstance(inner, dict) and all(isinstance(text, str) for text in inner.values())
            )
            yield from () if told else _strings(inner, name)
