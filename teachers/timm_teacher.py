"""Any timm network as a teacher, started from local weights, from timm's published ones, or from scratch."""

import logging
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Sequence

import timm
from huggingface_hub import constants
from torch import nn

from distill.models.timm_net import TimmNet
from distill.system.errors import ConfigError
from distill.system.weights import start_from
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
        classes: the class names; of a weight file whose header names more, or others first, these rows of the classifier are taken.
        size: picture side in pixels.
        channels: 1 or 3.
        mean: of the input, units of pixels / 255; null means the network's published one.
        std: likewise.
        weights: a local .safetensors file; its head may be missing or without one of the classes, then it starts anew.
        pretrained: true insists on timm's published weights, null takes them where they can be reached, false does without.
        drop_rate: fraction of features dropped before the classifier.
        drop_path_rate: fraction of residual branches dropped; only for networks that have them.
        options: more arguments of timm.create_model.

    Shape:
        images: [B, channels, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ValueError: unknown network, weights of another network, or pretrained weights out of reach.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        classes: Sequence[str],
        size: int,
        channels: int = 3,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        weights: str | None = None,
        pretrained: bool | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        options: dict | None = None,
    ):
        options = dict(options or {}, drop_rate=drop_rate)
        if drop_path_rate:
            options["drop_path_rate"] = drop_path_rate
        refuse_weights_and_pretrained(weights, pretrained)
        super().__init__(name, num_classes, channels, pretrained=False, **options)
        self.start = "scratch"
        if weights:
            self.start = start_from(
                self.net, weights, "teacher.weights", classes, self.net.pretrained_cfg["classifier"]
            )
        elif pretrained is not False:
            more = {"num_classes": num_classes, "in_chans": channels, **options}
            if net := download(name, insist=pretrained is True, **more):
                self.net, self.start = net, "pretrained"
        self.input = input_spec(size, channels, mean, std, self.net.pretrained_cfg)


def refuse_weights_and_pretrained(weights: str | None, pretrained: bool | None) -> None:
    """Refuse to start from a file and from published weights at once.

    Raises:
        ValueError: both were asked for.
    """
    if weights and pretrained:
        raise ValueError("teacher.pretrained=true and teacher.weights=FILE were both asked for; choose one of them.")


def download(name: str, insist: bool, **options) -> nn.Module | None:
    """Return timm's network with its published weights, or None, said aloud, where they are out of reach.

    Args:
        name: as in timm.list_models().
        insist: raise instead of returning None.
        options: more arguments of timm.create_model.

    Raises:
        ConfigError: out of reach although insisted on.
    """
    chatter = logging.getLogger("huggingface_hub")
    level = chatter.level
    chatter.setLevel(logging.CRITICAL)  # it reports every retry; what matters is said once, below
    offline = constants.HF_HUB_OFFLINE
    # what is in its cache is then found without 50 s of retries
    constants.HF_HUB_OFFLINE = offline or not hub_answers()
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:
        missing = "No pretrained weights" in str(error)
        why = "no published weights" if missing else f"{type(error).__name__}: {error}".split(". ")[0][:120]
        if constants.HF_HUB_OFFLINE and not missing:
            why = f"{constants.ENDPOINT} is not reached, and they are not in its cache"
        if insist:
            raise ConfigError(
                "teacher.pretrained",
                f"the pretrained weights of {name!r} are out of reach ({why}). Connect to a network, "
                "give teacher.weights=FILE.safetensors, or leave teacher.pretrained=null to train from scratch.",
            ) from error
        warnings.warn(OUT_OF_REACH.format(name=name, why=why), stacklevel=2)
        return None
    finally:
        chatter.setLevel(level)
        constants.HF_HUB_OFFLINE = offline


def hub_answers(seconds: float = 3.0) -> bool:
    """Say whether the model hub's host takes connections; behind a proxy only the hub's own client can tell."""
    if urllib.request.getproxies():
        return True
    host = urllib.parse.urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((host.hostname, host.port or 443), timeout=seconds).close()
        return True
    except OSError:
        return False


def input_spec(size: int, channels: int, mean, std, published: dict) -> InputSpec:
    """Make an InputSpec from numbers or lists; null means the network's published ones, averaged for gray faces."""
    normalization = [published["mean"] if mean is None else mean, published["std"] if std is None else std]
    normalization = [tuple(v) if isinstance(v, Sequence) else (v,) for v in normalization]
    return InputSpec(size, channels, *((sum(v) / len(v),) if channels == 1 else v for v in normalization))
