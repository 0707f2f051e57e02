"""FerLite: sizes keep their budgets, every choice trains, and what cannot be built is refused by key."""

import pytest
import torch
from student_nets import assert_trains, macs, num_parameters

from students.ferlite import POOLINGS, FerLite

BUDGETS = {"S": 65_000, "M": 170_000, "L": 1_460_000}


def make(width="S", size=48, pooling="none", dropout=0.0):
    return FerLite(8, size, width, pooling, dropout, mean=0.5, std=0.25)


@pytest.mark.parametrize("width", BUDGETS)
def test_a_named_size_keeps_its_budget_of_parameters(width):
    assert 0.75 * BUDGETS[width] < num_parameters(make(width)) <= BUDGETS[width]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("width", ["S", 0.5])
def test_every_pooling_and_width_trains(pooling, width):
    assert_trains(make(width, pooling=pooling), heads=1)


def test_a_number_scales_the_channels_of_m():
    assert num_parameters(make(1.0)) == num_parameters(make("M"))
    sizes = [num_parameters(make(width)) for width in (0.5, 0.75, 1.0, 1.5)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4


def test_ferlite_without_pooling_costs_least():
    costs = {pooling: macs(make("S", pooling=pooling), 48) for pooling in POOLINGS}
    assert costs["none"] == min(costs.values())


def test_logits_of_a_face_do_not_depend_on_its_batch():
    net = make("S").eval()
    faces = torch.randn(4, 1, 48, 48)
    with torch.no_grad():
        together, alone = net(faces).logits, torch.cat([net(face[None]).logits for face in faces])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 47), ("size", 8), ("width", "XL"), ("width", 0), ("width", True), ("pooling", "sum"), ("dropout", 1.0)],
)
def test_a_number_that_cannot_be_is_refused_by_its_key(key, value):
    with pytest.raises(ValueError, match=f"student.{key}"):
        make(**{key: value})
