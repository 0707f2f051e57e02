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
    flat = []
    for run in runs:
        dotted = _flatten({key: value for key, value in config.settings(run.config).items() if key != "seed"})
        dotted["eval.tta"] = run.result.eval.get("tta", "plain")
        named = {part: config.label(node) for part, node in run.config.components.items()}
        named |= {"data": run.result.data["name"], "loss": " + ".join(run.config.loss)}
        kept = {k: canonical(v) for k, v in dotted.items() if k not in HIDDEN and not k.endswith("._target_")}
        flat.append(kept | named)
    teachers = [run.config.teacher for run in runs]
    teachers = [(str(node.get("sha256") or ""), Path(str(node.get("run"))).name) for node in teachers]
    names = _names([(key, name) for key, name in teachers if key])
    for settings, (key, _) in zip(flat, teachers, strict=True):
        if key:
            settings["teacher.run"] = names[key]
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
    return flat


def _names(named: list[tuple[str, str]]) -> dict[str, str]:
    """Return hash -> the name that it was first seen with, and the hash's beginning where another has that name, too."""
    first: dict[str, str] = {}
    for key, name in named:
        first.setdefault(key, name)
    often = Counter(first.values())
    return {key: name if often[name] == 1 else f"{name} {str(key)[:6]}" for key, name in first.items()}


def _flatten(node: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat
