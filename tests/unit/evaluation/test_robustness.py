"""Faces behind masks, sunglasses and hands, or badly photographed, and how a network does on them."""

import csv
import json

import numpy as np
import pytest
import torch
from commandline import benchmark
from PIL import Image
from torch import nn

from distill.evaluation.inference import student_logits
from distill.evaluation.metrics import mean_class_accuracy, top1_accuracy
from distill.evaluation.robustness import (
    CORRUPTIONS,
    SEVERITIES,
    SHARES,
    corrupt,
    evaluate_robustness,
    write_robustness,
)
from distill.types import InputSpec, Outputs, Split

sheets = benchmark("contact_sheets", "docs")
faces = sheets.straight_faces
EYES, MOUTH, FOREHEAD = (slice(15, 21), slice(10, 38)), (slice(34, 41), slice(16, 32)), (slice(0, 6), slice(0, 48))


@pytest.fixture(scope="module")
def gray():
    return faces(48)[:24]


@pytest.fixture(scope="module")
def color():
    return np.repeat(faces(128)[:3], 3, axis=1)


def hidden(before, after, zone):
    """Share of the pixels of a zone that changed by more than 8 of 255."""
    change = np.abs(after.astype(int) - before)[:, :, zone[0], zone[1]]
    return (change > 8).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_picture_is_spoilt_by_its_own_row_and_not_by_its_neighbors_or_place(name, gray):
    rows = np.arange(100, 124)
    whole = corrupt(gray, name, 3, seed=5, rows=rows)
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_array_equal(corrupt(gray[order], name, 3, seed=5, rows=rows[order]), whole[order])
    for k in (0, 7, 23):
        np.testing.assert_array_equal(corrupt(gray[k : k + 1], name, 3, seed=5, rows=rows[k : k + 1]), whole[k : k + 1])


def test_more_pictures_than_one_block_are_all_spoilt_as_one_by_one(gray):
    many = np.tile(gray, (4, 1, 1, 1))
    whole = corrupt(many, "hand", 4)
    assert 48 * 48 * len(many) > 2**17
    for k in (0, 55, 57, 95):
        np.testing.assert_array_equal(corrupt(many[k : k + 1], "hand", 4, rows=[k]), whole[k : k + 1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_another_seed_or_row_is_another_occlusion_but_the_same_light_and_lens(name, gray):
    same = np.repeat(gray[:1], 8, axis=0)
    first, other = corrupt(same, name, 4), corrupt(same, name, 4, seed=1)
    drawn = name not in ("blur", "dark")
    assert (first != other).any() == drawn and (first != first[:1]).any() == drawn


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_gray_and_color_keep_their_shape_and_the_given_pixels_stay(name, gray, color):
    for pixels in (gray, color, gray[:, :, :40], gray[:0]):
        before = pixels.copy()
        spoilt = corrupt(pixels, name, 2)
        assert spoilt.shape == pixels.shape and spoilt.dtype == np.uint8
        np.testing.assert_array_equal(pixels, before)
        assert not len(pixels) or (spoilt != pixels).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_changes_the_face_more_than_the_one_before(name, gray):
    change = [np.abs(corrupt(gray, name, severity).astype(int) - gray).mean() for severity in SEVERITIES]
    assert change[0] > 2 and (np.diff(change) > 0.3).all(), change


def test_a_mask_hides_the_mouth_sunglasses_the_eyes_and_a_hand_part_of_the_mouth(gray):
    shown = {name: corrupt(gray, name, 3) for name in ("mask", "sunglasses", "hand")}
    assert hidden(gray, shown["mask"], MOUTH) > 0.7 > 0.05 > hidden(gray, shown["mask"], EYES)
    assert hidden(gray, shown["sunglasses"], EYES) > 0.6 > 0.01 > hidden(gray, shown["sunglasses"], MOUTH)
    assert 0.9 > hidden(gray, shown["hand"], MOUTH) > 0.25 > 0.02 > hidden(gray, shown["hand"], EYES)
    assert all(hidden(gray, after, FOREHEAD) < 0.01 for after in shown.values())


def test_masks_come_in_several_colors_and_are_the_same_in_gray_by_their_luma(color):
    spoilt = corrupt(np.repeat(color[:1], 40, axis=0), "mask", 5)
    cloth = spoilt[:, :, 85, 64].astype(int)
    blue, black = cloth[:, 2] - cloth[:, 0] > 30, cloth.max(1) < 90
    assert 8 <= blue.sum() <= 32 and 1 <= black.sum() <= 15
    luma = np.tensordot([0.299, 0.587, 0.114], spoilt, (0, 1))
    single = corrupt(np.repeat(color[:1, :1], 40, axis=0), "mask", 5)[:, 0]
    assert np.abs(luma - single).max() <= 1.5


def test_things_look_alike_at_every_size():
    def shrink(pixels):
        return pixels.reshape(8, 1, 48, 3, 48, 3).mean((3, 5))

    large = faces(144)[:8]
    for name in ("mask", "sunglasses", "hand", "patch"):
        small = corrupt(shrink(large).astype(np.uint8), name, 4)
        shrunk = shrink(corrupt(large, name, 4))
        assert np.abs(small - shrunk).mean() < 0.15 * np.abs(shrink(large) - shrunk).mean(), name


def test_a_patch_covers_its_share_of_the_picture_wherever_it_lies():
    white = np.full((50, 1, 40, 60), 255, np.uint8)
    for severity, area in zip(SEVERITIES, (0.05, 0.10, 0.20, 0.30, 0.45), strict=True):
        lost = (255 - corrupt(white, "patch", severity).astype(float)).mean((1, 2, 3)) / 127
        np.testing.assert_allclose(lost, area, atol=0.004)
    covered = np.argwhere(corrupt(white, "patch", 1) < 255)
    assert covered[:, 2].std() > 8 and covered[:, 3].std() > 10


def test_light_and_lens_do_what_their_units_say():
    flat = np.full((20, 1, 48, 48), 128, np.uint8)
    assert corrupt(flat, "noise", 2).std() / 255 == pytest.approx(0.08, rel=0.02)
    np.testing.assert_array_equal(corrupt(flat, "blur", 5), flat)
    np.testing.assert_array_equal(corrupt(flat, "dark", 3), round(0.55 * (128 / 255) ** 1.9 * 255))
    dot = np.zeros((1, 1, 101, 101), np.uint8)
    dot[0, 0, 50, 50] = 255
    spread = corrupt(dot, "blur", 2)[0, 0, 50].astype(float)
    assert np.sqrt((spread * (np.arange(101) - 50) ** 2).sum() / spread.sum()) == pytest.approx(1.818, rel=0.1)


def test_faces_are_turned_by_the_degrees_asked_to_either_side():
    dots = np.zeros((40, 1, 61, 81), np.uint8)
    dots[:, 0, 5:8, 39:42] = 255  # 24 pixels above the middle
    turned = corrupt(dots, "rotate", 3)[:, 0].astype(float)
    total = turned.sum((1, 2))
    y = (turned.sum(2) * np.arange(61)).sum(1) / total - 30
    x = (turned.sum(1) * np.arange(81)).sum(1) / total - 40
    np.testing.assert_allclose(y, -24 * np.cos(np.pi / 6), atol=0.3)
    np.testing.assert_allclose(np.abs(x), 24 * np.sin(np.pi / 6), atol=0.3)
    assert 8 <= (x > 0).sum() <= 32


def test_corrupt_with_an_unknown_name_or_severity_lists_those_there_are(gray):
    with pytest.raises(ValueError, match=r"eval.robustness: expected one of mask, .*, rotate, got 'fog'\."):
        corrupt(gray, "fog", 1)
    for severity in (0, 6, 1.5, "3"):
        with pytest.raises(ValueError, match=rf"eval.severities: expected one of 1, 2, 3, 4, 5, got {severity!r}\."):
            corrupt(gray, "mask", severity)
    with pytest.raises(ValueError, match=r"rows: \[2\] for 24 pictures"):
        corrupt(gray, "mask", 1, rows=[0, 1])


class Brightness(nn.Module):
    """Says class 1 of faces that are bright."""

    def __init__(self, classes: int = 2):
        super().__init__()
        self.input, self.weight = InputSpec(16), nn.Parameter(torch.linspace(-1, 1, classes))

    def forward(self, images):
        logits = (images.mean((1, 2, 3)) - 0.5)[:, None] * self.weight
        return Outputs(logits, logits[:, None], {})


@pytest.fixture(scope="module")
def split():
    pixels = np.random.default_rng(0).normal(128, 70, (40, 1, 1, 1)) + np.zeros((1, 1, 16, 16))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    rows = np.arange(1, 40, 3)
    label = (pixels[rows, 0, 0, 0] > 127).astype(np.int64)
    label[:2] = 1 - label[:2]
    return Split("test", pixels, rows, np.eye(2, dtype=np.float32)[label], label, tuple(map(str, rows)), "")


def test_an_evaluation_is_that_of_the_corrupted_rows_of_the_split(split):
    network = Brightness().train()
    found = evaluate_robustness(network, split, ("dim", "bright"), ["noise", "dark"], [5, 1], seed=3)
    assert found["severities"] == [1, 5] and found["rows"] == 13 and network.training
    assert found["clean"]["top1_accuracy"] == pytest.approx(11 / 13)
    for name in ("noise", "dark"):
        for severity in (1, 5):
            spoilt = corrupt(split.pixels[split.rows], name, severity, 3, split.rows)
            own = Split("", spoilt, np.arange(13), split.target, split.label, split.ids, "")
            logits = student_logits(network, own)
            scores = {f.__name__: f(logits, split.label) for f in (top1_accuracy, mean_class_accuracy)}
            assert found["corruptions"][name][str(severity)] == scores
    dark = found["corruptions"]["dark"]
    assert dark["5"]["top1_accuracy"] == np.mean(split.label == 0) != dark["1"]["top1_accuracy"]
    for key in SHARES:
        assert dark["mean"][key] == pytest.approx((dark["1"][key] + dark["5"][key]) / 2)
        noise = found["corruptions"]["noise"]["mean"][key]
        assert found["mean"][key] == pytest.approx((noise + dark["mean"][key]) / 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_evaluation_is_refused_before_it_starts_where_it_asks_for_nothing_or_for_other_classes(split):
    for names, severities in (([], [1]), (["mask"], [])):
        with pytest.raises(ValueError, match="one is empty"):
            evaluate_robustness(Brightness(), split, ("a", "b"), names, severities)
    with pytest.raises(ValueError, match="2 columns for 3 classes"):
        evaluate_robustness(Brightness(), split, ("a", "b", "c"), ["mask"], [1])


def test_the_table_has_a_line_per_severity_and_nothing_else_is_left(split, tmp_path):
    found = evaluate_robustness(Brightness(), split, ("dim", "bright"), ["patch", "dark"], [1, 3])
    write_robustness(tmp_path / "robustness.csv", found)
    assert [path.name for path in tmp_path.iterdir()] == ["robustness.csv"]
    with open(tmp_path / "robustness.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["corruption"], line["severity"]) for line in lines] == [
        ("clean", "0"), ("patch", "1"), ("patch", "3"), ("dark", "1"), ("dark", "3"),
    ]  # fmt: skip
    assert list(lines[0]) == ["corruption", "severity", "top1_accuracy", "mean_class_accuracy"]
    for line in lines[1:]:
        for key in SHARES:
            scores = found["corruptions"][line["corruption"]][line["severity"]]
            assert float(line[key]) == pytest.approx(scores[key], abs=1e-6)


def test_the_contact_sheet_is_drawn_by_its_command(tmp_path):
    sheets.main([str(tmp_path / "sheet.png"), "--corruptions"])
    assert np.asarray(Image.open(tmp_path / "sheet.png")).std() > 40
