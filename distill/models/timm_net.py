"""Any network of timm behind the project's call signature."""

from difflib import get_close_matches

from torch import Tensor, nn

from distill.types import Outputs


class TimmNet(nn.Module):
    """A timm network that answers with Outputs of one head.

    Args:
        name: as in timm.list_models(), with or without a pretrained tag, e.g. resnet50 or resnet50.a1_in1k.
        num_classes: K.
        channels: of the input, 1 or 3.
        pretrained: True makes timm load its weights, from its cache or the network.
        options: more arguments of timm.create_model, such as drop_rate or, for vision transformers, img_size.

    Shape:
        images: [B, channels, S, S] -> logits [B, K], heads [B, 1, K].

    Raises:
        ValueError: if timm has no such network, or it does not take an option or these channels.
    """

    def __init__(self, name: str, num_classes: int, channels: int = 3, pretrained: bool = False, **options):
        import timm  # seconds to import, and most students are none of its networks

        super().__init__()
        if ":" not in name and not timm.is_model(name):
            close = get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
            raise ValueError(
                f"timm has no network {name!r}. Choose a name that it lists, such as {', '.join(close) or 'resnet18'}."
            )
        if channels not in (1, 3):
            raise ValueError(f"input.channels: expected 1 (gray) or 3 (RGB), got {channels}.")
        try:
            self.net = timm.create_model(
                name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, **options
            )
        except TypeError as error:
            raise ValueError(
                f"timm's network {name!r} does not take one of {sorted(options)}: {error}. "
                "~student.OPTION (or ~teacher.OPTION) leaves out one that an experiment sets."
            ) from error

    def forward(self, images: Tensor) -> Outputs:
        logits = self.net(images)
        return Outputs(logits, logits[:, None], {})
