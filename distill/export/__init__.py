"""A finished student as files that need neither this project nor its training: made, proven, timed, loaded again."""

from collections.abc import Sequence
from pathlib import Path


def load(folder: str | Path, plugins: Sequence[str] = ()):
    """Return the student of an export folder, in eval mode: images [B, C, S, S] -> Outputs, with .input and .classes.

    Args:
        folder: with student.safetensors and config.json, as python -m distill.export writes them, or a published folder.
        plugins: packages besides this project's whose code may run; a folder cannot allow itself one.

    Raises:
        ValueError: no such files, they do not belong together, or the network is from a package that is not allowed.
    """
    from distill.export.weights_and_config import (
        load as load_package,  # torch: what only times an ONNX file does without it
    )

    return load_package(Path(folder).expanduser(), plugins)
