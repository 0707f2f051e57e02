"""SCAN-CCI, a large facial expression network of one attention head over local patches and four region heads."""

import math
from collections.abc import Sequence
from difflib import get_close_matches

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.system.errors import ConfigError, expect
from distill.system.weights import read_weights, start_from
from distill.types import Outputs
from teachers.timm_teacher import download, input_spec, refuse_weights_and_pretrained

PATCHES = 25  # 16 tiles, 4 of the right strip, 4 of the bottom strip, the corner
HEADS = ("att.fc.", "reg.region_net.2.")  # tensors whose shape depends on the number of classes


class MaskNet(nn.Module):
    """Average a map under a mask of its own making: mean(x * m), m = sigmoid(BN(PReLU(conv3x3(x)))).

    Several groups of patches are masked at once: each patch is convolved in isolation, zeros beyond its edge, and all
    pixels together make the batch statistics.

    Shape:
        groups: list of [N_g, C, H_g, W_g] -> list of [N_g, C] float32.
    """

    def __init__(self, channels: int):
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.attention = nn.Sequential(conv, nn.PReLU(channels), nn.BatchNorm2d(channels), nn.Sigmoid())

    def forward(self, groups: list[Tensor]) -> list[Tensor]:
        pixels = [self.attention[0](group).permute(0, 2, 3, 1) for group in groups]  # [N, H, W, C]
        joint = torch.cat([p.flatten(0, 2) for p in pixels])[:, :, None, None]
        masks = self.attention[1:](joint).flatten(1).split([math.prod(p.shape[:3]) for p in pixels])
        return [
            (group.permute(0, 2, 3, 1) * mask.view(p.shape)).mean((1, 2), dtype=torch.float32)
            for group, mask, p in zip(groups, masks, pixels, strict=True)
        ]


def cut(maps: Tensor, bottom_strip: str) -> list[Tensor]:
    """Cut maps into 25 patches: 4 x 4 tiles of side m = S / 4 - 1, a right and a bottom strip 4 wide, a 4 x 4 corner.

    At the published S = 28, m = 6. In the published bottom strip, patch j is not columns jm..jm+m-1 of its rows but row j of
    the strip, 4m long, folded into 4 x m; repaired cuts it as the right strip is cut.

    Shape:
        maps: [B, C, S, S] -> [B, 16, C, m, m], [B, 4, C, m, 4], [B, 4, C, 4, m], [B, 1, C, 4, 4], row-major.
    """
    edge = maps.shape[-1] - 4
    side = edge // 4
    tiles = maps[:, :, :edge, :edge].unfold(2, side, side).unfold(3, side, side).flatten(2, 3)
    right = maps[:, :, :edge, edge:].unflatten(2, (4, side))
    bottom = maps[:, :, edge:, :edge].unflatten(3, (4, side))
    if bottom_strip == "repaired":
        bottom = bottom.transpose(2, 3)
    return [group.transpose(1, 2) for group in (tiles, right, bottom, maps[:, :, None, edge:, edge:])]


class Attention(nn.Module):
    """Classify normalize([max over 25 masked patches | masked whole]): [B, C, S, S] -> [B, K]."""

    def __init__(self, channels: int, num_classes: int, masks: str, bottom_strip: str):
        super().__init__()
        separate, self.bottom_strip = masks == "separate", bottom_strip
        nets = nn.ModuleList(MaskNet(channels) for _ in range(PATCHES)) if separate else MaskNet(channels)
        self.local_attention_masks = nets
        self.global_attention_mask = MaskNet(channels)
        self.fc = nn.Linear(2 * channels, num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        (attended,) = self.global_attention_mask([maps])
        local = self.local(cut(maps, self.bottom_strip)).amax(1)
        with torch.autocast(maps.device.type, enabled=False):
            return self.fc(F.normalize(torch.cat([local, attended], 1)))

    def local(self, groups: list[Tensor]) -> Tensor:
        """Return the masked averages [B, 25, C] of all patches."""
        nets = self.local_attention_masks
        if isinstance(nets, MaskNet):
            batches = [group.flatten(0, 1).contiguous(memory_format=torch.channels_last) for group in groups]
            pooled = nets(batches)
            return torch.cat([p.unflatten(0, g.shape[:2]) for p, g in zip(pooled, groups, strict=True)], 1)
        patches = [patch.contiguous(memory_format=torch.channels_last) for group in groups for patch in group.unbind(1)]
        return torch.stack([net([patch])[0] for net, patch in zip(nets, patches, strict=True)], 1)


class ChannelAttention(nn.Module):
    """One scale per channel, sigmoid(conv1d(channel averages)): [B, C] -> [B, C] (Wang et al., ECA-Net, arXiv 1910.03151)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)

    def forward(self, averages: Tensor) -> Tensor:
        return self.conv(averages[:, None])[:, 0].sigmoid()


class Regions(nn.Module):
    """Classify the four quadrants of a map, row-major, by one shared network: [B, C, S, S] -> [B, 4, K].

    Scaled channels are only ever averaged, and mean(scale * map) = scale * mean(map), so the averages alone are scaled.
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.eca = ChannelAttention()
        self.region_net = nn.Sequential(nn.Linear(channels, 256), nn.ReLU(), nn.Linear(256, num_classes))

    def forward(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            quadrants = F.adaptive_avg_pool2d(maps.float(), 2).flatten(2).transpose(1, 2)
            return self.region_net(quadrants * self.eca(quadrants.mean(1))[:, None])


class ScanCci(nn.Module):
    """Classify a face from 25 masked patches and the whole (attention), and from four quadrants (regions).

    logits = mean of the five heads' logits. Names of the tensors are those of the authors' code.

    Args:
        num_classes: K.
        classes: the class names, compared with those in the header of a weight file.
        size: picture side in pixels, a multiple of 32 from 64 on (published 224), so that 25 patches and four quadrants
            come out whole: see cut().
        backbone: timm network with maps of stride 8 (for attention) and 16 (for regions); published resnet50.
        masks: shared: one mask net for all local patches (published for RAF-DB); separate: 25 (published elsewhere).
        bottom_strip: published: cut as in the authors' code; repaired: cut as the right strip is.
        channels: 1 or 3.
        mean: of the input, units of pixels / 255 (published 0.5); null means the backbone's published one.
        std: likewise (published 0.5).
        weights: a local file of this network, whose heads may be of another size, or of the backbone alone.
        pretrained: true insists on timm's weights of the backbone, null takes them where they can be reached, false does without.

    Shape:
        images: [B, channels, size, size] -> logits [B, K], heads [B, 5, K]: attention, then top left, top right, bottom
        left, bottom right.

    Raises:
        ConfigError: an option, size or backbone that cannot be, or weights that do not fit or are out of reach.

    Reference: SCAN-CCI, Pattern Recognition Letters 145 (2021), doi 10.1016/j.patrec.2021.01.029, arXiv 2007.10298.
    Deviation: in training, a shared mask net normalizes with the statistics of all patches together, not of each patch in turn.
    """

    def __init__(
        self,
        num_classes: int,
        classes: Sequence[str],
        size: int,
        backbone: str = "resnet50",
        masks: str = "shared",
        bottom_strip: str = "published",
        channels: int = 3,
        mean: float | Sequence[float] | None = 0.5,
        std: float | Sequence[float] | None = 0.5,
        weights: str | None = None,
        pretrained: bool | None = None,
    ):
        super().__init__()
        if size < 64 or size % 32:
            raise ConfigError(
                "teacher.size", f"expected a multiple of 32 from 64 on, such as 64, 96 or 224 (published), got {size}."
            )
        expect(masks in ("shared", "separate"), "teacher.masks", "shared or separate", repr(masks))
        if bottom_strip not in ("published", "repaired"):
            raise ConfigError("teacher.bottom_strip", f"expected published or repaired, got {bottom_strip!r}.")
        refuse_weights_and_pretrained(weights, pretrained)
        self.base, features = make_base(backbone, channels)
        published, (fine, coarse) = self.base.pretrained_cfg, self.base.feature_info.channels()
        self.att = Attention(fine, num_classes, masks, bottom_strip)
        self.reg = Regions(coarse, num_classes)
        self.input = input_spec(size, channels, mean, std, published)
        self.start = "scratch"
        if weights:
            self.start = self._from_file(weights, classes)
        elif pretrained is not False and (base := download(backbone, insist=pretrained is True, **features)):
            self.base, self.start = base, "pretrained"

    def _from_file(self, weights: str, classes: Sequence[str]) -> str:
        """Load the whole network, or a backbone whose further layers (layer4, fc) are left in the file."""
        tensors = {name.removeprefix("net."): tensor for name, tensor in read_weights(weights)[0].items()}
        if any(name.startswith("base.") for name in tensors):
            return start_from(self, weights, "teacher.weights", classes, HEADS)
        shapes = {name: tensor.shape for name, tensor in self.base.state_dict().items()}
        lacking = [name for name, shape in shapes.items() if name not in tensors or tensors[name].shape != shape]
        if lacking:
            raise ConfigError(
                "teacher.weights",
                f"{weights} is neither of this SCAN-CCI nor of its backbone: {len(lacking)} tensors of the "
                f"backbone are missing or of another shape, e.g. {lacking[0]}. Choose teacher.backbone to fit the file.",
            )
        self.base.load_state_dict({name: tensors[name] for name in shapes})
        return "weights without a classifier"

    def forward(self, images: Tensor) -> Outputs:
        fine, coarse = self.base(images)
        heads = torch.cat([self.att(fine)[:, None], self.reg(coarse)], 1)
        return Outputs(heads.mean(1), heads, {})


def make_base(backbone: str, channels: int) -> tuple[nn.Module, dict[str, object]]:
    """Make a timm network, from scratch, that answers its maps of stride 8 and 16, and return it with its options.

    Args:
        backbone: timm name.
        channels: of the input.

    Raises:
        ConfigError: timm has no such network, or it has no such maps.
    """
    if ":" not in backbone and not timm.is_model(backbone):
        close = ", ".join(get_close_matches(backbone, timm.list_models(), n=5, cutoff=0.4))
        raise ConfigError(
            "teacher.backbone", f"timm has no {backbone!r}. Choose a name it lists, such as {close or 'resnet50'}."
        )
    for levels in ((2, 3), (1, 2)):  # a stem of stride 2 is a level of its own, one of stride 4 is not
        options = {"features_only": True, "out_indices": levels, "in_chans": channels}
        try:
            net = timm.create_model(backbone, pretrained=False, **options)
        except (RuntimeError, AttributeError, AssertionError, IndexError):
            continue
        if net.feature_info.reduction() == [8, 16] and getattr(net, "output_fmt", "NCHW") == "NCHW":
            return net, options
    raise ConfigError(
        "teacher.backbone",
        f"{backbone!r} does not offer [B, C, H, W] maps of stride 8 and 16. "
        "Choose a network like resnet18, resnet50, mobilenetv3_large_100 or convnext_tiny.",
    )
