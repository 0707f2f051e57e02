"""What losses on feature maps share: which layers of student and teacher are compared, and their outputs in float32."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base.objective import Loss
from distill.models.feature_hooks import FeatureInfo, Layer, attach_hooks, inspect_layers
from distill.system.errors import ConfigError
from distill.types import Outputs

Names = str | list[str] | None
ROLES = ("student", "teacher")


class FeatureLoss(Loss):
    """A loss on the outputs of named layers; bind() finds the layers and asks both networks for them.

    Without names: "stage" pairs the student's middle stage (the later one of two), and "stages" every stage of the student
    but one finer than all of the teacher's, each with the teacher's stage that is nearest in size relative to its input;
    "last" pairs the deepest stages of both; "embedding" pairs the embeddings.

    Args:
        student: layer names of the student: stageN, embedding, a module's name or its end; one or a list.
        teacher: as many of the teacher.

    Attributes:
        pairing: what is paired without names: stage, stages, last or embedding.
        compares_maps: True refuses layers that do not answer [C, H, W].
        pairs: after bind(), the layers of student and teacher that are compared.

    Raises:
        ConfigError: layers that do not exist or cannot be compared, or an option out of range.
    """

    needs_teacher = True
    needs_features = True
    pairing = "stage"
    compares_maps = False

    def __init__(self, student: Names = None, teacher: Names = None):
        super().__init__()
        self.layer_names = (student, teacher)
        self.pairs: list[tuple[Layer, Layer]] = []

    def check(self, student: nn.Module, num_classes: int) -> None:
        info = inspect_layers(student)
        if not self._named(info, "student") and self.pairing != "embedding":
            self._check_stages("student", info.stages)

    def bind(self, student: nn.Module, teacher) -> None:
        of_student, of_teacher = inspect_layers(student), teacher.inspect_layers()
        named = self._named(of_student, "student"), self._named(of_teacher, "teacher")
        sizes = (student.input.size, teacher.input_size())
        self.pairs = self._pair(*named, of_student, of_teacher, sizes)
        for layer, role in [(layer, role) for pair in self.pairs for layer, role in zip(pair, ROLES, strict=True)]:
            if self.compares_maps and len(layer.shape) != 3:
                raise ConfigError(
                    f"loss.{self.term}.{role}",
                    f"{layer.name} answers {list(layer.shape)}, and this loss compares maps [C, H, W]. "
                    "Name a stage or a convolution.",
                )
        attach_hooks(student, [layer for layer, _ in self.pairs])
        teacher.attach_hooks([layer for _, layer in self.pairs])
        self.make()

    def __call__(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):  # it would round products and norms
            return super().__call__(student, teacher, target)

    def make(self) -> None:
        """Make the learned parts, knowing self.pairs."""

    def _named(self, info: FeatureInfo, role: str) -> list[Layer] | None:
        """Return the layers that are asked for by name of a network, or None."""
        given = self.layer_names[role == "teacher"]
        names = [given] if isinstance(given, str) else given
        return names and [info.find(name, f"loss.{self.term}.{role}") for name in names]

    def _pair(self, student, teacher, of_student, of_teacher, sizes) -> list[tuple[Layer, Layer]]:
        if self.pairing == "embedding":
            student, teacher = student or [of_student.embedding], teacher or [of_teacher.embedding]
        if self.pairing == "last":
            self._check_stages("student", student or of_student.stages)
            self._check_stages("teacher", teacher or of_teacher.stages)
            student, teacher = student or [of_student.stages[-1]], teacher or [of_teacher.stages[-1]]
        if not student:
            student = self._default(teacher, of_student, of_teacher, sizes)
        if not teacher:
            teacher = [_nearest(layer, of_teacher.stages, sizes) for layer in student]
        if len(student) != len(teacher):
            raise ConfigError(
                f"loss.{self.term}",
                f"{len(student)} layers of the student ({', '.join(layer.name for layer in student)}) for "
                f"{len(teacher)} of the teacher ({', '.join(layer.name for layer in teacher)}); name as many of each.",
            )
        return list(zip(student, teacher, strict=True))

    def _default(self, teacher, of_student, of_teacher, sizes) -> list[Layer]:
        if teacher:
            return [_nearest(layer, of_student.stages, sizes[::-1]) for layer in teacher]
        self._check_stages("student", of_student.stages)
        self._check_stages("teacher", of_teacher.stages)
        if self.pairing == "stage":
            return [of_student.stages[len(of_student.stages) // 2]]
        finest = max(layer.shape[1] for layer in of_teacher.stages) / sizes[1]
        return [layer for layer in of_student.stages if layer.shape[1] / sizes[0] < 1.5 * finest]

    def _check_stages(self, who: str, stages) -> None:
        if not stages:
            raise ConfigError(
                f"loss.{self.term}", f"the {who} has no maps of [C, S, S]. Name layers with loss.{self.term}.{who}=..."
            )

    def maps(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """Return the paired outputs in float32; no gradient reaches the teacher's."""
        return [(student.features[s.name].float(), teacher.features[t.name].detach().float()) for s, t in self.pairs]

    def vectors(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """Return the paired outputs as [B, C]: maps and tokens are averaged over their positions."""
        return [(vector(s), vector(t)) for s, t in self.maps(student, teacher)]


def vector(x: Tensor) -> Tensor:
    """Average a map [B, C, H, W] or tokens [B, N, C] over positions: [B, C]; vectors stay."""
    return x.flatten(2).mean(2) if x.ndim == 4 else x.mean(1) if x.ndim == 3 else x


def _nearest(layer: Layer, stages: tuple[Layer, ...], sizes: tuple[int, int]) -> Layer:
    """Return the stage whose side, relative to its network's input, is nearest to a layer's in ratio, the coarser of equals."""
    if len(layer.shape) != 3:
        raise ValueError(
            f"{layer.name} answers {list(layer.shape)}, not a map [C, S, S]: name the layer it is compared with, too."
        )
    share = layer.shape[1] / sizes[0]
    return min(reversed(stages), key=lambda other: round(abs(math.log(other.shape[1] / sizes[1] / share)), 3))


def regressor(student: tuple[int, ...], teacher: tuple[int, ...], term: str) -> nn.Module:
    """Return what turns a student's layer of one shape into as many channels as a teacher's.

    Raises:
        ConfigError: one is a map and the other a vector, or both are tokens [N, C] and not as many.
    """
    if len(student) != len(teacher) or (len(student) == 2 and student[0] != teacher[0]):
        raise ConfigError(
            f"loss.{term}",
            f"the student's layer answers {list(student)}, the teacher's {list(teacher)}; name two maps, two vectors, "
            f"or as many tokens, with loss.{term}.student and loss.{term}.teacher.",
        )
    return nn.Conv2d(student[0], teacher[0], 1) if len(student) == 3 else nn.Linear(student[-1], teacher[-1])


def resize(student: Tensor, teacher: Tensor) -> Tensor:
    """Bring a map [B, C, H, W] to the height and width of another; vectors stay."""
    if student.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student
    if student.shape[2] > teacher.shape[2]:
        return F.adaptive_avg_pool2d(student, teacher.shape[2:])
    return F.interpolate(student, teacher.shape[2:], mode="bilinear", align_corners=False)


def whiten(x: Tensor) -> Tensor:
    """Bring every channel to mean 0 and variance 1 over the batch and its positions."""
    over = [0, *range(2, x.ndim)] if x.ndim == 4 else list(range(x.ndim - 1))
    if x.numel() == x.shape[1 if x.ndim == 4 else -1]:
        return x  # one number per channel has no variance
    return (x - x.mean(over, keepdim=True)) * (x.var(over, keepdim=True, unbiased=False) + 1e-5).rsqrt()


def pooled(*maps: Tensor) -> list[Tensor]:
    """Average maps [B, C, H, W] over areas, down to the smallest height and width among them."""
    size = [min(x.shape[dim] for x in maps) for dim in (2, 3)]
    return [x if list(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size) for x in maps]


def channels(shape: tuple[int, ...]) -> int:
    """Return the width of the vector that a layer of this shape is averaged to, see vector."""
    return shape[0] if len(shape) == 3 else shape[-1]


class RelationalLoss(FeatureLoss, ABC):
    """A loss on how the pictures of a batch lie to each other; a child compares one pair of embeddings in relation().

    Shape:
        features [B, C, H, W], [B, N, C] or [B, C], averaged over their positions -> a scalar, the mean over pairs.
    """

    pairing = "embedding"

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        values = [self.relation(s, t) for s, t in self.vectors(student, teacher)]
        return sum(values) / len(values)

    @abstractmethod
    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return a scalar from the student's [B, C] and the teacher's [B, C']."""
