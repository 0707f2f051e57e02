"""Hints: the student's feature maps are regressed onto the teacher's."""

from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, Names, regressor, resize, whiten
from distill.types import Outputs


class Hint(FeatureLoss):
    """Mean squared distance between a regression of the student's map and the teacher's map.

    loss[b] = mean over pairs of 1/2 mean over c, h, w of (r(F_s)[b, c, h, w] - F_t[b, c, h, w])^2, r = a 1 x 1 convolution,
    learned with the student; the student's map is brought to the teacher's size first (area average, or bilinear where it
    is smaller). Vectors are compared after a linear r.

    Args:
        student, teacher: layers, see FeatureLoss; without names the student's middle stage and the nearest of the teacher.
        normalize: bring both maps' channels to mean 0 and variance 1 over the batch first, so that the weight means the same
            for any teacher.

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist, or a map paired with a vector.

    Reference: Romero et al., FitNets, arXiv 1412.6550, equation 3. Deviations: the mean instead of the sum over the
    map, so that the weight does not depend on its size; the regressor is 1 x 1, as in later practice, instead of a
    convolution that shrinks the map.
    """

    term = "hint"
    pairing = "stage"

    def __init__(self, student: Names = None, teacher: Names = None, normalize: bool = True):
        super().__init__(student, teacher)
        self.normalize = normalize

    def make(self) -> None:
        self.regressors = nn.ModuleList(
            regressor(student.shape, teacher.shape, self.term) for student, teacher in self.pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        pairs = zip(self.regressors, self.maps(student, teacher), strict=True)
        total = 0.0
        for regress, (s, t) in pairs:
            s = regress(resize(s, t))
            if self.normalize:
                s, t = whiten(s), whiten(t)
            total = total + (s - t).square().flatten(1).mean(1) / 2
        return total / len(self.regressors)
