"""The teacher's classifier, reused by the student behind a learned projector."""

from torch import Tensor, nn

from distill.losses.base.feature_loss import FeatureLoss, pooled
from distill.losses.base.logit_loss import check_numbers
from distill.losses.base.pooled_classifier import pooled_classifier
from distill.losses.base.reused_classifier import attach_reused_head
from distill.models.feature_hooks import Layer, attach_hooks, inspect_layers
from distill.system.errors import ConfigError
from distill.types import Outputs

NEEDS = "Choose teacher=resnet50."


class ReusedClassifier(FeatureLoss):
    """Mean squared distance between the student's projected last map and the teacher's, whose classifier then answers.

    With F_s and F_t the last maps, the larger pooled to the smaller's size, and P the projector, 1x1 - 3x3 - 1x1
    convolutions, each with batch normalization and ReLU: loss[b] = mean over c, h, w of (P(F_s) - F_t)^2.

    bind() changes the student: P and a frozen copy of the teacher's classifier become its module reused_head, and
    logits = W_t mean_hw P(F_s) + b_t replace its own. They are trained, evaluated, averaged, counted and saved
    with it; see reused_head.attach_from_state for reading such weights again.

    Args:
        student: its last map, as the name of a layer; without a name its deepest stage.
        factor: P has 1 / factor of the teacher's channels inside, at least 1.

    Shape:
        features [B, C, S, S] -> [B]. No gradient reaches the teacher; the student's own classifier gets none either.

    Raises:
        ValueError: a teacher that does not end in global average pooling and one linear classifier, a student without maps,
            or one that has a reused head already.
        ConfigError: a teacher that answers about some of its classes alone.

    Reference: Chen et al., Knowledge Distillation with the Reused Teacher Classifier, arXiv 2203.14001, section 3; used
    without any other loss there. Deviations: whatever the student has behind its last map stays in it, unused, and counts
    among its parameters and multiply-accumulates.
    """

    term = "simkd"
    also_needs = "a teacher that ends in global pooling and one linear layer"
    changes_student = True

    def __init__(self, student: str | None = None, factor: int = 2):
        super().__init__(student)
        check_numbers(self.term, factor=(factor, factor >= 1, "1 or more, such as 2"))
        self.factor = factor

    def check(self, student: nn.Module, num_classes: int) -> None:
        self._last_map(student)

    def bind(self, student: nn.Module, teacher) -> None:
        teacher.inspect_layers()  # says what to type where it has no maps
        of_student = self._last_map(student)
        t = pooled_classifier(teacher.live_teacher().network, f"loss.{self.term}: the teacher", NEEDS)
        if t.classifier.out_features != len(teacher.classes):
            raise ConfigError(
                f"loss.{self.term}",
                f"the teacher's classifier knows {t.classifier.out_features} classes, of which the data have "
                f"{len(teacher.classes)}. Choose loss=[ce,dist], or a teacher that is fine-tuned on these.",
            )
        side = min(of_student.shape[1], t.layer.shape[1])
        attach_reused_head(student, of_student, side, t.classifier, self.factor)
        projected = Layer("reused_head.projector", (t.layer.shape[0], side, side), False)
        self.pairs = [(projected, t.layer)]
        attach_hooks(student, [projected])
        teacher.attach_hooks([t.layer])

    def _last_map(self, student: nn.Module) -> Layer:
        info, name = inspect_layers(student), self.layer_names[0]
        if name is None and not info.stages:
            raise ConfigError(f"loss.{self.term}", "the student has no maps of [C, S, S]. Choose another student.")
        layer = info.find(name, f"loss.{self.term}.student") if name else info.stages[-1]
        if len(layer.shape) != 3:
            raise ConfigError(f"loss.{self.term}.student", f"{layer.name} answers {list(layer.shape)}; name a map.")
        if hasattr(student, "reused_head"):
            raise ConfigError(
                f"loss.{self.term}",
                "the student has a teacher's classifier already. Give student.weights of another run, or "
                "go on training these with loss=[ce,kd].",
            )
        return layer

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        s, t = pooled(*self.maps(student, teacher)[0])
        return (s - t).square().flatten(1).mean(1)
