"""Augmentation: a view of a face is a row of numbers, and render() draws it for any network in one interpolation."""

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.augment import autoaugment
from distill.types import Batch, InputSpec, MixedBatch

VERSION = 1  # part of every cache key: raise it when a row would be drawn or rendered differently

FIELDS = (
    "angle", "scale", "shift_x", "shift_y", "flip", "brightness", "contrast", "box_x", "box_y", "box_w", "box_h", "shear",
)  # fmt: skip
IDENTITY = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's convert("L")


@dataclass(frozen=True)
class ViewRecipe:
    """The ranges from which augmented views are drawn."""

    rotate: float = 15.0  # largest rotation to either side, degrees
    scale_min: float = 0.8  # smallest zoom (1 = the face as packed)
    scale_max: float = 1.08  # largest zoom
    shift: float = 0.1  # largest shift to either side, fraction of the picture
    flip: float = 0.5  # probability of mirroring
    brightness: float = 0.2  # largest offset to either side, units of pixels / 255
    contrast: float = 0.25  # largest relative change of contrast to either side
    erase: float = 0.5  # probability that a gray box covers part of the face
    erase_min: float = 0.1  # smallest side of the box, fraction of the picture
    erase_max: float = 0.4  # largest side of the box
    shear: float = 0.0  # largest slant of the vertical lines to either side, degrees
    autoaugment: bool = False  # first do CERN's two operations, see distill.augment.autoaugment: four more columns

    def numbers(self) -> dict[str, float]:
        """Return what cached logits depend on: the ranges, and shear and autoaugment only where they are on."""
        numbers = {name: value for name, value in asdict(self).items() if name not in ("shear", "autoaugment") or value}
        return numbers | ({"autoaugment": autoaugment.VERSION} if self.autoaugment else {})

    def table(self, seed: int, view_id: int, rows: int) -> Tensor:
        """Draw the augmentation table of one view of a data set.

        Row i depends on (seed, view_id, i) alone: u = Philox(key=(seed, view_id)) uniforms [rows, P], then one affine map per column.

        Args:
            seed: seed of the views (not of the student).
            view_id: which view; 0 is the identity view of evaluation.
            rows: number of packed pictures M.

        Returns:
            [M, P] float32, columns as in FIELDS, with autoaugment also those of distill.augment.autoaugment.FIELDS.
        """
        if view_id == 0:
            return identity(rows)
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, view_id], dtype=np.uint64)))
        u = generator.random((rows, 12))
        sign = 2 * u - 1
        slant = 2 * generator.random(rows) - 1  # drawn last: the other columns stay as they were without it
        erased = u[:, 11] < self.erase
        sides = np.where(erased[:, None], self.erase_min + (self.erase_max - self.erase_min) * u[:, 9:11], 0.0)
        columns = (
            np.deg2rad(self.rotate) * sign[:, 0],
            self.scale_min + (self.scale_max - self.scale_min) * u[:, 1],
            self.shift * sign[:, 2],
            self.shift * sign[:, 3],
            u[:, 4] < self.flip,
            self.brightness * sign[:, 5],
            1 + self.contrast * sign[:, 6],
            u[:, 7],
            u[:, 8],
            sides[:, 0],
            sides[:, 1],
            np.deg2rad(self.shear) * slant,
            *(autoaugment.columns(seed, view_id, rows).T if self.autoaugment else ()),
        )
        return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


def identity(rows: int) -> Tensor:
    """Return [rows, P] float32 rows that leave the face as it was packed."""
    return torch.tensor(IDENTITY).expand(rows, -1)


def render(pixels: Tensor, view: Tensor, spec: InputSpec) -> Tensor:
    """Draw the given view of packed faces as one network wants to see it.

    images = ((sample(pixels) / 255 - 0.5) * gain + 0.5 + brightness - mean) / std, gain = contrast, or 0 inside the erased box.

    One bilinear interpolation with border padding does rotation, shear, zoom, shift, mirror and resize together; a picture at least
    twice as large as the network's input is first averaged over whole k x k blocks, so that nothing aliases. Values are not clipped.
    AutoAugment's operations, where the row has them, come before all that, on the packed pixels.

    Args:
        pixels: packed faces.
        view: rows of an augmentation table.
        spec: size, channels, mean and std of the network's input.

    Shape:
        pixels: [B, C, H, W] uint8, C = 1 or 3; view: [B, P]; returns [B, spec.channels, spec.size, spec.size] float32.
    """
    if view.shape[1] > len(FIELDS):
        pixels = autoaugment.augment(pixels, view[:, len(FIELDS) :])
    faces = pixels.float()
    if faces.shape[1] == 3 and spec.channels == 1:
        faces = (faces * _constant(LUMA, faces.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    grid, shrink = _grid(view, spec.size), min(faces.shape[-2:]) // spec.size
    if shrink >= 2:
        height, width = faces.shape[-2:]
        faces = F.avg_pool2d(faces, shrink)
        if height % shrink or width % shrink:  # what the whole blocks leave out on the right and below
            covered = (width // shrink * shrink / width, height // shrink * shrink / height)
            grid = (grid + 1) / _constant(covered, grid.device) - 1
    faces = F.grid_sample(faces.sub_(127.5), grid, mode="bilinear", padding_mode="border", align_corners=False)
    brightness, contrast = (view[:, k, None, None, None] for k in (5, 6))
    mean, std = (_constant(v, faces.device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    gain, offset = _gain(view, contrast / (255 * std), spec.size), (0.5 + brightness - mean) / std
    if faces.shape[1] < max(gain.shape[1], offset.shape[1]):
        faces = faces.expand(-1, spec.channels, -1, -1).clone()
    faces.mul_(gain).add_(offset)  # in place: a fresh buffer costs more than the sums
    return faces.expand(-1, spec.channels, -1, -1)


def render_batch(batch: Batch | MixedBatch, spec: InputSpec) -> Tensor:
    """Augment a batch for one network: draw each face in its view, and mix the pictures where the batch says so.

    images[b] = share[b] * rendered[b] + (1 - share[b]) * rendered[partner[b]], each picture in its own view.

    Shape:
        returns [B, spec.channels, spec.size, spec.size] float32, channels last.
    """
    images = render(batch.pixels, batch.view, spec)
    if isinstance(batch, MixedBatch):
        unmixed = images[: len(batch.share)]
        images = torch.lerp(images[batch.partner], unmixed, batch.share[:, None, None, None])
    return images.contiguous(memory_format=torch.channels_last)


def _grid(view: Tensor, size: int) -> Tensor:
    """Where each output pixel looks in the packed face, [B, size, size, 2] in grid_sample's [-1, 1] coordinates."""
    angle, scale, shift_x, shift_y, flip = view[:, :5].unbind(1)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    mirror, slant = 1 - 2 * flip, torch.tan(view[:, 11])
    x = _centres(size, view) * 2 - 1
    across, down = x - 2 * shift_x[:, None], x - 2 * shift_y[:, None]
    # x + iy, so that one contiguous complex addition writes both coordinates: two strided ones take three times as long
    columns = torch.complex((mirror * cos)[:, None] * across, -sin[:, None] * across)
    rows = torch.complex((mirror * (sin + slant * cos))[:, None] * down, (cos - slant * sin)[:, None] * down)
    return torch.view_as_real(columns[:, None, :] + rows[:, :, None])


def _gain(view: Tensor, contrast: Tensor, size: int) -> Tensor:
    """The factor of each pixel's distance from gray: contrast [B, C, 1, 1], or 0 in the erased box; [B, C, size, size]."""
    centers = _centres(size, view)
    across, down = (
        ((centers - view[:, at, None]).abs() < view[:, side, None] / 2).float() for at, side in ((7, 9), (8, 10))
    )
    return (-contrast * down[:, None, :, None] * across[:, None, None, :]).add_(contrast)


def _centres(size: int, like: Tensor) -> Tensor:
    return (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size


@lru_cache
def _constant(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers as a float32 tensor that stays on the device: each copy from the host would be waited for."""
    return torch.tensor(numbers, device=device)
