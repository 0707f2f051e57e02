"""Parameters, multiply-accumulates and bytes against counts by hand; time is positive."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill.evaluation.cost import macs, num_parameters, profile, speed, weight_bytes
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


def test_macs_network_that_looks_twice_counts_both():
    assert macs(TwoViews(), InputSpec(10)) == 2 * (10 * 10 * 4 * 9) + 4 * 8


@pytest.mark.parametrize("channels", [1, 3])
def test_macs_input_has_the_networks_size_and_channels(channels):
    assert macs(nn.Conv2d(channels, 2, 1), InputSpec(6, channels)) == 6 * 6 * 2 * channels


def test_macs_leaves_modes_statistics_and_gradients():
    model = TwoViews().train()
    model.norm.eval()
    mean = model.norm.running_mean.clone()
    macs(model, InputSpec(10))
    assert model.training and model.conv.training and not model.norm.training
    assert torch.equal(model.norm.running_mean, mean) and model.norm.num_batches_tracked == 0
    assert all(p.grad is None for p in model.parameters())


def test_macs_failing_network_gets_its_modes_back():
    model = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 1, 1)).train()
    with pytest.raises(RuntimeError):
        macs(model, InputSpec(6, channels=1))
    assert model[0].training


def test_num_parameters_counts_frozen_ones_and_a_shared_one_once():
    model = TwoViews()
    model.conv.requires_grad_(False)
    model.tied = model.head
    assert num_parameters(model) == 4 * 9 + 4 + 4 + 4 * 8 + 8


def test_weight_bytes_are_those_of_the_float32_file(tmp_path):
    model = TwoViews().to(memory_format=torch.channels_last)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "weights.safetensors")
    size = (tmp_path / "weights.safetensors").stat().st_size
    assert weight_bytes(model) == size > 4 * num_parameters(model)
    assert weight_bytes(model.bfloat16()) == size


def test_profile_counts_bfloat16_and_no_parameters():
    assert macs(TwoViews().bfloat16(), InputSpec(10)) == macs(TwoViews(), InputSpec(10))
    assert profile(nn.Flatten(), InputSpec(4))["macs"] == 0


def test_profile_has_the_three_numbers_of_the_table():
    numbers = profile(TwoViews(), InputSpec(10))
    assert list(numbers) == ["num_parameters", "macs", "bytes"]
    assert all(type(value) is int and value > 0 for value in numbers.values())


def test_profile_resnet18_is_what_is_published():
    timm = pytest.importorskip("timm")
    numbers = profile(timm.create_model("resnet18"), InputSpec(224, 3))
    assert numbers["num_parameters"] == 11_689_512
    assert numbers["macs"] == pytest.approx(1.82e9, rel=0.005)


class Watched(TwoViews):
    """Notes how it is asked."""

    def forward(self, images):
        self.seen = {"threads": torch.get_num_threads(), "training": self.training, "type": images.dtype}
        self.seen["last"] = images.is_contiguous(memory_format=torch.channels_last)
        self.batches = [*getattr(self, "batches", []), len(images)]
        return super().forward(images)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_speed_is_of_one_thread_and_leaves_everything(two_threads):
    model, state = Watched().train(), torch.get_rng_state()
    found = speed(model, InputSpec(10))
    assert all(math.isfinite(value) and value > 0 for value in found.values()) and found["speed_batch"] == 64
    assert list(found) == ["latency_ms", "images_per_second", "speed_batch"]
    assert model.seen == {"threads": 1, "training": False, "type": torch.float32, "last": True}
    assert set(model.batches) == {1, 64} and min(model.batches.count(n) for n in (1, 64)) >= 4
    assert torch.get_num_threads() == 2 and model.training and torch.equal(torch.get_rng_state(), state)


def test_speed_failing_network_gets_threads_and_modes_back(two_threads):
    model = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 1, 1)).train()
    with pytest.raises(RuntimeError):
        speed(model, InputSpec(6, channels=1))
    assert torch.get_num_threads() == 2 and model[0].training


def test_speed_slow_network_is_timed_in_smaller_batches(monkeypatch):
    model, clock = Watched(), [0.0]

    def passes():
        clock[0] += 0.15  # each pass seems to take a sixth of a second
        return clock[0]

    monkeypatch.setattr("distill.evaluation.cost.time.perf_counter", passes)
    found = speed(model, InputSpec(10))
    assert found["speed_batch"] == 8 and len(model.batches) <= 10
    assert found["latency_ms"] == pytest.approx(150)
