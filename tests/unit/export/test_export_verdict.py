"""Where the parity gate draws its lines: each number of a file, a little on either side."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cached_faces import faces

from distill.augment.views import identity, render
from distill.export import parity as gate
from distill.export.int8_static import calibration_images
from distill.export.parity import FACES, Parity, verdict
from distill.types import InputSpec
from students.microexpnet import MicroExpNet

WELL = Parity(1.0, 0.8, (0.78, 0.82), 0.0, 0.0, 0.0, 1.0, 3)
LINES = [
    (True, {"agreement": 0.9991}, {"agreement": 0.9989}, "agrees with the PyTorch student on 99.89%"),
    (True, {"difference": -0.1}, {"difference": -0.1, "agreement": 0.9}, "agrees"),  # accuracy is no matter there
    (True, {"other_batch": 0.0009}, {"other_batch": 0.0011}, "another batch size: .* by 0.001"),
    (True, {"other_size": 0.0009}, {"other_size": 0.002}, "another picture size: .* by 0.002"),
    (False, {"difference": 0.798 - 0.803}, {"difference": -0.0051}, "loses 0.51 points"),  # 0.005 and a little
    (False, {"difference": 0.3, "agreement": 0.7, "other_size_agreement": 0.7}, {"difference": -0.3}, "loses 30"),
    (False, {"other_batch": 0.099}, {"other_batch": 0.101}, "another batch size: .* by 0.101"),
    (False, {"other_size": 0.9}, {"other_size_agreement": 0.9}, "90.0% of faces of another size, and on 100.0%"),
    (False, {"other_size_agreement": 0.981 - 2 / FACES}, {"other_size_agreement": 0.979 - 2 / FACES}, "another size"),
]


@pytest.mark.parametrize(("exact", "good", "bad", "sentence"), LINES)
def test_a_file_passes_on_one_side_of_each_line_and_not_on_the_other(exact, good, bad, sentence):
    assert verdict(replace(WELL, **good), exact) is None
    assert re.search(sentence, verdict(replace(WELL, **bad), exact) or "nothing")


def test_ranges_are_seen_on_faces_from_all_over_the_split():
    split, spec = faces(24).splits["train"], InputSpec(16)
    found = calibration_images(split, spec, 4)
    wanted = render(torch.from_numpy(split.pixels[split.rows[[0, 8, 15, 23]]]), identity(4), spec)
    assert torch.equal(found, wanted) and len(calibration_images(split, spec, 99)) == 24


def test_faces_of_other_sizes_are_upright_wide_and_small_and_none_of_them_is_square():
    student = MicroExpNet(3, 40, "XXS", "both", 0.0, "torch", 0.5, 0.25).eval()
    wanted = gate.reference(student, faces(24).splits["valid"], True)
    shapes = [pictures.shape[1:3] for pictures, _ in wanted.resized]
    assert (
        shapes == [(round(tall * 40), round(wide * 40)) for tall, wide in gate.SIZES] == [(50, 68), (92, 104), (24, 18)]
    )
    pictures, logits = wanted.resized[1]
    drawn = render(torch.from_numpy(pictures).permute(0, 3, 1, 2), identity(len(pictures)), student.input)
    np.testing.assert_allclose(student(drawn).logits.detach().numpy(), logits, atol=1e-5)
