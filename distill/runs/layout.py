"""What lies where in a run folder, and whether the run in it is complete."""

import json
import os
from pathlib import Path


def is_complete(folder: Path) -> bool:
    """Say whether a run folder holds a finished run."""
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["status"] == "complete"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def subsets(cfg: dict) -> dict[str, str | None]:
    """Return which lists of test faces are asked for: name -> folder where they lie, None where the data do."""
    names, folder = cfg["data"].get("test_subset") or [], cfg["data"].get("subset_dir")
    folder = folder and os.path.abspath(os.path.expanduser(folder))  # however it was typed
    return dict.fromkeys(names if isinstance(names, list) else [names], folder)
