"""What a run is, as dotted settings of which a table shows those that differ."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from distill.config import schema as config
from distill.config.naming import canonical
from distill.runs.reading import Run

HIDDEN = ("data.root", "data.subset_dir", "teacher.sha256", "experiment", "debug")  # where and how found, not what


def settings_of(runs: Sequence[Run]) -> list[dict[str, object]]:
    """Return each complete run's settings by dotted key, and each component's name under the component; not the seed."""
    flat = [_flat(run) for run in runs]
    _tell_teachers_apart(flat, runs)
    _tell_data_apart(flat, runs)
    return flat


def _flat(run: Run) -> dict[str, object]:
    flat: dict[str, object] = {}
    _flatten("", {key: value for key, value in config.settings(run.config).items() if key != "seed"}, flat)
    named = {part: config.label(node) for part, node in run.config.components.items()}
    named |= {"data": run.result.data["name"], "loss": " + ".join(run.config.loss)}
    flat["eval.tta"] = run.result.eval.get("tta", "plain")
    kept = {k: canonical(v) for k, v in flat.items() if k not in HIDDEN and not k.endswith("._target_")}
    return kept | named


def _tell_teachers_apart(flat: list[dict], runs: Sequence[Run]) -> None:
    """Say of which finished run a teacher is, by its folder's name; two weights are two teachers."""
    teachers = [run.config.teacher for run in runs]
    teachers = [(str(node.get("sha256") or ""), Path(str(node.get("run"))).name) for node in teachers]
    names = _names([(key, name) for key, name in teachers if key])
    for settings, (key, _) in zip(flat, teachers, strict=True):
        if key:
            settings["teacher.run"] = names[key]


def _tell_data_apart(flat: list[dict], runs: Sequence[Run]) -> None:
    """Say where the faces are from, as data.root, where no other setting tells one data set from another."""
    faces = [str(run.result.data.get("fingerprint")) for run in runs]
    roots = [str(run.config.data.get("root") or run.result.data["name"]) for run in runs]
    of_data = [repr(sorted((k, repr(v)) for k, v in one.items() if k.split(".")[0] == "data")) for one in flat]
    same: dict[str, set] = {}
    for words, key in zip(of_data, faces, strict=True):
        same.setdefault(words, set()).add(key)
    names = _names([(key, Path(root).name) for key, root in zip(faces, roots, strict=True)])
    for settings, words, key in zip(flat, of_data, faces, strict=True):
        if len(same[words]) > 1:
            settings["data.root"] = names[key]


def _names(named: list[tuple[str, str]]) -> dict[str, str]:
    """Return hash -> the name that it was first seen with, and the hash's beginning where another has that name, too."""
    first: dict[str, str] = {}
    for key, name in named:
        first.setdefault(key, name)
    often = Counter(first.values())
    return {key: name if often[name] == 1 else f"{name} {str(key)[:6]}" for key, name in first.items()}


def _flatten(prefix: str, node: dict, flat: dict[str, object]) -> None:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            _flatten(f"{name}.", value, flat)
        else:
            flat[name] = value
