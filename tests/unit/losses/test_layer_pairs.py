"""Which stages meet where no layer is named: the rules that the losses on feature maps promise."""

from distill.losses.base.feature_loss import FeatureLoss
from distill.models.feature_hooks import Layer, Survey


def network(*sides):
    stages = tuple(Layer(f"s{side}", (4, side, side), False) for side in sides)
    return Survey({layer.name: layer for layer in stages}, stages, Layer("e:in", (4,), False))


def pairs(kind, student, teacher, sizes):
    loss = FeatureLoss()
    loss.pairing = kind
    found = loss._pair(None, None, network(*student), network(*teacher), sizes)
    return [(own.shape[1], theirs.shape[1]) for own, theirs in found]


def test_middle_stage_meets_the_nearest_relative_to_its_input():
    assert pairs("stage", (40, 20, 10, 5), (32, 16, 8), (40, 64)) == [(10, 16)]
    assert pairs("stage", (24, 12, 6), (40, 20, 10), (48, 80)) == [(12, 20)]


def test_layer_pair_equally_near_is_the_coarser():
    assert pairs("stage", (20,), (32, 8), (40, 32)) == [(20, 8)], "twice and half as large"


def test_layer_pairs_leave_out_stages_finer_than_the_teachers():
    assert pairs("stages", (40, 20, 10, 5), (16, 8, 4), (40, 64)) == [(10, 16), (5, 8)]
    assert pairs("stages", (14, 7), (16, 8), (40, 64)) == [(14, 16), (7, 8)], "a little finer is the same stage"
