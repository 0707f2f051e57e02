"""The reconstructions of the light network of 2019 have the sizes written down for them and train."""

import inspect
import itertools
import subprocess
import sys

import pytest
import torch
from commandline import ROOT
from student_nets import assert_trains, macs, num_parameters

from students.mobilenet_inception import POOLINGS, MobileNetInception


def make(num_classes=8, size=64, width=1.0, pooling="max", reconstruction="A", dropout=0.2):
    return MobileNetInception(num_classes, size, width, pooling, reconstruction, dropout, mean=0, std=1)


@pytest.mark.parametrize(
    ("reconstruction", "num_classes", "parameters"),
    [("A", 7, 2_234_555), ("A", 8, 2_235_836), ("B", 7, 598_011), ("B", 8, 598_524)],
)
def test_a_reconstruction_has_its_parameters(reconstruction, num_classes, parameters):
    net = make(num_classes, reconstruction=reconstruction)
    assert num_parameters(net) == parameters
    assert num_parameters(net.features[0]) == 2_644


@pytest.mark.parametrize(("reconstruction", "expected"), [("A", 0.322e9), ("B", 0.242e9)])
def test_a_reconstruction_has_its_macs_at_224_pixels(reconstruction, expected):
    assert macs(make(size=224, reconstruction=reconstruction), 224) == pytest.approx(expected, rel=2e-3)


def test_the_stem_gives_32_channels_at_half_the_size_and_the_network_a_32nd_or_a_16th():
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert make().features[0](images).shape == (2, 32, 112, 112)
        assert make().eval().features(images).shape == (2, 1280, 7, 7)
        assert make(reconstruction="B").eval().features(images).shape == (2, 512, 14, 14)


CHOICES = [*itertools.product("AB", POOLINGS, [0.25]), ("B", "max", 0.5), ("B", "max", 1.25)]


@pytest.mark.parametrize(("reconstruction", "pooling", "width"), CHOICES)
def test_mobilenet_inception_of_every_choice_trains(reconstruction, pooling, width):
    assert_trains(make(7, 32, width, pooling, reconstruction), heads=1, num_classes=7)


@pytest.mark.parametrize("size", [33, 48, 64, 100])
def test_mobilenet_inception_takes_other_sizes(size):
    assert_trains(make(size=size, width=0.25), heads=1)


def test_the_poolings_of_the_stem_differ_in_value_and_not_in_cost():
    nets = {pooling: make(pooling=pooling, width=0.5).eval() for pooling in POOLINGS}
    for net in nets.values():
        net.load_state_dict(nets["max"].state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        stems = [net.features[0](images) for net in nets.values()]
    for a, b in itertools.combinations(stems, 2):
        changed = (a - b).abs().amax((0, 2, 3)) > 1e-4
        assert not changed[:-4].any() and changed[-4:].any()
    assert len({macs(net, 64) for net in nets.values()}) == 1


def test_a_width_scales_every_channel():
    thin, wide = make(width=0.5), make(width=2.0)
    assert (thin.classifier.in_features, wide.classifier.in_features) == (640, 2560)
    assert num_parameters(thin) < 0.35 * num_parameters(make()) < 0.35 * num_parameters(wide)


def test_dropout_acts_in_training_alone():
    net, images = make(width=0.25, dropout=0.9), torch.rand(1, 3, 32, 32)
    net.eval()
    assert torch.equal(net(images).logits, net(images).logits)
    net.dropout.train()
    assert not torch.equal(net(images).logits, net(images).logits)


def test_few_pictures_are_learned_by_heart():
    torch.manual_seed(0)
    net = make(4, 32, 0.25, reconstruction="B", dropout=0.0).train()
    images, label = torch.rand(8, 3, 32, 32), torch.arange(8) % 4
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(net(images).logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


def test_everybody_who_meets_it_is_told_that_it_is_a_reconstruction():
    for text in (inspect.getdoc(MobileNetInception), *(p.read_text() for p in ROOT.glob("conf/*/mobilenet_in*.yaml"))):
        assert "RECONSTRUCTION" in text
    assert len(list(ROOT.glob("conf/*/mobilenet_in*.yaml"))) == 2


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"reconstruction": "C"}, "student.reconstruction: expected .*A or B.*, got 'C'"),
        ({"pooling": "both"}, "student.pooling: expected .*max, avg or none.*, got 'both'"),
        ({"size": 31}, "student.size: expected .*32 pixels or more.*, got 31"),
        ({"width": 0}, "student.width: expected .*above 0.*, got 0"),
        ({"dropout": 1.0}, "student.dropout: expected .*, got 1.0"),
    ],
)
def test_a_wrong_choice_gets_a_sentence(keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**keys)


def test_float32_training_with_channels_last_does_not_write_beyond_its_memory():
    # torch 2.14 on a CPU: the gradient of a strided 1x1 convolution of 3 to 8 channels ended such a process with SIGSEGV
    code = (
        "import torch; from students.mobilenet_inception import MobileNetInception as M\n"
        "net = M(8, 32, 0.25, 'max', 'B', 0, 0, 1).to(memory_format=torch.channels_last)\n"
        "x = torch.randn(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)\n"
        "for _ in range(5): net(x).logits.square().mean().backward()\n"
        "stem = net.features[0].branches[0][0]\n"
        "plain = torch.nn.functional.conv2d(x.contiguous(), stem.weight, stride=2)\n"
        "assert torch.allclose(stem(x), plain, atol=1e-6)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
