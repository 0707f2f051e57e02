"""Any network of timm as a student."""

from collections.abc import Sequence

from distill.models.timm_net import TimmNet
from distill.system.errors import ConfigError
from distill.types import InputSpec


class TimmStudent(TimmNet):
    """A timm network that says what input it wants.

    Args:
        name: as in timm.list_models().
        num_classes: K.
        size: picture side in pixels.
        channels: 1 or 3.
        mean, std: of the input, one number or one per channel, in units of pixels / 255.
        pretrained: True makes timm load its weights.
        drop_rate: fraction of features dropped before the classifier.
        options: more arguments of timm.create_model; a vision transformer needs img_size equal to size.

    Shape:
        images: [B, channels, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ValueError: if timm has no such network, or it does not take an option.
        ConfigError: pictures of this size need img_size.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        size: int,
        channels: int,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        pretrained: bool,
        drop_rate: float,
        **options,
    ):
        super().__init__(name, num_classes, channels, pretrained, drop_rate=drop_rate, **options)
        patches = getattr(self.net, "patch_embed", None)
        if getattr(patches, "strict_img_size", False) and tuple(patches.img_size) != (size, size):
            raise ConfigError(
                "student.size",
                f"got {size}, but {name} takes {patches.img_size[0]}. Type +student.img_size={size}, too.",
            )
        self.input = InputSpec(size, channels, mean, std)
