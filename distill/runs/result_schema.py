"""What the files of a run are like, as far as a report reads them."""

import json
from collections.abc import Mapping

from distill.system.typed import fits

RESULT = {  # of a complete run: key -> type; one that may be None may be missing
    "student": dict,
    "student.metrics": dict,
    "student.name": str,
    "student.spread": dict[str, int | float] | None,
    "data": dict,
    "data.name": str,
    "data.protocol": str,
    "data.classes": list[str],
    "data.rows": dict[str, int],
    "data.notes": dict | None,
    "data.fingerprint": str | None,
    "eval": dict | None,
    "teacher": dict | None,
    "teacher.name": str,
    "teacher.metrics": dict,
    "teacher.weights": list[str] | None,
    "folds": list | None,
    "seconds": dict | None,
    "calibration": dict | None,
    "calibration.temperature": int | float | None,
    "extra_test_splits": dict[str, dict] | None,
    "robustness": dict | None,
}
CONFIG = {group: dict for group in ("data", "teacher", "student", "train", "optimizer", "schedule")} | {
    "seed": int,
    "generations": int | None,
    "plugins": list[str] | None,
    "phases": list[dict] | None,
    "debug": dict | None,
    "loss": dict[str, dict],
    **{f"teacher.{group}": dict | None for group in ("train", "augment", "optimizer", "schedule", "loss")},
    **{f"{group}._target_": str | None for group in ("data", "teacher", "student", "optimizer", "schedule")},
}
ENV = {"packages": dict | None, "command": str | None}


def unlike(content: dict, types: Mapping[str, object]) -> str | None:
    """Say which key of a mapping is missing or not of its type, the first of them; what lies in a None is not looked at."""
    for key, kind in types.items():
        group, _, name = key.rpartition(".")
        node = content.get(group) if group else content
        if node is not None and not fits(node.get(name), kind):
            value = node.get(name)
            return f"has no {key}" if value is None else f"its {key} is {json.dumps(value, default=str)[:60]}"
    return None
