"""Flow of solution procedure: how one stage of the network relates to the next."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, pooled
from distill.system.errors import ConfigError
from distill.types import Outputs


class FlowOfSolution(FeatureLoss):
    """Squared distance between the products of consecutive stages of the student and those of the teacher.

    With F1, F2 the maps of two consecutive pairs, within each network averaged over areas to the smaller size:
    G[b, i, j] = mean over h, w of F1[b, i, h, w] F2[b, j, h, w], loss[b] = sum over consecutive pairs of mean_ij (G_s - G_t)^2.

    Args:
        student, teacher: layers, see FeatureLoss; at least two of each, fine to coarse; without names every stage.

    Shape:
        features [B, C, H, W] -> [B]. No gradient reaches the teacher.

    Raises:
        ConfigError: a layer that does not exist or is no map, or fewer than two pairs.

    Reference: Yim et al., A Gift from Knowledge Distillation, CVPR 2017, equations 1 and 2.
    Deviations: where student and teacher differ in channels, a 1 x 1 convolution, learned, brings the student's map to the
    teacher's, as the products cannot be compared without; the mean over i, j instead of the sum; maps of one network
    are compared after averaging instead of max pooling; it may stay on all through a run (phases make it a first stage).
    """

    term = "fsp"
    pairing = "stages"
    compares_maps = True

    def make(self) -> None:
        if len(self.pairs) < 2:
            layers = ", ".join(f"{student.name} with {teacher.name}" for student, teacher in self.pairs)
            raise ConfigError(
                f"loss.{self.term}",
                f"relates consecutive pairs of maps, and there is one ({layers}). Name two or more with "
                f"loss.{self.term}.student=[stage1,stage2] and loss.{self.term}.teacher=[stage1,stage2].",
            )
        self.regressors = nn.ModuleList(
            nn.Identity() if student.shape[0] == teacher.shape[0] else nn.Conv2d(student.shape[0], teacher.shape[0], 1)
            for student, teacher in self.pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        s, t = zip(*self.maps(student, teacher), strict=True)
        s = [regressor(x) for regressor, x in zip(self.regressors, s, strict=True)]
        flows = zip(pairwise(s), pairwise(t), strict=True)
        return sum((flow(*ours) - flow(*others)).square().mean((1, 2)) for ours, others in flows)


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Return the products of two maps' channels, averaged over positions: [B, C, H, W], [B, D, H, W] -> [B, C, D]."""
    first, second = (x.flatten(2) for x in pooled(first, second))
    return torch.bmm(first, second.transpose(1, 2)) / first.shape[2]
