"""What tests of students share: the published vectors, counts of parameters and MACs, and a step of training."""

import importlib.util

import pytest
import torch
from commandline import ROOT
from torch.utils.flop_counter import FlopCounterMode

from students.cern import Cern

PARITY = ROOT.parent / "shared" / "parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="the parity vectors are not here")


def make_cern(num_classes=8, size=64, width=1.0, pooling="max_avg", variant="full", scale=1.0, normalize=False):
    return Cern(num_classes, size, width, pooling, 0, 1, variant, scale, normalize)


def parity_weights():
    spec = importlib.util.spec_from_file_location("parity_weights", PARITY / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def num_parameters(net):
    return sum(p.numel() for p in net.parameters())


def macs(net, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, net.input.channels, size, size))
    return counter.get_total_flops() / 2


def train_once(net, batch=2):
    images = torch.rand(batch, net.input.channels, net.input.size, net.input.size)
    out = net.train()(images)
    out.heads.logsumexp(-1).sum().backward()
    return out


def assert_trains(net, heads, num_classes=8):
    out = train_once(net)
    assert out.logits.shape == (2, num_classes)
    assert out.heads.shape == (2, heads, num_classes)
    assert out.features == {}
    assert torch.allclose(out.logits, out.heads.mean(1), atol=1e-5)
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
