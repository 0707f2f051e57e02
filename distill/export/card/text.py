"""What a model card says in words of its own: what faces are, what a teacher began with, the command without folders."""

import re
import shlex
from pathlib import Path

from distill import build
from distill.config.ranges import SELECTABLE
from distill.runs.reading import Run

KINDS = {  # data set -> what its faces are
    "procedural": "drawn, not photographed: a student of them is for trying the tools, not for the faces of people",
    "ferplus": "found in the web by emotion words (in the wild), gray, 48 pixels, labeled by ten people each",
    "fer2013": "found in the web by emotion words (in the wild), gray, 48 pixels",
    "rafdb": "found in the web (in the wild)",
    "affectnet": "found in the web (in the wild)",
    "expw": "found in the web (in the wild)",
    "fedro": "found in the web (in the wild), partly hidden",
    "sfew": "frames of feature films: acted, near to the wild",
    "ckplus": "posed in a laboratory",
    "oulucasia": "posed in a laboratory",
    "jaffe": "posed in a laboratory by ten Japanese women",
}
RANDOM = "random weights"
PIECE = re.compile(r"'[^']*'|\"[^\"]*\"|[^\[\]{},:\s][^\[\]{},:]*")  # of a list or dictionary, as hydra reads it
FORMS = {
    ".safetensors": "PyTorch weights",
    ".onnx": "ONNX, float32",
    ".int8.onnx": "ONNX, int8 inside",
    ".pt2": "torch.export program",
    ".xml": "OpenVINO, with its .bin",
    ".pte": "ExecuTorch, one picture at a time",
    ".tflite": "LiteRT, float32, one picture at a time",
    ".int8.tflite": "LiteRT, int8 inside, one picture at a time",
}


def without_folders(command: str) -> str:
    """Return a command with the last part of each path alone: a card is read by people who need not know the rest.

    Args:
        command: as a shell reads it.
    """
    return shlex.join(_last_part(word) for word in shlex.split(command))


def _last_part(word: str) -> str:
    """Return KEY=VALUE with the last part of each path in the value; a list's or dictionary's each."""
    key, equals, value = word.partition("=") if "=" in word else ("", "", word)
    if value.removeprefix("-") in SELECTABLE:
        return word
    if value.startswith(("[", "{")):
        return key + equals + PIECE.sub(lambda piece: _name(piece[0]), value)
    return key + equals + _name(value)


def _name(text: str) -> str:
    return Path(text.strip("'\"")).name if "/" in text else text


def starts(run: Run) -> list[str | None]:
    """Return in a word what each of the teacher's networks began with; of a peer nothing."""
    return (run.result.teacher or {}).get("start", ["not recorded"])


def members(run: Run) -> list[dict]:
    """Return of each of the teacher's networks the run or weights that it is from, and what it began with in words."""
    nodes = build.members(run.config.teacher)
    words = [RANDOM if start in (None, "scratch") else str(start) for start in starts(run)]
    return [
        {key: member.get(key) for key in ("run", "weights")} | {"start": start}
        for member, start in zip(nodes, words, strict=False)  # a peer has no start
    ]
