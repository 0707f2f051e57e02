"""Packs whose pictures are decoded by threads, and packs that begin again where a process stopped."""

import os
import time

import pytest
from filelock import FileLock
from noise_packs import SOURCE, leftovers, noise

from distill.data.packing import writer as pack_writer
from distill.data.packing.reader import pack


class Lazy:
    """The rows of noise() with functions for pixels; remembers which were decoded, and fails where it is told to."""

    def __init__(self, rows=30, fails=(), error=KeyboardInterrupt):
        self.rows, self.fails, self.error = list(noise(rows)), fails, error
        self.decoded = []

    def __call__(self):
        for i, row in enumerate(self.rows):
            yield row._replace(pixels=lambda i=i: self.decode(i))

    def decode(self, i):
        if i in self.fails:
            raise self.error(f"picture {i} is damaged")
        time.sleep(0.002 * (i % 3 == 0))  # not in the order in which they are asked for
        self.decoded.append(i)
        return self.rows[i].pixels


def test_rows_decoded_by_threads_are_stored_in_their_order(tmp_path):
    eager = pack(tmp_path / "eager", "noise", SOURCE, lambda: noise(200))
    lazy = Lazy(200)
    packed = pack(tmp_path / "lazy", "noise", SOURCE, lazy)
    assert packed.manifest["splits"] == eager.manifest["splits"]
    assert sorted(lazy.decoded) == list(range(200))


def test_no_more_than_a_few_decoded_pictures_wait_in_memory(tmp_path, monkeypatch):
    lazy, waiting, stored = Lazy(300), [], []
    append = pack_writer._SplitWriter.append

    def slow(self, row):
        time.sleep(0.002)
        waiting.append(len(lazy.decoded) - len(stored))
        stored.append(row.id)
        append(self, row)

    monkeypatch.setattr(pack_writer._SplitWriter, "append", slow)
    pack(tmp_path, "noise", SOURCE, lazy)
    assert len(stored) == 300 and 1 <= max(waiting) <= pack_writer.AHEAD


def test_the_first_of_two_damaged_pictures_is_named_and_nothing_is_left_behind(tmp_path):
    with pytest.raises(ValueError, match="picture 5 is damaged"):
        pack(tmp_path, "noise", SOURCE, Lazy(fails=[5, 6], error=ValueError))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_pack_that_was_stopped_leaves_nothing_and_begins_again(tmp_path, error):
    with pytest.raises(error):
        pack(tmp_path, "noise", SOURCE, Lazy(fails=[18], error=error))
    assert leftovers(tmp_path) == []
    again = Lazy()
    packed = pack(tmp_path, "noise", SOURCE, again)
    assert sorted(again.decoded) == list(range(30)) and leftovers(tmp_path) == [packed.folder.name]


def test_all_pictures_that_cannot_be_read_are_told_at_once_and_nothing_is_packed(tmp_path):
    spoilt = Lazy()
    for i in (18, 25):
        spoilt.rows[i] = spoilt.rows[i]._replace(pixels=pack_writer.Unreadable(f"picture {i}", "cut", listed=False))
    with pytest.raises(ValueError, match=r"2 pictures cannot be read: picture 18 \(cut\); picture 25 \(cut\)\. Put"):
        pack(tmp_path, "noise", SOURCE, spoilt)
    assert leftovers(tmp_path) == []


def left_of_a_killed_process(tmp_path, source):
    """Leave what a killed process leaves: a folder of arrays that were cut short."""
    partial = pack(tmp_path, "noise", source, noise).folder
    partial = partial.rename(partial.with_name(f"{partial.name}.partial"))
    os.truncate(partial / "train.pixels.npy", 200)
    (partial / "manifest.json").unlink()
    return partial


def test_what_a_killed_process_left_is_packed_again_as_if_it_had_never_been(tmp_path):
    left_of_a_killed_process(tmp_path, SOURCE)
    whole = pack(tmp_path / "whole", "noise", SOURCE, noise, verify=True)
    packed = pack(tmp_path, "noise", SOURCE, noise, verify=True)
    assert packed.manifest["splits"] == whole.manifest["splits"] and leftovers(tmp_path) == [packed.folder.name]
    assert sorted(p.name for p in packed.folder.iterdir()) == sorted(p.name for p in whole.folder.iterdir())


def test_what_was_left_of_another_source_is_removed_unless_a_process_works_on_it(tmp_path):
    partial = left_of_a_killed_process(tmp_path, SOURCE)
    other = SOURCE | {"version": 2}
    with FileLock(partial.with_suffix(".lock")):
        pack(tmp_path, "other", other, noise)
        pack(tmp_path, "noise", other, noise)
        assert partial.exists()
    pack(tmp_path, "noise", SOURCE | {"version": 3}, noise)
    assert not partial.exists()
