"""A finished student as files that need neither this project nor its training: made, proven, timed, loaded again.

python -m distill.export RUN is the command; distill.export(RUN) does the same in Python, see make_callable.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from distill.system.callable_module import make_callable


def export(run: str | PathLike, overrides: Sequence[str] = (), width: float | None = None, **options: object) -> Path:
    """Write the files of a finished run that answer as its student does on the whole validation split.

    Args:
        run: its folder, or what distill.run returned.
        overrides: where the data or the store have moved: data.root=DIR, paths.store=DIR.
        width: of a run of several widths, the student of this one; None for the first.
        options: those of `python -m distill.export`, such as int8=False or openvino=True.

    Returns:
        The folder that the files are in.

    Raises:
        ValueError: no finished run, no such option, no list of words, its data are gone; or a file did not pass. The other files are
            written then, and the message says what to try.
    """
    from distill.config.hints import with_suggestions
    from distill.config.overrides import listed
    from distill.export.job import export as export_run
    from distill.export.job import export_folder, refusals
    from distill.export.options import read_options
    from distill.export.source_run import of_width

    parsed = read_options([f"export.{key}={value}" for key, value in options.items()])
    words = listed(overrides)
    with with_suggestions(words):
        parity = export_run(folder := of_width(Path(run).expanduser(), width), parsed, words)
    if parity["refused"]:
        raise ValueError(" ".join(refusals(parity)))
    return export_folder(folder, parsed)


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


make_callable(__name__, export)
