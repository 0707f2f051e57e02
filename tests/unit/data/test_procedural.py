"""The procedural faces: counted randomness, label distributions, visible expressions, a contact sheet."""

import re

import numpy as np
import pytest
import yaml
from commandline import ROOT, benchmark
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.data.procedural import draw, procedural
from distill.system.typed import as_typed

DEFAULTS = yaml.safe_load((ROOT / "conf" / "data" / "procedural.yaml").read_text())["data"]
assert DEFAULTS.pop("_target_") == "distill.data.procedural.procedural"
KNOBS = {name: DEFAULTS[name] for name in ("intensity", "mixture", "occlusion", "pose", "light")}
CLEAR = {"intensity": 0.8, "mixture": 0.0, "occlusion": 0.0, "pose": 0.3, "light": 0.3}
SMALL = {**DEFAULTS, "size": 32, "train": 96, "valid": 64, "test": 64}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return procedural(tmp_path_factory.mktemp("store"), **SMALL)


def test_the_same_seed_draws_the_same_bytes_in_another_store(dataset, tmp_path):
    again = procedural(tmp_path, **SMALL)
    for name, split in dataset.splits.items():
        assert split.sha256 == again.splits[name].sha256
        assert split.pixels.tobytes() == again.splits[name].pixels.tobytes()
        assert np.array_equal(split.target, again.splits[name].target)


def test_another_seed_draws_other_faces_and_other_votes(dataset, tmp_path):
    other = procedural(tmp_path, **{**SMALL, "seed": 1})
    for name, split in dataset.splits.items():
        assert not (split.pixels == other.splits[name].pixels).all(axis=(1, 2, 3)).any()
        assert not np.array_equal(split.target, other.splits[name].target)


def test_a_picture_does_not_depend_on_how_many_are_drawn_or_on_where_the_drawing_starts():
    many, votes = draw(7, 0, 123, 48, **KNOBS)
    few, few_votes = draw(7, 0, 17, 48, **KNOBS)
    late, late_votes = draw(7, 0, 5, 48, first=104, **KNOBS)
    assert np.array_equal(many[:17], few)
    assert np.array_equal(votes[:17], few_votes)
    assert np.array_equal(many[104:109], late)
    assert np.array_equal(votes[104:109], late_votes)


def test_a_picture_does_not_depend_on_how_many_are_drawn_together(monkeypatch):
    together, _ = draw(7, 0, 50, 48, **KNOBS)
    monkeypatch.setattr("distill.data.procedural.faces.CHUNK", 7)
    assert np.array_equal(together, draw(7, 0, 50, 48, **KNOBS)[0])


def test_no_picture_is_in_two_splits_or_twice_in_one(dataset):
    pictures = [picture.tobytes() for split in dataset.splits.values() for picture in split.pixels]
    assert len(set(pictures)) == len(pictures) == 96 + 64 + 64


def test_targets_are_tenths_that_sum_to_one_and_the_label_is_their_argmax(dataset):
    assert dataset.classes == EMOTIONS
    for split in dataset.splits.values():
        assert split.pixels.dtype == np.uint8
        assert split.pixels.shape == (len(split), 1, 32, 32)
        assert split.target.dtype == np.float32
        assert split.target.shape == (len(split), 8)
        np.testing.assert_allclose(split.target.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(split.target * 10, np.round(split.target * 10), atol=1e-5)
        assert np.array_equal(split.label, split.target.argmax(1))
        assert len(set(split.ids)) == len(split)


def test_every_split_shows_all_eight_expressions_about_equally_often():
    for split in range(3):
        _, votes = draw(DEFAULTS["seed"], split, 1000, 24, **KNOBS)
        share = np.bincount(votes.argmax(1), minlength=8) / 1000
        assert share.min() > 0.08
        assert share.max() < 0.25


def test_mixtures_and_weak_expressions_divide_the_annotators():
    _, clear = draw(0, 0, 400, 24, **CLEAR)
    _, mixed = draw(0, 0, 400, 24, **{**CLEAR, "mixture": 1.0})
    _, weak = draw(0, 0, 400, 24, **{**CLEAR, "intensity": 0.0})
    agreement = [votes.max(1).mean() / 10 for votes in (clear, mixed, weak)]
    assert agreement[0] > 0.9
    assert max(agreement[1:]) < agreement[0] - 0.05


def test_two_thousand_faces_are_drawn_and_none_of_them_is_flat():
    pictures, votes = draw(0, 0, 2000, 48, **KNOBS)
    assert pictures.shape == (2000, 48, 48)
    assert pictures.std(axis=(1, 2)).min() > 8
    assert (votes.sum(1) == 10).all()


def test_expressions_show_in_the_pixels_of_unseen_people():
    """Least squares on raw pixels, people of one split against those of another; chance is 0.125."""
    train, train_votes = draw(0, 0, 1600, 24, **CLEAR)
    test, test_votes = draw(0, 1, 400, 24, **CLEAR)
    x, y = (np.hstack([p.reshape(len(p), -1) / 255.0, np.ones((len(p), 1))]) for p in (train, test))
    weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(x.shape[1]), x.T @ (train_votes / 10))
    accuracy = np.mean((y @ weights).argmax(1) == test_votes.argmax(1))
    assert accuracy > 0.4


def test_occlusion_hides_a_part_of_some_pictures_and_leaves_the_others_as_they_were():
    bare, _ = draw(0, 0, 200, 32, **{**KNOBS, "occlusion": 0.0})
    hidden, _ = draw(0, 0, 200, 32, **{**KNOBS, "occlusion": 0.5})
    changed = (bare != hidden).any(axis=(1, 2)).mean()
    assert 0.35 < changed < 0.6


@pytest.mark.parametrize(
    "key, value",
    [("size", 23), ("size", 48.0), ("train", 7), ("valid", 0), ("test", "all"), ("seed", -1), ("seed", True),
     ("mixture", 1.2), ("occlusion", -0.1), ("intensity", "strong"), ("pose", float("nan"))],
)  # fmt: skip
def test_a_key_outside_its_range_is_named_and_nothing_is_written(key, value, tmp_path):
    with pytest.raises(
        ValueError, match=rf"data\.{key}: expected a (whole )?number from .*, got {re.escape(as_typed(value))}"
    ):
        procedural(tmp_path, **{**SMALL, key: value})
    assert not list(tmp_path.iterdir())


def test_the_contact_sheet_is_drawn_by_its_command(tmp_path):
    out = tmp_path / "sheet.png"
    benchmark("contact_sheets", "docs").main([str(out)])
    with Image.open(out) as sheet:
        assert sheet.height == 8 * 96 and sheet.width > 12 * 96
    assert out.stat().st_size < 400_000
