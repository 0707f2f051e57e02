"""What a pack promises: decoded once, complete or absent, and damage is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from noise_packs import SOURCE, leftovers, noise

from distill.data.packing import reader as module
from distill.data.packing.reader import Row, open_pack, pack

ROOT = Path(__file__).resolve().parents[3]


def must_not_read():
    raise AssertionError("decoded again")


def test_arrays_ids_and_annotations_come_back_as_they_were_read(tmp_path):
    packed = pack(tmp_path, "noise", SOURCE, lambda: noise(channels=3))
    for split, arrays in packed.splits.items():
        rows = [row for row in noise(channels=3) if row.split == split]
        assert isinstance(arrays.pixels, np.memmap) and not arrays.pixels.flags.writeable
        assert arrays.pixels.dtype == np.uint8 and arrays.annotations.dtype == np.float32
        np.testing.assert_array_equal(arrays.pixels, [row.pixels for row in rows])
        np.testing.assert_array_equal(arrays.annotations, [row.annotation for row in rows])
        assert arrays.ids == tuple(row.id for row in rows)
    assert {split: len(arrays.ids) for split, arrays in packed.splits.items()} == {"train": 6, "test": 3}


def test_the_second_call_does_not_decode_and_another_source_does(tmp_path):
    first = pack(tmp_path, "noise", SOURCE, noise)
    second = pack(tmp_path, "noise", SOURCE, must_not_read)
    assert second.folder == first.folder and second.manifest == first.manifest
    with pytest.raises(AssertionError, match="decoded again"):
        pack(tmp_path, "noise", SOURCE | {"version": 2}, must_not_read)
    assert leftovers(tmp_path) == [first.folder.name]


def test_facts_are_kept_in_the_manifest(tmp_path):
    packed = pack(tmp_path, "noise", SOURCE, noise, lambda: {"votes": "label.csv", "rows": 9})
    assert packed.manifest["facts"] == {"votes": "label.csv", "rows": 9}
    assert packed.manifest["source"] == SOURCE


def test_an_error_in_the_middle_leaves_nothing_behind(tmp_path):
    def broken():
        yield from noise(4)
        raise ValueError("row 5 is damaged")

    with pytest.raises(ValueError, match="row 5 is damaged"):
        pack(tmp_path, "noise", SOURCE, broken)
    assert leftovers(tmp_path) == []
    assert len(pack(tmp_path, "noise", SOURCE, noise).splits["train"].ids) == 6


def test_pictures_of_two_sizes_are_refused_with_the_place_of_the_second(tmp_path):
    def mixed():
        yield from noise(2)
        yield Row("train", "big", np.zeros((1, 8, 7), np.uint8), np.eye(3)[0], "faces.zip: big.png")

    with pytest.raises(ValueError, match=r"faces.zip: big.png: the picture is 7x8 .* 6x6 .*resize it or remove it"):
        pack(tmp_path, "noise", SOURCE, mixed)
    assert leftovers(tmp_path) == []


def test_pack_of_no_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not one picture to pack in /faces/list\.csv\. Check data\.root\."):
        pack(tmp_path, "noise", SOURCE | {"paths": {"/faces/list.csv": [0, 1]}}, lambda: iter(()))
    assert leftovers(tmp_path) == []


WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from distill.data.packing.reader import pack
from noise_packs import SOURCE, noise

def slow():
    with open({log!r}, "a") as log:
        log.write("decoding\\n")
    for row in noise():
        yield row
        time.sleep({pause})

pack(Path({store!r}), "noise", SOURCE, slow)
"""


def start_writer(tmp_path, pause):
    code = WRITER.format(
        path=[str(ROOT), str(ROOT / "tests" / "helpers")], log=str(tmp_path / "log"), store=str(tmp_path), pause=pause
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_killed_process_leaves_no_pack_and_the_next_one_cleans_up(tmp_path):
    writer = start_writer(tmp_path, pause=30)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("packed/*.partial/*.pixels.npy")) and time.monotonic() < deadline:
        time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert [name.split(".")[-1] for name in leftovers(tmp_path)] == ["partial"]
    packed = pack(tmp_path, "noise", SOURCE, noise, verify=True)
    assert leftovers(tmp_path) == [packed.folder.name]
    assert len(packed.splits["train"].ids) == 6


def test_pack_of_two_processes_at_once_decodes_once(tmp_path):
    writers = [start_writer(tmp_path, pause=0.1) for _ in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert (tmp_path / "log").read_text().splitlines() == ["decoding"]
    assert len(pack(tmp_path, "noise", SOURCE, must_not_read).splits["test"].ids) == 3


@pytest.mark.parametrize("damage", ["shortened array", "missing array", "manifest cut off", "manifest without splits"])
def test_a_damaged_pack_is_named_with_what_to_delete(tmp_path, damage):
    folder = pack(tmp_path, "noise", SOURCE, noise).folder
    if damage == "shortened array":
        os.truncate(folder / "train.pixels.npy", 200)
    elif damage == "missing array":
        (folder / "train.annotations.npy").unlink()
    elif damage == "manifest cut off":
        os.truncate(folder / "manifest.json", 50)
    else:
        (folder / "manifest.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match=f"{folder} is damaged.*Delete it and start again"):
        pack(tmp_path, "noise", SOURCE, must_not_read)


@pytest.mark.parametrize("array", ["pixels.npy", "annotations.npy", "ids.json"])
def test_a_changed_byte_is_found_in_pixels_above_256_mb_when_hashes_are_verified(tmp_path, monkeypatch, array):
    folder = pack(tmp_path, "noise", SOURCE, noise, verify=True).folder
    file = folder / f"test.{array}"
    data = bytearray(file.read_bytes())
    data[-4] ^= 1
    file.write_bytes(data)
    words = f"{array.split('.')[0]} of test do not have the sha256"
    with pytest.raises(ValueError, match=words):
        open_pack(folder)
    monkeypatch.setattr(module, "QUICK", 100)
    if array == "pixels.npy":
        open_pack(folder)
    with pytest.raises(ValueError, match=words):
        open_pack(folder, verify=True)


def test_a_packs_folder_keeps_its_name_so_that_packed_stores_stay_valid(tmp_path):
    assert pack(tmp_path, "noise", SOURCE, noise).folder.name == "noise-75f45fb21499"
