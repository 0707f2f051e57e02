"""Folders with a published network, weights and config.json: those that come with this package, an export, a publication."""

import json
from pathlib import Path

from distill.system.errors import ConfigError

SHIPPED = Path(__file__).resolve().parents[1] / "shipped"
CONFIG, OURS = "config.json", "fer_distill"
WEIGHTS = ("model.safetensors", "student.safetensors")
ONNX = ("model.onnx", "model.int8.onnx")  # of a published student, which is asked first; a teacher has none


def shipped() -> dict[str, Path]:
    """Return names and .onnx files of the students that come with this package, in the order of names."""
    files = (folder / name for folder in sorted(SHIPPED.glob("*")) for name in reversed(ONNX))
    return {path.parent.name: path for path in files if path.is_file()}


def published_weights(folder: Path) -> Path | None:
    """Return the weight file of a folder with a published network, or None where it is no such folder."""
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    return files[0] if files and (folder / CONFIG).is_file() else None


def published_config(folder: Path) -> dict:
    """Return what config.json says of a published network: network, classes, facts and sha256 of the weights.

    Raises:
        ValueError: the file is damaged, or of another tool.
    """
    try:
        ours = json.loads((folder / CONFIG).read_text(encoding="utf-8"))[OURS]
        parts = (ours["network"]["_target_"], str), (ours["classes"], list), (ours["facts"], dict)
        if all(isinstance(*one) for one in parts) and 0 < float(ours.get("temperature", 1)) < float("inf"):
            return ours
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise ValueError(
        f"{folder / CONFIG}: no config of an exported student. Type python -m distill.export RUN, and give RUN/export."
    )


def named_folder(word: str, key: str) -> str:
    """Return the folder that a word means: that of a network that comes with this package, or the path that it is.

    Args:
        word: as typed, such as ferlite_m or runs/NAME.
        key: for messages, such as teacher.run.

    Raises:
        ConfigError: it means two, or the teacher that comes with this package.
    """
    packaged = SHIPPED / word
    if "/" in word or published_weights(packaged) is None:
        return word
    if word not in shipped() and not Path(word).exists():
        raise ConfigError(
            key, f"expected a run folder or one of {', '.join(shipped())}, got {word}. Type teacher={word}."
        )
    if Path(word).exists():
        raise ConfigError(
            key,
            f"{word} is a network of this package, and here is a file or folder of that name. Type ./{word} for the one "
            f"here, {packaged} for the package's.",
        )
    return str(packaged)
