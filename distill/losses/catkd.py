"""Class attention transfer: where in a face each class is seen."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss
from distill.losses.base.logit_loss import check_numbers
from distill.losses.base.pooled_classifier import Pooled, pooled_classifier
from distill.models.feature_hooks import attach_hooks
from distill.system.errors import ConfigError
from distill.types import Outputs

NEEDS = {
    "student": "Choose student=mobilenet_inception, or student=timm with a network such as resnet18.",
    "teacher": "Choose teacher=resnet50.",
}


class ClassAttentionTransfer(FeatureLoss):
    """Mean squared distance between the student's and the teacher's class activation maps.

    With F the last map and W the weights of the linear classifier behind its average, M_k = sum_c W_kc F_c, pooled to
    pool x pool places, each class's map then at length 1: loss[b] = mean over k, h, w of (M_s,k[h, w] - M_t,k[h, w])^2.
    The gradient reaches the student's classifier, too.

    Args:
        pool: places along height and width of the compared maps, at least 1.

    Shape:
        features [B, C, S, S] -> [B], by way of [B, K, pool, pool]. No gradient reaches the teacher.

    Raises:
        ConfigError: a network that does not end in global average pooling and one linear classifier, other classes, or a map
            with fewer places than pool.

    Reference: Guo et al., Class Attention Transfer Based Knowledge Distillation, arXiv 2304.12777, section 3. Deviations:
    none; the classifier stays behind the average, as pooling and a linear map may change places.
    """

    term = "catkd"
    also_needs = "student and teacher that end in global pooling and one linear layer"

    def __init__(self, pool: int = 2):
        super().__init__()
        check_numbers(self.term, pool=(pool, pool >= 1, "1 place or more, such as 2"))
        self.pool = pool

    def check(self, student: nn.Module, num_classes: int) -> None:
        self._end("student", student)

    def bind(self, student: nn.Module, teacher) -> None:
        teacher.inspect_layers()  # says what to type where it has no maps
        ends = {
            role: self._end(role, network)
            for role, network in (("student", student), ("teacher", teacher.live_teacher().network))
        }
        of_student, of_teacher = (end.classifier.out_features for end in ends.values())
        if of_student != of_teacher:
            raise ConfigError(
                f"loss.{self.term}",
                f"the teacher knows {of_teacher} classes, the student {of_student}. Choose a teacher of the same classes.",
            )
        self.pairs = [(ends["student"].layer, ends["teacher"].layer)]
        self.classifiers = [end.classifier for end in ends.values()]  # a list: they are not this loss's own to learn
        attach_hooks(student, [ends["student"].layer])
        teacher.attach_hooks([ends["teacher"].layer])

    def _end(self, role: str, network: nn.Module) -> Pooled:
        end = pooled_classifier(network, f"loss.{self.term}: the {role}", NEEDS[role])
        if end.layer.shape[1] < self.pool:
            raise ConfigError(
                f"loss.{self.term}.pool",
                f"{self.pool}, but the {role}'s last map has {end.layer.shape[1]} places along a "
                f"side. Choose loss.{self.term}.pool=1, or a larger {role}.size.",
            )
        return end

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        s, t = self.maps(student, teacher)[0]
        of_student, of_teacher = self.classifiers
        difference = self.attention(s, of_student.weight) - self.attention(t, of_teacher.weight.detach())
        return difference.square().flatten(1).mean(1)

    def attention(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the class activation maps of a map [B, C, S, S], pooled and at length 1: [B, K, pool, pool]."""
        pooled = F.adaptive_avg_pool2d(x, self.pool)  # before the weights: the same, and cheaper
        return F.normalize(torch.einsum("kc,bchw->bkhw", weight, pooled), dim=(2, 3))
