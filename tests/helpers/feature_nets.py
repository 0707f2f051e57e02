"""Tiny students and teachers whose feature maps differ in channels and size, and a loss that has met them."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from distill.augment.views import identity, render_batch
from distill.models.timm_net import TimmNet
from distill.types import Batch, InputSpec, Outputs
from students.microexpnet import MicroExpNet
from teachers.frozen import FrozenTeacher

B, K = 4, 8
CLASSES = tuple("abcdefgh")


class Plain(nn.Module):
    """conv, BatchNorm, ReLU, twice, each at half the size of its input."""

    def __init__(self, size, *channels, inplace=False):
        super().__init__()
        self.input = InputSpec(size, 1, (0.5,), (0.25,))
        c1, c2 = channels
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(1, c1, 3, 2, 1), nn.BatchNorm2d(c1), nn.ReLU(inplace)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(c1, c2, 3, 2, 1), nn.BatchNorm2d(c2), nn.ReLU(inplace)
        self.fc = nn.Linear(c2, K)

    def forward(self, images):
        x = self.relu1(self.bn1(self.conv1(images)))
        x = self.relu2(self.bn2(self.conv2(x)))
        logits = self.fc(x.mean((2, 3)))
        return Outputs(logits, logits[:, None], {})


def resnet18(size=64):
    net = TimmNet("resnet18", K)
    net.input = InputSpec(size, 3, (0.5,), (0.25,))
    return net


def stirred(net, seed=0):
    """Give every BatchNorm numbers of its own, as training does."""
    g = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.3, 1.2),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.3, 1.0),
            ):
                tensor.data.uniform_(low, high, generator=g)
    return net


def frozen(net):
    return FrozenTeacher(net, "tiny", CLASSES, torch.float32)


@cache
def networks(name):
    """A student and a teacher: maps to be enlarged, maps to be averaged, and a real pair."""
    torch.manual_seed(0)
    if name == "plain, coarser student":
        student, teacher = Plain(8, 3, 4), Plain(16, 5, 6)
    elif name == "plain, finer student":
        student, teacher = Plain(20, 3, 6), Plain(12, 5, 6, inplace=True)
    else:
        student, teacher = MicroExpNet(K, 84, "XXS", "both", 0.0, "xavier", 0.5, 0.25), resnet18()
    return stirred(student).eval(), frozen(stirred(teacher, 1))


NETS = ("plain, coarser student", "plain, finer student", "MicroExpNet with resnet18")


def faces(size=B, side=32, seed=0):
    """A batch of smooth pictures."""
    noise = torch.randint(0, 256, (size, 1, side, side), generator=torch.Generator().manual_seed(seed)).float()
    pixels = ((F.avg_pool2d(noise, 5, 1, 2) - 128) * 4 + 128).clamp(0, 255).byte()
    label = torch.arange(size) % K
    return Batch(pixels, identity(size), F.one_hot(label, K).float(), label, torch.arange(size))


def bound(loss, nets=NETS[0], seed=2):
    """Bind a loss, its learned parts started from one seed."""
    student, teacher = networks(nets) if isinstance(nets, str) else nets
    torch.manual_seed(seed)
    loss.bind(student, teacher)
    return loss, student, teacher


def meet(loss, nets=NETS[0], batch=None):
    """Bind a loss and return both networks' outputs, whose features are leaves of their own."""
    batch = faces() if batch is None else batch
    loss, student, teacher = bound(loss, nets)
    answers = student(render_batch(batch, student.input)), teacher(batch)
    return loss, *(leaves(answer, lambda x: x.detach().clone()) for answer in answers)


def leaves(outputs, change):
    """Return outputs with every feature changed and asking for a gradient."""
    features = {name: change(x.detach()).requires_grad_() for name, x in outputs.features.items()}
    return outputs._replace(logits=outputs.logits.detach(), heads=outputs.heads.detach(), features=features)
