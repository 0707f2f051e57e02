"""What tests of exports share: a small finished run, its export in spite of the gate, and the command line."""

import json
from pathlib import Path

import pytest
from inside import folder_of, job

from distill.export import __main__ as command_line
from distill.export import parity as gate
from distill.system.files import sha256


def small_run(home: Path) -> Path:
    """Train a small MicroExpNet for an epoch; return its run folder."""
    words = ("teacher=none", "loss=[ce]", "loss.ce.weight=1", "train.epochs=1", "data.valid=64", "data.size=40")
    job(*words, store=home / "store", runs=home / "runs")
    return folder_of(home / "runs")


def export_whatever(folder: Path, *words: str) -> Path:
    """Export a run, or what other words ask for; one epoch teaches too little for the gate of int8, which has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "loud_warnings", lambda: None)
        patch.setattr(gate, "MAX_ACCURACY_DROP", 1.0)
        patch.setattr(gate, "MAX_AGREEMENT_CHANGE", 1.0)
        command_line.main([*words] or [str(folder)])
    return folder


def export(capsys, *words):
    """Do what the command line does; return what it prints, and the sentence it ends with or None."""
    try:
        command_line.main([str(word) for word in words])
        said = None
    except SystemExit as stopped:
        said = stopped.code
    return capsys.readouterr().out, said


def vouch(*paths):
    """Write the parity.json of a folder, which tells of these files in it."""
    recorded = {path.name: {"sha256": {path.name: sha256(path)}} for path in paths}
    (paths[0].parent / "parity.json").write_text(json.dumps({"files": recorded}))
