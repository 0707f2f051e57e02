"""Any timm network as a teacher, started from local weights, from timm's published ones, or from scratch."""

import logging
import warnings
from collections.abc import Sequence

import timm

from distill.checkpoint import load_weights, read_weights
from distill.timm_net import TimmNet
from distill.types import InputSpec

OUT_OF_REACH = (
    "\n*** teacher: the pretrained weights of {name!r} are out of reach ({why}).\n"
    "*** It is trained FROM SCRATCH and will be a weaker teacher. With a network connection timm downloads them by itself;\n"
    "*** without one give a file: teacher.weights=FILE.safetensors. teacher.pretrained=true makes this an error."
)


class TimmTeacher(TimmNet):
    """A timm network with its input and its start.

    Args:
        name: as in timm.list_models(), e.g. resnet50.
        num_classes: K.
        classes: the class names, compared with those in the header of a weight file.
        size: picture side in pixels.
        channels: 1 or 3.
        mean: of the input, units of pixels / 255; null means the network's published one.
        std: likewise.
        weights: a local .safetensors file; its head may be missing or of another size, then the head starts anew.
        pretrained: true insists on timm's published weights, null takes them where they can be reached, false does without.
        drop_rate: fraction of features dropped before the classifier.
        drop_path_rate: fraction of residual branches dropped; only for networks that have them.
        options: more arguments of timm.create_model.

    Shape:
        images: [B, channels, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ValueError: unknown network, weights of another network or of other classes, or pretrained weights out of reach.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        classes: Sequence[str],
        size: int,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        weights: str | None = None,
        pretrained: bool | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        options: dict | None = None,
    ):
        options = dict(options or {}, drop_rate=drop_rate)
        if drop_path_rate:
            options["drop_path_rate"] = drop_path_rate
        if weights and pretrained:
            raise ValueError(
                "teacher.pretrained=true and teacher.weights=FILE were both asked for; choose one of them."
            )
        super().__init__(name, num_classes, channels, pretrained=False, **options)
        self.start = "scratch"
        if weights:
            check_classes(
                load_weights(self.net, weights, "teacher.weights", missing=self.head_names()), classes, weights
            )
            theirs = {name.removeprefix("net."): tensor.shape for name, tensor in read_weights(weights)[0].items()}
            own = {name: tensor.shape for name, tensor in self.net.state_dict().items()}
            whole = all(theirs.get(name) == shape for name, shape in own.items())
            self.start = "weights" if whole else "weights without a classifier"
        elif pretrained is not False and self._download(
            name, num_classes, channels, options, insist=pretrained is True
        ):
            self.start = "pretrained"
        config = self.net.pretrained_cfg
        spec = [config["mean"] if mean is None else mean, config["std"] if std is None else std]
        self.input = InputSpec(size, channels, *(self._per_channel(values, channels) for values in spec))

    def head_names(self) -> tuple[str, ...]:
        """Return the prefixes of the classifier's tensors."""
        heads = self.net.pretrained_cfg["classifier"]
        return (heads,) if isinstance(heads, str) else tuple(heads)

    def _download(self, name: str, num_classes: int, channels: int, options: dict, insist: bool) -> bool:
        chatter = logging.getLogger("huggingface_hub")
        level = chatter.level
        chatter.setLevel(logging.CRITICAL)  # it reports every retry; what matters is said once, below
        try:
            self.net = timm.create_model(name, pretrained=True, num_classes=num_classes, in_chans=channels, **options)
            return True
        except Exception as error:
            why = (
                "no published weights"
                if "No pretrained weights" in str(error)
                else f"{type(error).__name__}: {error}".split(". ")[0][:120]
            )
            if insist:
                raise ValueError(
                    f"teacher.pretrained: the pretrained weights of {name!r} are out of reach ({why}). Connect to a network, "
                    "give teacher.weights=FILE.safetensors, or leave teacher.pretrained=null to train from scratch."
                ) from error
            warnings.warn(OUT_OF_REACH.format(name=name, why=why), stacklevel=2)
            return False
        finally:
            chatter.setLevel(level)

    @staticmethod
    def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
        values = tuple(values) if isinstance(values, Sequence) else (values,)
        return (sum(values) / len(values),) if channels == 1 else values


def check_classes(metadata: dict[str, object], classes: Sequence[str], path: str) -> None:
    """Compare the class order in a weight file's header, where it has one, with the data set's.

    Raises:
        ValueError: another order, or other classes.
    """
    theirs = metadata.get("classes")
    if theirs and list(theirs) != list(classes):
        raise ValueError(
            f"teacher.weights: {path} answers {', '.join(theirs)}; the data set's order is {', '.join(classes)}. "
            "Choose weights of the same classes in the same order, or fine-tune from weights without a head."
        )
