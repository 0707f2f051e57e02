"""Faces that two splits share, exactly or as one photograph: found when packed, told, and left out where that is asked for."""

import shutil

import numpy as np
import pytest
from face_trees import labels, write_class_folders
from PIL import Image, ImageEnhance

from distill import build
from distill.config import schema as config
from distill.data.common import twins
from distill.data.folder import folder
from distill.data.packing import near_duplicates
from distill.runs.config import RunConfig
from distill.system.console import WITHOUT_TWINS


def portrait(seed, size=48):
    """A smooth picture with some detail, another one for each seed."""
    rng = np.random.default_rng(seed)
    fine, coarse = (Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for side in (12, 6))
    return Image.blend(*(image.resize((size, size), Image.Resampling.BICUBIC) for image in (fine, coarse)), 0.5)


def write(root, split, numbers, change=lambda image: image):
    for name in ("a", "b"):
        for number in numbers:
            path = root / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            change(portrait(number + 1000 * (name == "b"))).save(path)


def recompressed(image):
    """The same photograph, a pixel to the side, flatter and with a mark in its corner."""
    image = ImageEnhance.Contrast(image.crop((1, 0, 48, 48)).resize((48, 48))).enhance(0.7)
    image.paste("silver", (0, 0, 5, 2))
    return image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Of 24 test faces 4 are training faces and 6 are changed ones; of 8 validation faces 2 are training faces."""
    root = tmp_path_factory.mktemp("copies") / "faces"
    write(root, "train", range(30))
    write(root, "test", range(40, 47))
    write(root, "test", range(2))
    write(root, "test", range(10, 13), recompressed)
    write(root, "valid", [*range(50, 53), 20])
    return root


def asked_for(root, store, **data):
    target = "distill.data.folder.folder"
    node = {"_target_": target, "root": str(root), "size": 48, "channels": 3, "near_duplicates": "report"} | data
    return node, str(store), []


@pytest.fixture(scope="module")
def store(root):
    return root.parent / "store"


def test_photographs_that_splits_share_are_counted_and_told_in_a_line(root, store):
    data = build.dataset(*asked_for(root, store))
    assert data.notes["near_duplicates"] == {"valid": [2, 2], "test": [10, 4], "dropped_from_train": 0}
    assert twins.start_messages(data) == [
        "*** data: 10 of 24 test faces seem to show a photograph that train or valid has, too (4 pixel for pixel), "
        "2 of 8 valid faces seem to show a photograph that train has, too (2 pixel for pixel); "
        "data.near_duplicates=drop_from_train leaves them out of train"
    ]
    without = data.extra_test_splits[WITHOUT_TWINS]
    assert set(without.ids) == {f"test/{name}/{number}.png" for name in ("a", "b") for number in range(40, 47)}


def test_near_duplicates_dropped_from_train_are_left_out(root, store):
    whole, data = (
        build.dataset(*asked_for(root, store)),
        build.dataset(*asked_for(root, store, near_duplicates="drop_from_train")),
    )
    gone = set(whole.splits["train"].ids) - set(data.splits["train"].ids)
    assert gone == {f"train/{name}/{number}.png" for name in ("a", "b") for number in (0, 1, 10, 11, 12, 20)}
    assert data.notes["near_duplicates"] == {"valid": [0, 0], "test": [0, 0], "dropped_from_train": 12}
    assert "12 near-duplicates left out of train" in data.protocol and WITHOUT_TWINS not in data.extra_test_splits
    assert len(labels(data)) == len(data.splits["train"]) + 32 and build.fingerprint(data) != build.fingerprint(whole)
    nodes = [asked_for(root, store, near_duplicates=n)[0] for n in ("report", "drop_from_train")]
    names = [config.identity(RunConfig.from_dict(REST | {"data": node}))["data"] for node in nodes]
    assert "near_duplicates" not in names[0] and names[1]["near_duplicates"] == "drop_from_train"


REST = {key: {} for key in ("student", "loss", "optimizer", "schedule", "logger")} | {"teacher": {"_target_": None}}


def test_what_was_found_is_stored_with_the_pack_and_found_again_when_it_is_damaged(root, store, monkeypatch):
    data = build.dataset(*asked_for(root, store))
    file = store / "packed" / data.notes["packed"] / near_duplicates.FILE
    content = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(near_duplicates, "_find", lambda pixels: pytest.fail("searched again"))
        build.dataset(*asked_for(root, store))
    file.write_bytes(content[: len(content) // 2])
    assert build.dataset(*asked_for(root, store)).notes == data.notes
    assert file.read_bytes() == content and not list(file.parent.glob(f"*.{near_duplicates.FILE}"))


@pytest.mark.parametrize("valid", [True, False])
def test_a_test_split_that_is_train_is_refused_with_what_to_type(tmp_path, valid):
    write(tmp_path / "faces", "train", range(5))
    if valid:  # else some of train are held out
        write(tmp_path / "faces", "valid", range(10, 12))
    shutil.copytree(tmp_path / "faces" / "train", tmp_path / "faces" / "test")
    asked = asked_for(tmp_path / "faces", tmp_path / "store")
    with pytest.raises(
        ValueError, match=r"each of the 10 test faces of folder is, .* a training .* type data.test=0.2"
    ):
        build.dataset(*asked)
    assert len(build.dataset(*asked, needed=("test",)).splits["test"]) == 10, "to measure others on"


def test_faces_that_only_look_alike_are_not_one_photograph(tmp_path):
    write_class_folders(tmp_path / "faces", ("a", "b"), 30)
    data = build.dataset(*asked_for(tmp_path / "faces", tmp_path / "store", size=20))
    assert (
        data.notes["near_duplicates"]["test"] == [0, 0]
        and twins.start_messages(data) == []
        and not data.extra_test_splits
    )


def test_flat_pictures_are_copies_and_nothing_else(tmp_path):
    flat = np.stack([np.full((1, 30, 30), value, np.uint8) for value in (0, 9, 9, 255)])
    (found,) = near_duplicates.copies(tmp_path, {"train": flat}).values()
    assert found.photo.tolist()[1] == found.photo.tolist()[2] and len(set(found.photo.tolist())) == 3
    assert len(set(found.content.tolist())) == 3


def test_pairs_are_those_of_the_definition(monkeypatch):
    """Against the plain formula: both correlations 0.8 or more, over every pair; and blocks and directions do not matter."""
    rng = np.random.default_rng(0)
    base = np.stack([np.asarray(portrait(k, 48).convert("L")) for k in range(60)])
    noise = rng.normal(0, rng.uniform(0, 60, (60, 1, 1)), base.shape)
    pixels = np.concatenate([base, np.clip(base + noise, 0, 255)]).astype(np.uint8)[:, None]
    small = pixels.reshape(120, 24, 2, 24, 2).mean((2, 4))
    high = small - np.kron(small.reshape(120, 6, 4, 6, 4).mean((2, 4)), np.ones((4, 4)))
    both = np.minimum(*(np.corrcoef(vectors.reshape(120, -1)) for vectors in (high, small)))
    wanted = {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(both >= 0.8, 1)), strict=True)}
    assert 20 < len(wanted) < 60
    vectors = near_duplicates.bands(pixels)
    for rows, directions in ((2048, 64), (7, 3), (50, 576)):
        monkeypatch.setattr(near_duplicates, "ROWS", rows)
        monkeypatch.setattr(near_duplicates, "DIRECTIONS", directions)
        found = near_duplicates.pairs(vectors, vectors, np.arange(120))
        assert {(int(i), int(j)) for left, right in found for i, j in zip(left, right, strict=True)} == wanted


def test_frames_of_one_face_are_one_photograph_without_a_look_at_every_pair(tmp_path, monkeypatch):
    rng, looked = np.random.default_rng(0), []
    frames = np.asarray(portrait(0).convert("L")) + rng.normal(0, 5, (1500, 1, 48, 48))
    einsum = np.einsum
    monkeypatch.setattr(np, "einsum", lambda how, a, b: looked.append(len(a)) or einsum(how, a, b))
    (found,) = near_duplicates.copies(tmp_path, {"train": np.clip(frames, 0, 255).astype(np.uint8)}).values()
    assert len(set(found.photo.tolist())) == 1 and len(set(found.content.tolist())) == 1500
    assert sum(looked) < 1500 * 1499 / 2 / 10


def test_faces_of_another_pack_and_size_are_compared_by_their_photograph(root, store, tmp_path):
    data = build.dataset(*asked_for(root, store))
    write(tmp_path / "new", "a", [0, 10, 90], lambda image: image.convert("L").resize((100, 100)))
    other = folder(tmp_path / "store", tmp_path / "new" / "a", size=64, channels=1, test=1).splits["test"]
    seen = twins.near_duplicate(other, [data.splits["train"], data.splits["valid"]])
    assert dict(zip(other.ids, seen.tolist(), strict=True)) == {
        f"{name}/{number}.png": number != 90 for name in ("a", "b") for number in (0, 10, 90)
    }
