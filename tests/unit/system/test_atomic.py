"""A file is whole on the disk before it takes its name: a power cut leaves the old one or the new one."""

import os
from pathlib import Path

import torch

from distill.system import files, weights


def test_a_file_is_synced_before_it_takes_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda n: done.append(("synced", os.fstat(n).st_size)) or fsync(n))
    monkeypatch.setattr(files.os, "replace", lambda a, b: done.append(("named", Path(b).name)) or replace(a, b))
    files.write_json(tmp_path / "a.json", {"a": 1})
    weights.save_state(tmp_path / "b.pt", {"a": torch.ones(3)})
    weights.save_weights(tmp_path / "c.safetensors", torch.nn.Linear(2, 2), {})
    names = ["a.json", "b.pt", "c.safetensors"]
    assert done == [step for n in names for step in (("synced", (tmp_path / n).stat().st_size), ("named", n))]
