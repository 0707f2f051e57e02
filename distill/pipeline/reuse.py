"""A run folder before its run: complete already, or another run's; else its config.yaml and env.json are written."""

import errno
import os
from dataclasses import replace
from pathlib import Path

from distill import build
from distill.config import schema as config
from distill.data.common.test_subsets import requested_subsets
from distill.data.extra import about_extra
from distill.evaluation import inference
from distill.pipeline.completed import best_weights
from distill.runs import provenance
from distill.runs.config import EvalConfig, RunConfig
from distill.runs.folder import RunFolder
from distill.runs.result import RunResult
from distill.system import distributed as parallel
from distill.system.errors import ConfigError
from distill.system.files import write_json
from distill.system.hardware import environment
from distill.system.typed import as_typed
from distill.types import Dataset


def is_measured(folder: RunFolder, wanted: EvalConfig, data: dict) -> bool:
    """Say whether a run is complete, was measured as asked, and has its predictions; else the weights are measured again."""

    def complete() -> bool:
        if not folder.is_complete():
            return False
        result = RunResult.read(folder.result)
        measured = {"cka": False} | result.eval  # as runs were that knew nothing of it
        as_asked = measured == vars(wanted) and result.test_subset == requested_subsets(data)
        return as_asked and _has_predictions(folder, result.data.get("classes", []))

    return parallel.broadcast_from_main(complete)


def _has_predictions(folder: RunFolder, classes: list[str]) -> bool:
    """Say whether the predictions of a complete run, or of all that it is made of, are there and whole."""
    if parts := folder.parts():
        return all(_has_predictions(part, classes) for part in parts)
    try:
        return all(inference.read_predictions(folder.predictions(split), classes) for split in ("valid", "test"))
    except ValueError:
        return False


def result_of(folder: RunFolder, data: Dataset) -> RunResult:
    """Return the result of a complete run, after making sure that its weights and data are still those that it had.

    Raises:
        ValueError: they are not.
    """
    best_weights(folder.path)
    result = RunResult.read(folder.result)
    known = Path(result.folder or "").parts
    if folder.path.absolute().parts[-len(known) :] != known:  # it was moved
        result = replace(result, name=folder.name, folder=str(folder))
    seen = result.data
    if seen["fingerprint"] != build.fingerprint(data) or seen.get("extra") != about_extra(data):
        raise ValueError(
            f"{folder}: is complete, but the {data.name} pictures or labels it saw are not those that are there now. "
            "Delete the folder to train again, or choose another with paths.run=DIR."
        )
    return result


def refuse_another(cfg: RunConfig, folder: RunFolder) -> None:
    """Refuse a run folder that holds a run of another config, whichever of the two has the key that differs.

    Raises:
        ValueError: naming the first key that differs; or a finished run that no config says anything of.
        NotADirectoryError: the folder, or one that it is in, is a file.
    """
    above = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), above)
    if not folder.config.exists():
        if folder.is_complete():
            raise ValueError(
                f"{folder}: holds a finished run without its config.yaml, so nothing says which. Bring the file back, or delete "
                "the folder and train again."
            )
        return
    other = RunConfig.read(folder.config)
    wanted, held = config.identity(cfg), config.identity(other)
    for key in [*wanted, *held]:
        if held.get(key) != wanted.get(key):
            name, there, here = _narrowed(key, config.settings(other).get(key), config.settings(cfg).get(key))
            raise ValueError(
                f"{folder}: holds another run; its {name} is {as_typed(there)}, this one's is {as_typed(here)}. "
                "Choose another folder with paths.run=DIR, or leave paths.run to be named by what the run is."
            )


def _narrowed(key: str, one: object, other: object) -> tuple[str, object, object]:
    """Return the key and both values of the first difference below a key, of those that both have."""
    if isinstance(one, dict) and isinstance(other, dict):
        for inner in one:
            if inner in other and one[inner] != other[inner]:
                return _narrowed(f"{key}.{inner}", one[inner], other[inner])
    return key, one, other


def refuse_inside_data(data: dict, folder: RunFolder, store: str) -> None:
    """Refuse a run folder below the folder of the data, or a store in class folders: what is written would become data.

    Raises:
        ConfigError: with what to type.
    """
    for key in ("root", "extra"):
        if (given := data.get(key)) is None:
            continue
        written = [("run folder", folder.path, "paths.runs")]
        if key == "extra" or data.get("_target_") == "distill.data.folder.folder":
            written.append(("store", Path(store), "paths.store"))
        home = Path(str(given)).expanduser().resolve()
        for what, path, typed in written:
            target = path.expanduser().resolve()
            if target.is_relative_to(home) and not any(part.startswith(".") for part in target.relative_to(home).parts):
                raise ConfigError(
                    f"data.{key}",
                    f"{given} holds the {what} {path}, whose pictures would become data. Give data.{key} the folder "
                    f"of the faces alone, or type {typed}=DIR with another folder.",
                )


def write_config_and_env(cfg: RunConfig, folder: RunFolder, command: str | None) -> None:
    """Write config.yaml, and env.json with what was typed and the code, into a run folder; of several processes the main one."""
    if parallel.is_main():
        facts = environment() | {"processes": parallel.world()} | ({"command": command} if command else {})
        cfg.write(folder.config)
        write_json(folder.env, facts | provenance.code(folder))
