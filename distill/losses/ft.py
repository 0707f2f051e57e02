"""Factor transfer: student and teacher are compared in a smaller code that is learned."""

from itertools import chain, pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, Names, resize
from distill.losses.base.logit_loss import check_numbers
from distill.losses.base.objective import check_choices
from distill.types import Outputs


class FactorTransfer(FeatureLoss):
    """Distance between the factors of both networks: the teacher's come from an auto-encoder, the student's from a translator.

    With f_t = encoder(F_t), f_s = translator(F_s), and n(x) = x, flattened and divided by its length:
    factor: d[b] = mean |n(f_s) - n(f_t)|^p
    code:   the same of n(mean over c of f^2)
    loss[b] = sum over pairs of d[b] + reconstruction * mean over c, h, w of (decoder(encoder(F_t)) - F_t)^2.

    The reconstruction trains the paraphraser (encoder and decoder) alone, d the translator and the student alone. Encoder,
    decoder and translator are three 3 x 3 convolutions each with LeakyReLU(0.1); the student's map is brought to the
    teacher's size first.

    Args:
        student, teacher: layers, see FeatureLoss; without names the deepest stage of each.
        form: factor, as the paper, or code, as a common toolkit has it.
        rate: channels of the factors as a share of the teacher's, above 0.
        p: power of the distance, at least 1.
        reconstruction: factor of the paraphraser's loss, above 0; 1 / weight keeps its own step size.

    Shape:
        features [B, C, H, W] -> [B]. No gradient reaches the teacher.

    Raises:
        ValueError: a layer that does not exist or is no map, a choice that does not exist, or a number out of range.

    Reference: Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer, arXiv 1802.04977,
    equations 1 to 3.
    Deviations: paraphraser and student learn at the same time (the paper trains the paraphraser first); the mean instead of
    the sum over the factor.
    """

    term = "ft"
    pairing = "last"
    compares_maps = True

    def __init__(
        self,
        student: Names = None,
        teacher: Names = None,
        form: str = "factor",
        rate: float = 0.5,
        p: float = 1.0,
        reconstruction: float = 0.005,
    ):
        super().__init__(student, teacher)
        check_choices(self.term, form=(form, ("factor", "code")))
        check_numbers(
            self.term,
            rate=(rate, rate > 0, "a share of the teacher's channels, such as 0.5"),
            p=(p, p >= 1, "1 or more, such as 1"),
            reconstruction=(reconstruction, reconstruction > 0, "a number above 0, such as 0.005"),
        )
        self.form, self.p, self.reconstruction = form, p, reconstruction
        self.channels_rate = rate  # read once, so no attribute of the option's name: it follows no ramp

    def make(self) -> None:
        shapes = [(student.shape[0], teacher.shape[0]) for student, teacher in self.pairs]
        factors = [max(1, round(self.channels_rate * c_t)) for _, c_t in shapes]
        both = list(zip(shapes, factors, strict=True))
        self.encoders = nn.ModuleList(convolutions(c_t, c_t, k, k) for (_, c_t), k in both)
        self.decoders = nn.ModuleList(convolutions(k, k, c_t, c_t) for (_, c_t), k in both)
        self.translators = nn.ModuleList(convolutions(c_s, c_s, k, k) for (c_s, _), k in both)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        total = 0.0
        parts = zip(self.encoders, self.decoders, self.translators, self.maps(student, teacher), strict=True)
        for encoder, decoder, translator, (s, t) in parts:
            factor = encoder(t)
            rebuilt = (decoder(factor) - t).square().flatten(1).mean(1)
            distance = self._normal(translator(resize(s, t))) - self._normal(factor.detach())
            total = total + distance.abs().pow(self.p).mean(1) + self.reconstruction * rebuilt
        return total

    def _normal(self, factor: Tensor) -> Tensor:
        return F.normalize((factor.square().mean(1) if self.form == "code" else factor).flatten(1), eps=1e-8)


def convolutions(*channels: int) -> nn.Sequential:
    """Return 3 x 3 convolutions that keep the size, each followed by LeakyReLU(0.1)."""
    layers = ((nn.Conv2d(c, d, 3, padding=1), nn.LeakyReLU(0.1)) for c, d in pairwise(channels))
    return nn.Sequential(*chain.from_iterable(layers))
