"""Parameters, multiply-accumulates and bytes against counts by hand."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill.profile import macs, num_parameters, profile, weight_bytes
from distill.types import InputSpec, Outputs


class TwoViews(nn.Module):
    """A face and its mirror image through one convolution, and a linear layer on the mean."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 8)

    def forward(self, images):
        both = self.norm(self.conv(torch.cat([images, images.flip(-1)]))).relu().mean((2, 3))
        first, mirrored = both.chunk(2)
        logits = self.head((first + mirrored) / 2)
        return Outputs(logits, logits[:, None], {})


def test_both_views_of_a_network_that_looks_twice_are_counted():
    assert macs(TwoViews(), InputSpec(10)) == 2 * (10 * 10 * 4 * 9) + 4 * 8


@pytest.mark.parametrize("channels", [1, 3])
def test_the_input_has_the_size_and_colour_that_the_network_asks_for(channels):
    assert macs(nn.Conv2d(channels, 2, 1), InputSpec(6, channels)) == 6 * 6 * 2 * channels


def test_modes_statistics_and_gradients_are_left_as_they_were():
    model = TwoViews().train()
    model.norm.eval()
    mean = model.norm.running_mean.clone()
    macs(model, InputSpec(10))
    assert model.training and model.conv.training and not model.norm.training
    assert torch.equal(model.norm.running_mean, mean) and model.norm.num_batches_tracked == 0
    assert all(p.grad is None for p in model.parameters())


def test_modes_come_back_when_the_network_fails():
    model = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 1, 1)).train()
    with pytest.raises(RuntimeError):
        macs(model, InputSpec(6, channels=1))
    assert model[0].training


def test_parameters_are_counted_frozen_or_not_and_a_shared_one_once():
    model = TwoViews()
    model.conv.requires_grad_(False)
    model.tied = model.head
    assert num_parameters(model) == 4 * 9 + 4 + 4 + 4 * 8 + 8


def test_bytes_are_those_of_the_float32_file(tmp_path):
    model = TwoViews().to(memory_format=torch.channels_last)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "weights.safetensors")
    size = (tmp_path / "weights.safetensors").stat().st_size
    assert weight_bytes(model) == size > 4 * num_parameters(model)
    assert weight_bytes(model.bfloat16()) == size


def test_a_bfloat16_network_and_one_without_parameters_are_counted():
    assert macs(TwoViews().bfloat16(), InputSpec(10)) == macs(TwoViews(), InputSpec(10))
    assert profile(nn.Flatten(), InputSpec(4))["macs"] == 0


def test_a_profile_has_the_three_numbers_of_the_table():
    numbers = profile(TwoViews(), InputSpec(10))
    assert list(numbers) == ["num_parameters", "macs", "bytes"]
    assert all(type(value) is int and value > 0 for value in numbers.values())


def test_resnet18_costs_what_is_published():
    timm = pytest.importorskip("timm")
    numbers = profile(timm.create_model("resnet18"), InputSpec(224, 3))
    assert numbers["num_parameters"] == 11_689_512
    assert numbers["macs"] == pytest.approx(1.82e9, rel=0.005)
