"""A finished student as files that need neither this project nor its training: made, proven, timed, loaded again."""

from pathlib import Path


def load(folder: str | Path):
    """Return the student of an export folder, in eval mode: images [B, C, S, S] -> Outputs, with .input and .classes.

    Args:
        folder: with student.safetensors and config.json, as python -m distill.export writes them.

    Raises:
        ValueError: no such files, or they do not belong together.
    """
    from distill.exporting.package import load as load_package  # torch: what only times an ONNX file does without it

    return load_package(Path(folder).expanduser())
