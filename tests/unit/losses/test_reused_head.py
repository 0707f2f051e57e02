"""The reused classifier reads its map as the layer answered it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.losses.base.pooled_classifier import pooled_classifier
from distill.losses.base.reused_classifier import attach_reused_head
from distill.losses.simkd import ReusedClassifier
from distill.models.feature_hooks import Layer
from distill.types import InputSpec, Outputs
from students.mobilenet_inception import MobileNetInception
from students.timm_student import TimmStudent
from teachers.frozen import FrozenTeacher


class Overwriting(nn.Module):
    """A network that goes on in place, as timm's with inplace activations do."""

    def __init__(self):
        super().__init__()
        self.input, self.conv, self.head = InputSpec(16), nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(4, 3)

    def forward(self, images):
        logits = self.head(self.conv(images).relu_().mean((2, 3)))
        return Outputs(logits, logits[:, None], {})


def test_a_map_that_the_student_overwrites_is_read_as_it_was():
    torch.manual_seed(0)
    student, images = Overwriting(), torch.randn(5, 1, 16, 16)
    attach_reused_head(student, Layer("conv", (4, 8, 8), True), 8, nn.Linear(6, 3))
    student.eval()
    answered = F.conv2d(images, student.conv.weight, student.conv.bias, 2, 1)
    assert answered.min() < -0.1
    assert torch.allclose(student(images).logits, student.reused_head(answered), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_a_classifier_that_sees_nearly_the_average_is_none_that_sees_the_average(factor):
    class Scaled(Overwriting):
        def forward(self, images):
            logits = self.head(factor * self.conv(images).mean((2, 3)))
            return Outputs(logits, logits[:, None], {})

    torch.manual_seed(0)
    network = Scaled()
    if factor == 1:
        assert pooled_classifier(network, "loss.catkd: the student", "").layer.name == "conv"
    else:
        with pytest.raises(ValueError, match=r"loss\.catkd: the student does not end in global average pooling"):
            pooled_classifier(network, "loss.catkd: the student", "Choose another.")


def test_a_reused_classifier_of_more_classes_than_the_data_have_is_refused():
    network = TimmStudent("resnet18", 8, 64, 3, 0.5, 0.25, False, 0.0)
    teacher = FrozenTeacher(network, "some", ("b", "a"), torch.float32, tuple("abcdefgh"))
    student = MobileNetInception(2, 64, 0.25, "max", "B", 0.0, 0.5, 0.25)
    with pytest.raises(ValueError, match=r"loss\.simkd: .* knows 8 classes, of which the data have 2"):
        ReusedClassifier().bind(student, teacher)
