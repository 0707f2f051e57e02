"""A cell of CenterFace's answer is the box that its formula says, in pixels of the picture as it was given; crops begin at whole pixels."""

from types import SimpleNamespace

import numpy as np
import pytest

from distill.predict.boxes import check_inside, cut
from distill.predict.detector import CenterFace


@pytest.mark.parametrize("scale", [1, 2])
def test_a_cell_above_the_threshold_is_a_face_of_its_size_around_its_place(scale):
    heat, sizes, offsets = np.zeros((1, 1, 16, 24)), np.zeros((1, 2, 16, 24)), np.zeros((1, 2, 16, 24))
    for at, score in (((5, 7), 0.9), ((12, 20), 0.5), ((1, 1), 0.8)):
        heat[0, 0, *at] = score
    sizes[0, :, 5, 7], offsets[0, :, 5, 7] = np.log([10, 6]), (0.25, -0.125)  # height, width; down, across
    finder = object.__new__(CenterFace)
    finder.size, finder.threshold, finder.smallest = 96, 0.5, 20
    finder.session = SimpleNamespace(run=lambda names, given: (heat, sizes, offsets))
    boxes, scores = finder(np.zeros((64 * scale, 96 * scale, 3), np.uint8))
    assert scores.tolist() == [0.9], "the second is not above the threshold, the third smaller than 20 pixels"
    np.testing.assert_allclose(boxes, [[scale * (29.5 - 12), scale * (23 - 20), scale * 24, scale * 40]])


def test_both_ends_of_a_crop_are_rounded_to_the_nearest_pixel():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(cut(picture, np.array([2.6, 3.6, 8.1, 8.1]), (8, 8)), picture[4:12, 3:11])


@pytest.mark.parametrize(
    "box", [[30, 5, 4, 4], [5, 20, 4, 4], [-4, 5, 4, 4], [5, -4, 4, 4], [0, 0, 91, 5], [0, 0, 5, 91]]
)
def test_a_box_that_only_touches_a_picture_or_dwarfs_it_is_refused_and_one_that_overlaps_is_not(box):
    picture = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="does not fit a picture of 30 x 20 pixels"):
        check_inside(np.array([box], float), picture)
    x, y, width, height = box
    check_inside(
        np.array([[min(max(x, -3), 29), min(max(y, -3), 19), min(width, 90), min(height, 90)]], float), picture
    )
