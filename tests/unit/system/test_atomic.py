"""A file is whole on the disk before it takes its name: a power cut leaves the old one or the new one."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from distill.system import files, weights
from distill.system.cli import format_error


def test_a_file_is_synced_before_it_takes_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda n: done.append(("synced", os.fstat(n).st_size)) or fsync(n))
    monkeypatch.setattr(files.os, "replace", lambda a, b: done.append(("named", Path(b).name)) or replace(a, b))
    files.write_json(tmp_path / "a.json", {"a": 1})
    weights.save_state(tmp_path / "b.pt", {"a": torch.ones(3)})
    weights.save_weights(tmp_path / "c.safetensors", torch.nn.Linear(2, 2), {})
    names = ["a.json", "b.pt", "c.safetensors"]
    assert done == [step for n in names for step in (("synced", (tmp_path / n).stat().st_size), ("named", n))]


def test_a_full_disk_is_told_with_the_file(tmp_path):
    for full in (OSError(errno.ENOSPC, "No space left on device"), OSError(errno.ENOSPC, "No space left", "other")):
        with pytest.raises(OSError) as told, files.atomic(tmp_path / "x.json") as temporary:
            temporary.touch()
            raise full
        assert format_error(told.value).startswith(
            "other" if full.filename == "other" else f"{tmp_path / 'x.json'}: No"
        )


def test_a_disk_that_takes_half_a_checkpoint_is_told_and_the_old_one_stays(tmp_path):
    path, kept = tmp_path / "last.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    weights.save_state(path, {"step": 1})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, kept[1]))
    try:
        with pytest.raises(OSError) as told:
            weights.save_state(path, {"weights": torch.zeros(200_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert format_error(told.value) == f"{path}: could not be written whole; is the disk full?"
    assert list(tmp_path.iterdir()) == [path] and weights.load_state(path) == {"step": 1}
