"""Knowledge review: the student's stages, fused from deep to shallow, against the teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, Names, resize
from distill.losses.base.logit_loss import check_numbers
from distill.types import Outputs


class KnowledgeReview(FeatureLoss):
    """Squared distance, at several resolutions, between the teacher's stages and the student's reviewed ones.

    From the deepest stage to the shallowest, x = BN(conv1x1(F_s)), at all but the deepest x <- a_1 x + a_2 u with u the
    deeper stage's result brought to x's size and a = sigmoid(conv1x1([x, u])); x, brought to the teacher's size, is passed
    on and compared as y = BN(conv3x3(x)):
    loss[b] = sum over stages of (d(y, F_t) + sum_i 2^-i d(pool_i y, pool_i F_t)) / (1 + sum_i 2^-i), d = mean over c, h, w
    of the square, pool_i to sides 4, 2 and 1, i = 1, 2, ... counting those below the map's.

    Args:
        student, teacher: layers from fine to coarse, see FeatureLoss; without names all stages. At least one.
        width: most channels of the fused maps; the deepest student map's where that has fewer.

    Shape:
        features [B, C, H, W] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist, or that is no map.

    Reference: Chen et al., Distilling Knowledge via Knowledge Review, arXiv 2104.09044, section 3 (attention based fusion
    and hierarchical context loss). Deviations: the pooled embedding is no stage of its own; stages are taken after their
    activation; sizes change by area average or bilinearly, where the released code takes the nearest position; the linear
    warm-up over 20 epochs is a ramp of the weight.
    """

    term = "reviewkd"
    pairing = "stages"
    compares_maps = True

    def __init__(self, student: Names = None, teacher: Names = None, width: int = 512):
        super().__init__(student, teacher)
        check_numbers(self.term, width=(width, width >= 1, "1 channel or more, such as 512"))
        self.width = width

    def make(self) -> None:
        width, deepest = min(self.width, self.pairs[-1][0].shape[0]), len(self.pairs) - 1
        self.fusions = nn.ModuleList(
            Fusion(student.shape[0], width, teacher.shape[0], fuse=k < deepest)
            for k, (student, teacher) in enumerate(self.pairs)
        )

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        value, deeper = 0.0, None
        for fusion, (s, t) in reversed(list(zip(self.fusions, self.maps(student, teacher), strict=True))):
            deeper, answer = fusion(s, deeper, t)
            total, weight, weights = (answer - t).square().flatten(1).mean(1), 1.0, 1.0
            for side in (4, 2, 1):
                if side < t.shape[2]:
                    weight /= 2
                    difference = F.adaptive_avg_pool2d(answer, side) - F.adaptive_avg_pool2d(t, side)
                    total, weights = total + weight * difference.square().flatten(1).mean(1), weights + weight
            value = value + total / weights
        return value


class Fusion(nn.Module):
    """Fuse a student's map with what its deeper ones gave, and answer in the teacher's channels and size."""

    def __init__(self, channels: int, width: int, teacher: int, fuse: bool):
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.attention = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid()) if fuse else None
        self.widen = nn.Sequential(nn.Conv2d(width, teacher, 3, padding=1, bias=False), nn.BatchNorm2d(teacher))

    def forward(self, student: Tensor, deeper: Tensor | None, teacher: Tensor) -> tuple[Tensor, Tensor]:
        x = self.narrow(student)
        if self.attention is not None:
            deeper = resize(deeper, x)
            share = self.attention(torch.cat([x, deeper], dim=1))
            x = share[:, :1] * x + share[:, 1:] * deeper
        x = resize(x, teacher)
        return x, self.widen(x)
