"""Packs whose pictures are decoded by threads, and packs that are gone on with where a process stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from noise_packs import SOURCE, leftovers, noise

from distill.data.packing import writer as pack_writer
from distill.data.packing.reader import open_pack, pack

ROOT = Path(__file__).resolve().parents[1]


class Lazy:
    """The rows of noise() with functions for pixels; remembers which were decoded, and fails where it is told to."""

    def __init__(self, rows=30, fails=(), error=KeyboardInterrupt, ids="p"):
        self.rows, self.fails, self.error, self.ids = list(noise(rows)), fails, error, ids
        self.decoded = []

    def __call__(self):
        for i, row in enumerate(self.rows):
            yield row._replace(id=row.id.replace("p", self.ids), pixels=lambda i=i: self.decode(i))

    def decode(self, i):
        if i in self.fails:
            raise self.error(f"picture {i} is damaged")
        time.sleep(0.002 * (i % 3 == 0))  # not in the order in which they are asked for
        self.decoded.append(i)
        return self.rows[i].pixels


@pytest.fixture
def flush_every_four(monkeypatch):
    monkeypatch.setattr(pack_writer, "FLUSH", 4)
    monkeypatch.setattr(pack_writer, "AHEAD", 3)


def same_as_undisturbed(packed, tmp_path, rows=30, ids="p"):
    whole = pack(tmp_path / "whole", "noise", SOURCE, Lazy(rows, ids=ids), verify=True)
    assert open_pack(packed.folder, verify=True).manifest["splits"] == whole.manifest["splits"]
    assert sorted(p.name for p in packed.folder.iterdir()) == sorted(p.name for p in whole.folder.iterdir())


def interrupted(tmp_path, at, **options):
    """Start packing, stop at one picture; returns the folder that is left."""
    with pytest.raises(options.get("error", KeyboardInterrupt)):
        pack(tmp_path, "noise", SOURCE, Lazy(fails=[at], **options))
    (partial,) = tmp_path.glob("packed/*.partial")
    assert not partial.with_suffix("").exists()
    return partial


def test_rows_decoded_by_threads_are_stored_in_their_order(tmp_path):
    eager = pack(tmp_path / "eager", "noise", SOURCE, lambda: noise(200))
    lazy = Lazy(200)
    packed = pack(tmp_path / "lazy", "noise", SOURCE, lazy)
    assert packed.manifest["splits"] == eager.manifest["splits"]
    assert sorted(lazy.decoded) == list(range(200))


def test_no_more_than_a_few_decoded_pictures_wait_in_memory(tmp_path, monkeypatch):
    lazy, waiting, stored = Lazy(300), [], []
    append = pack_writer._Arrays.append

    def slow(self, row):
        time.sleep(0.002)
        waiting.append(len(lazy.decoded) - len(stored))
        stored.append(row.id)
        append(self, row)

    monkeypatch.setattr(pack_writer._Arrays, "append", slow)
    pack(tmp_path, "noise", SOURCE, lazy)
    assert len(stored) == 300 and 1 <= max(waiting) <= pack_writer.AHEAD


def test_the_first_of_two_damaged_pictures_is_named_and_nothing_is_left_behind(tmp_path):
    with pytest.raises(ValueError, match="picture 5 is damaged"):
        pack(tmp_path, "noise", SOURCE, Lazy(fails=[5, 6], error=ValueError))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_pack_that_was_stopped_goes_on_behind_its_last_flush(tmp_path, flush_every_four, error):
    interrupted(tmp_path, 18, error=error)
    rest = Lazy()
    packed = pack(tmp_path, "noise", SOURCE, rest)
    assert sorted(rest.decoded) == list(range(16, 30))
    assert leftovers(tmp_path) == [packed.folder.name]
    same_as_undisturbed(packed, tmp_path)


def test_nothing_is_kept_behind_a_picture_that_cannot_be_read(tmp_path, flush_every_four):
    spoilt = Lazy()
    for i in (18, 25):
        spoilt.rows[i] = spoilt.rows[i]._replace(pixels=pack_writer.Unreadable(f"picture {i}", "cut", listed=False))
    with pytest.raises(ValueError, match=r"2 pictures cannot be read: picture 18 \(cut\); picture 25 \(cut\)\. Put"):
        pack(tmp_path, "noise", SOURCE, spoilt)
    rest = Lazy()
    packed = pack(tmp_path, "noise", SOURCE, rest)
    assert sorted(rest.decoded) == list(range(16, 30))
    same_as_undisturbed(packed, tmp_path)


def test_what_was_written_behind_the_last_flush_is_cut_off(tmp_path, flush_every_four):
    partial = interrupted(tmp_path, 9)
    with open(partial / "train.pixels.npy", "ab") as file:
        file.write(b"half a picture")
    (partial / "valid.pixels.npy").write_bytes(b"of a split that had just begun")
    rest = Lazy()
    for i in (20, 25):
        rest.rows[i] = rest.rows[i]._replace(split="valid")
    packed = pack(tmp_path, "noise", SOURCE, rest)
    assert min(rest.decoded) == 8 and len(open_pack(packed.folder, verify=True).splits["valid"].ids) == 2


def test_a_pack_goes_on_twice(tmp_path, flush_every_four):
    interrupted(tmp_path, 9)
    interrupted(tmp_path, 21)
    rest = Lazy()
    packed = pack(tmp_path, "noise", SOURCE, rest)
    assert min(rest.decoded) == 20
    same_as_undisturbed(packed, tmp_path)


@pytest.mark.parametrize("change", ["other ids", "fewer rows", "shortened", "missing", "unreadable progress"])
def test_what_is_not_the_beginning_of_the_same_rows_is_packed_again(tmp_path, flush_every_four, change):
    partial = interrupted(tmp_path, 18)
    ids, rows = ("q" if change == "other ids" else "p"), (9 if change == "fewer rows" else 30)
    if change == "shortened":
        os.truncate(partial / "train.pixels.npy", 200)
    elif change == "missing":
        (partial / "test.pixels.npy").unlink()
    elif change == "unreadable progress":
        (partial / "progress.json").write_text("{")
    again = Lazy(rows, ids=ids)
    packed = pack(tmp_path, "noise", SOURCE, again)
    assert sorted(again.decoded) == list(range(rows))
    same_as_undisturbed(packed, tmp_path, rows, ids)


def test_what_was_left_of_another_source_is_removed_unless_a_process_works_on_it(tmp_path, flush_every_four):
    partial = interrupted(tmp_path, 18)
    other = SOURCE | {"version": 2}
    with FileLock(partial.with_suffix(".lock")):
        pack(tmp_path, "other", other, noise)
        pack(tmp_path, "noise", other, noise)
        assert partial.exists()
    pack(tmp_path, "noise", SOURCE | {"version": 3}, noise)
    assert not partial.exists()


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from distill.data.packing import writer as pack_writer
sys.path.insert(0, {root!r} + '/tests')
from test_pack_resume import SOURCE, Lazy
pack_writer.FLUSH, pack_writer.AHEAD = 4, 3
lazy, decode = Lazy(), Lazy.decode
Lazy.decode = lambda self, i: time.sleep(60) if i == 18 else decode(self, i)
from distill.data.packing.reader import pack
pack(Path({store!r}), "noise", SOURCE, lazy)
"""


def test_a_killed_process_loses_only_what_came_after_its_last_flush(tmp_path, flush_every_four):
    writer = subprocess.Popen([sys.executable, "-c", KILLED.format(root=str(ROOT), store=str(tmp_path))])
    deadline, rows = time.monotonic() + 60, 0
    while rows < 16 and time.monotonic() < deadline:
        time.sleep(0.02)
        rows = max([json.loads(p.read_text())["rows"] for p in tmp_path.glob("packed/*.partial/progress.json")] + [0])
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert [name.split(".")[-1] for name in leftovers(tmp_path)] == ["partial"]
    rest = Lazy()
    same_as_undisturbed(pack(tmp_path, "noise", SOURCE, rest), tmp_path)
    assert sorted(rest.decoded) == list(range(16, 30))
