"""What losses on maps before the activation share: which layers those are, and the student's connectors."""

from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, resize
from distill.models.feature_hooks import FeatureInfo, Layer
from distill.types import Outputs


class PreActivationLoss(FeatureLoss):
    """A loss on pairs of stages, taken before the activation where no layer was named and a BatchNorm2d ends the stage.

    The student's map is brought to the teacher's size, then channels, by a 1 x 1 convolution and BatchNorm, both learned.

    Attributes:
        moved: whether the stages of student and teacher are taken before the activation.
    """

    pairing = "stages"
    compares_maps = True
    moved = (True, True)

    def bind(self, student: nn.Module, teacher) -> None:
        self.networks = (student, teacher)
        super().bind(student, teacher)
        del self.networks

    def _pair(self, s, t, of_student, of_teacher, sizes) -> list[tuple[Layer, Layer]]:
        pairs = super()._pair(s, t, of_student, of_teacher, sizes)
        student, teacher = self.networks[0], self.networks[1].live_teacher().network
        if self.moved[0] and not s:
            pairs = [(before_activation(layer, of_student, student), other) for layer, other in pairs]
        if self.moved[1] and not t:
            pairs = [(layer, before_activation(other, of_teacher, teacher)) for layer, other in pairs]
        return pairs

    def make(self) -> None:
        self.connectors = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(student.shape[0], teacher.shape[0], 1, bias=False), nn.BatchNorm2d(teacher.shape[0])
            )
            for student, teacher in self.pairs
        )

    def connected(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of maps, the student's of the teacher's shape."""
        pairs = zip(self.connectors, self.maps(student, teacher), strict=True)
        return [(connector(resize(s, t)), t) for connector, (s, t) in pairs]


def deeper_counts_more(values: list[Tensor]) -> Tensor:
    """Return sum over l = 1..L of 2^-(L - l) values[l]."""
    return sum(value * 2.0 ** (place - len(values)) for place, value in enumerate(values, 1))


def norm_of(network: nn.Module, name: str) -> nn.BatchNorm2d | None:
    """Return the BatchNorm2d whose normalized map a layer is, if any: a plain one's output, or the input of timm's activation
    inside of one (BatchNormAct2d.act)."""
    if name.endswith(".act:in"):
        norm = network.get_submodule(name.removesuffix(".act:in"))
        return norm if isinstance(norm, nn.BatchNorm2d) else None
    norm = None if name.endswith(":in") else network.get_submodule(name)
    return norm if type(norm) is nn.BatchNorm2d else None


def before_activation(stage: Layer, info: FeatureInfo, network: nn.Module) -> Layer:
    """Return what the last BatchNorm2d of the stage's shape gave by the time that the stage is done; without one, the stage."""
    names = list(info.layers)
    done = reversed(names[: names.index(stage.name) + 1])
    norms = (name for name in done if info.layers[name].shape == stage.shape and norm_of(network, name))
    name = next(norms, None)
    return stage if name is None else info.layers[name]
