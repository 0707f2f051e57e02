"""What is measured at the end of a run: combined views, other selections of the test faces, folds."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commandline import distill, result_of
from torch import nn

from distill.augment.views import render
from distill.evaluation.inference import CROPS8, student_logits, tta_views
from distill.pipeline.folds import over_folds
from distill.types import InputSpec, Outputs, Split


class Mean(nn.Module):
    """Answers the mean of the left and of the right half of what it sees, in units of pixels / 255."""

    def __init__(self):
        super().__init__()
        self.input, self.nothing = InputSpec(16), nn.Parameter(torch.zeros(()))

    def forward(self, images):
        logits = torch.stack([images[..., :8].mean((1, 2, 3)), images[..., 8:].mean((1, 2, 3))], 1) + self.nothing
        return Outputs(logits, logits[:, None], {})


def faces(side: int = 16) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, side, side), np.uint8)
    return Split("test", pixels, np.arange(6), np.eye(2)[[0, 1] * 3], np.array([0, 1] * 3), tuple("abcdef"), "")


def test_mirror_averages_the_logits_of_face_and_mirror_image():
    split = faces()
    both = student_logits(Mean(), split, "mirror")
    plain = student_logits(Mean(), split, "plain")
    torch.testing.assert_close(both, (plain + plain.flip(1)) / 2, atol=1e-5, rtol=0)


def test_crops8_sees_exactly_the_eight_published_crops():
    smooth = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    packed = F.interpolate(smooth, size=256, mode="bicubic", antialias=True).clamp(0, 255).round().to(torch.uint8)
    for (row, column), view in zip(CROPS8, tta_views("crops8"), strict=True):
        crop = packed[:, :, row : row + 224, column : column + 224].float() / 255
        seen = render(packed, view.expand(2, -1), InputSpec(224))
        torch.testing.assert_close(seen, crop, atol=2e-3, rtol=0)


def test_tta_crops8_averages_probabilities():
    split = faces()
    rows = tta_views("crops8")
    shares = [Mean()(render(torch.from_numpy(split.pixels), row.expand(6, -1), InputSpec(16))).logits for row in rows]
    mean = torch.stack(shares).softmax(-1).mean(0)
    torch.testing.assert_close(student_logits(Mean(), split, "crops8").softmax(1), mean, atol=1e-5, rtol=0)


def test_an_unknown_way_to_look_is_told_which_there_are():
    with pytest.raises(ValueError, match=r"eval\.tta: expected plain, mirror, crops8.*, got 'crops10'"):
        tta_views("crops10")


def test_a_complete_run_is_measured_again_in_another_way_without_training_again(tmp_path):
    plain = distill("teacher=none", "loss=[ce]", store=tmp_path / "store", runs=tmp_path / "runs")
    assert plain.returncode == 0, plain.stderr
    (folder,) = (tmp_path / "runs").glob("*/result.json")
    weights = folder.parent / "checkpoints" / "best.safetensors"
    before, written = result_of(tmp_path / "runs"), weights.stat().st_mtime_ns
    more = ("eval.tta=mirror", "eval.robustness=[dark,mask]", "eval.severities=[1,5]")
    again = distill("teacher=none", "loss=[ce]", *more, store=tmp_path / "store", runs=tmp_path / "runs")
    assert again.returncode == 0, again.stderr
    result = result_of(tmp_path / "runs")
    assert weights.stat().st_mtime_ns == written and result["eval"]["tta"] == "mirror"
    assert result["student"]["metrics"]["test/nll"] != before["student"]["metrics"]["test/nll"]
    assert set(result["robustness"]["corruptions"]) == {"dark", "mask"} and (folder.parent / "robustness.csv").is_file()
    assert "accuracy on corrupted test faces" in again.stdout


def test_mean_and_spread_over_folds_are_those_of_the_sample():
    found = over_folds([{"test/top1_accuracy": 0.5, "x": "a"}, {"test/top1_accuracy": 0.7, "x": "b"}])
    assert found["metrics"] == {"test/top1_accuracy": pytest.approx(0.6)}
    assert found["spread"] == {"test/top1_accuracy": pytest.approx(np.std([0.5, 0.7], ddof=1))}
    assert json.dumps(found)
