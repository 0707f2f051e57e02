"""Networks of every kind whose feature maps are taken, and what takes them."""

import torch

from distill.models.feature_hooks import survey, tap
from students.cern import Cern
from students.microexpnet import MicroExpNet
from students.mobilenet_inception import MobileNetInception
from students.timm_student import TimmStudent
from teachers.frozen import FrozenTeacher


def timm_net(name="resnet18", size=32, **options):
    torch.manual_seed(0)
    return TimmStudent(name, 8, size, 3, 0, 1, False, 0.0, **options)


def micro():
    torch.manual_seed(0)
    return MicroExpNet(8, 84, "XXS", "none", 0.0, "torch", 0, 1)


def cern():
    torch.manual_seed(0)
    return Cern(8, 48, 0.25, "max_avg", 0, 1, "full", 1.0, False)


def vit():
    return timm_net("vit_tiny_patch16_224", 64, img_size=64, depth=2)


def swin():
    return timm_net("swin_tiny_patch4_window7_224", 64, img_size=64, window_size=4, depths=(2, 2), num_heads=(3, 6))


def inception():
    torch.manual_seed(0)
    return MobileNetInception(8, 64, 0.25, "max", "A", 0.0, 0, 1)


def pictures(network, rows=3, seed=1):
    spec = network.input
    return torch.rand(rows, spec.channels, spec.size, spec.size, generator=torch.Generator().manual_seed(seed))


def features(network, *asked, rows=3):
    """Tap, answer, and return the asked maps in order."""
    layers = [survey(network).find(name, "loss.x.student") for name in asked]
    tap(network, layers)
    with torch.no_grad():
        found = network.eval()(pictures(network, rows)).features
    return [found[layer.name] for layer in layers]


def hooks(network):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def teacher():
    return FrozenTeacher(timm_net(), "resnet18", tuple("abcdefgh"), torch.float32)
