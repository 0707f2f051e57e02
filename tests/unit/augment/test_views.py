"""A view is a row of numbers, and every network that renders it sees the same face turned the same way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.functional import normalize

from distill.augment.views import FIELDS, IDENTITY, ViewRecipe, identity, render
from distill.types import InputSpec

RECIPE = ViewRecipe()
ROWS = 20_000


def row(**fields):
    values = dict(zip(FIELDS, IDENTITY, strict=True)) | fields
    assert len(values) == len(FIELDS), "misspelt field"
    return torch.tensor([list(values.values())])


def noise(size=48, channels=1, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def dot(size, x, y, width=0.05):
    """A bright Gaussian at relative place (x, y) on black, [1, 1, size, size]."""
    at = (torch.arange(size) + 0.5) / size
    down, across = (torch.exp(-(((at - p) / width) ** 2) / 2) for p in (y, x))
    return (255 * down[:, None] * across[None, :]).round().to(torch.uint8)[None, None]


def place(images):
    """Center of mass of a dot, relative to the picture, (x, y)."""
    weight, at = images[0, 0] / images[0, 0].sum(), (torch.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    return (weight.sum(0) @ at).item(), (weight.sum(1) @ at).item()


def smooth(size, seed=0):
    """Low frequencies of gray values, the same picture at every size."""
    coarse = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, size=(576, 576), mode="bicubic", align_corners=False).clamp(0, 1)
    return (255 * F.avg_pool2d(fine, 576 // size)).round().to(torch.uint8)


# Tables


def test_a_row_depends_on_seed_view_and_row_and_not_on_how_many_rows_there_are():
    table = RECIPE.table(3, 5, 100)
    assert table.shape == (100, len(FIELDS)) and table.dtype == torch.float32
    assert torch.equal(table, RECIPE.table(3, 5, 100))
    assert torch.equal(table[:10], RECIPE.table(3, 5, 10))
    for other in (RECIPE.table(4, 5, 100), RECIPE.table(3, 6, 100), RECIPE.table(5, 3, 100)):
        assert (table != other).any(1).all()
    assert len(table.unique(dim=0)) == 100


def test_a_row_is_the_same_for_every_number_of_torch_and_numpy_draws_before():
    torch.rand(7), np.random.rand(7)
    first = RECIPE.table(0, 1, 4)
    torch.manual_seed(9), np.random.seed(9)
    assert torch.equal(first, RECIPE.table(0, 1, 4))


def test_view_0_leaves_every_face_as_packed():
    assert torch.equal(RECIPE.table(7, 0, 5), identity(5))
    assert identity(5).tolist() == torch.tensor([IDENTITY] * 5).tolist()


def test_draws_stay_in_the_ranges_of_the_recipe_and_fill_them():
    table = dict(zip(FIELDS, RECIPE.table(1, 1, ROWS).unbind(1), strict=True))
    erased = table["box_w"] > 0
    ranges = {
        "angle": (-math.radians(15), math.radians(15)),
        "scale": (0.8, 1.08),
        "shift_x": (-0.1, 0.1),
        "shift_y": (-0.1, 0.1),
        "brightness": (-0.2, 0.2),
        "contrast": (0.75, 1.25),
        "box_x": (0, 1),
        "box_y": (0, 1),
        "box_w": (0.1, 0.4),
        "box_h": (0.1, 0.4),
    }
    for field, (low, high) in ranges.items():
        values = table[field][erased] if field in ("box_w", "box_h") else table[field]
        assert low - 1e-6 <= values.min() < low + 0.01 * (high - low), field
        assert high - 0.01 * (high - low) < values.max() <= high + 1e-6, field
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low), field
    assert torch.equal(erased, table["box_h"] > 0)
    assert set(table["flip"].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("flip, erase", [(0.5, 0.5), (0.2, 0.9), (0.0, 1.0), (1.0, 0.0)])
def test_faces_are_mirrored_and_erased_as_often_as_the_recipe_says(flip, erase):
    table = ViewRecipe(flip=flip, erase=erase).table(2, 3, ROWS)
    for wanted, seen in ((flip, table[:, 4]), (erase, (table[:, 9] > 0).float())):
        assert abs(seen.mean().item() - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / ROWS)


def test_table_columns_are_drawn_independently():
    table = ViewRecipe(shear=10).table(0, 1, ROWS).numpy()
    erased = table[:, 9] > 0
    for rows in (np.hstack([table[:, :9], erased[:, None]]), table[erased]):
        correlation = np.corrcoef(rows.T)
        assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / math.sqrt(len(rows))


# Geometry


@pytest.mark.parametrize("channels", [1, 3])
def test_the_identity_view_at_the_packed_size_is_the_packed_picture(channels):
    pixels = noise(48, channels, 3)
    images = render(pixels, identity(3), InputSpec(48, channels))
    assert images.shape == (3, channels, 48, 48) and images.dtype == torch.float32
    assert torch.allclose(images * 255, pixels.float(), atol=255e-4)


def test_render_with_flip_mirrors_the_picture():
    pixels = noise()
    mirrored = render(pixels, row(flip=1.0), InputSpec(48))
    assert torch.allclose(mirrored, pixels.flip(-1) / 255, atol=1e-4)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_rot90_and_positive_angles_turn_clockwise(quarters):
    pixels = noise()
    turned = render(pixels, row(angle=quarters * math.pi / 2), InputSpec(48))
    assert torch.allclose(turned, torch.rot90(pixels, -quarters, (-2, -1)) / 255, atol=1e-3)


def test_a_mirrored_face_is_turned_after_it_was_mirrored():
    pixels = noise()
    both = render(pixels, row(flip=1.0, angle=math.pi / 2), InputSpec(48))
    assert torch.allclose(both, torch.rot90(pixels.flip(-1), -1, (-2, -1)) / 255, atol=1e-3)


def test_shear_slants_upright_lines_and_leaves_the_middle_row():
    pixels = torch.zeros(1, 1, 48, 48, dtype=torch.uint8)
    pixels[..., 23:25] = 255
    drawn = render(pixels, row(shear=math.radians(10)), InputSpec(48))[0, 0]
    centers = (drawn * torch.arange(48)).sum(1) / drawn.sum(1)
    slope = (centers[:-1] - centers[1:])[8:-8]
    assert torch.allclose(slope, torch.full_like(slope, math.tan(math.radians(10))), atol=0.02)
    assert abs(centers[23:25].mean() - 23.5) < 0.02


def test_shear_leaves_every_other_column_as_drawn_without_it():
    plain, slanted = (ViewRecipe(shear=shear).table(3, 2, ROWS) for shear in (0, 10))
    assert torch.equal(plain[:, :11], slanted[:, :11]) and not plain[:, 11].any()
    assert 0.99 * math.radians(10) < slanted[:, 11].abs().max() <= math.radians(10) + 1e-6
    assert abs(slanted[:, 11].mean()) < 0.01


def test_a_shift_moves_the_face_right_and_down_by_a_fraction_of_the_picture():
    pixels = noise()
    moved = render(pixels, row(shift_x=6 / 48, shift_y=12 / 48), InputSpec(48)) * 255
    assert torch.allclose(moved[..., 12:, 6:], pixels[..., :-12, :-6].float(), atol=0.05)
    assert torch.allclose(moved[..., :12, 6:], pixels[..., :1, :-6].float().expand(-1, -1, 12, -1), atol=0.05)


def test_a_zoom_moves_places_away_from_the_center_by_its_factor():
    pixels = dot(96, 0.7, 0.4)
    x, y = place(render(pixels, row(scale=1.5), InputSpec(96)))
    assert (x, y) == pytest.approx((0.5 + 1.5 * 0.2, 0.5 - 1.5 * 0.1), abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_teacher_and_student_render_the_same_face_at_their_own_sizes(seed):
    pixels, view = smooth(48, seed), ViewRecipe(erase=0).table(seed, 1, 1)
    student, teacher = (render(pixels, view, InputSpec(size)) for size in (48, 96))
    assert student.std() > 0.05
    difference = (F.avg_pool2d(teacher, 2) - student).abs()
    assert difference.mean() < 1 / 255 and difference.max() < 4 / 255


@pytest.mark.parametrize("packed", [48, 64, 97, 144, 191])
@pytest.mark.parametrize("size", [32, 48, 84, 224])
def test_a_bright_dot_lands_at_the_same_relative_place_at_every_size(packed, size):
    view = row(angle=0.2, scale=0.9, shift_x=0.05, shift_y=-0.03)
    cos, sin = 0.9 * math.cos(0.2), 0.9 * math.sin(0.2)
    wanted = (0.5 + cos * 0.2 - sin * 0.25 + 0.05, 0.5 + sin * 0.2 + cos * 0.25 - 0.03)
    assert place(render(dot(packed, 0.7, 0.75), view, InputSpec(size))) == pytest.approx(wanted, abs=0.1 / size)


@pytest.mark.parametrize("shift", [0, 0.5 / 192, 1 / 192])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_fine_checkerboard_shrinks_to_even_gray_wherever_it_is_sampled(channels, shift):
    board = (255 * ((torch.arange(192)[:, None] + torch.arange(192)[None, :]) % 2)).to(torch.uint8)
    view = row(shift_x=shift, shift_y=shift)
    images = render(board.expand(1, channels, 192, 192), view, InputSpec(48, channels))
    assert (images * 255 - 127.5).abs().max() < 1


def test_a_picture_of_whole_blocks_shrinks_to_their_means():
    pixels = noise(192)
    wanted = F.avg_pool2d(pixels / 255, 4)
    assert wanted.std() > 0.05 and torch.allclose(render(pixels, identity(1), InputSpec(48)), wanted, atol=1e-4)


def test_a_face_is_rendered_the_same_in_a_batch_of_one_and_in_a_batch_of_many():
    pixels, view = noise(count=33), RECIPE.table(0, 1, 33)
    for spec in (InputSpec(84, 1, (0.5,), (0.25,)), InputSpec(24, 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))):
        together = render(pixels, view, spec)
        for k in (0, 15, 16, 32):
            assert torch.allclose(render(pixels[k : k + 1], view[k : k + 1], spec)[0], together[k], atol=1e-6)


def test_rendering_leaves_the_packed_pixels_and_the_table_as_they_were():
    pixels, view = noise(count=4), RECIPE.table(0, 1, 4)
    before = pixels.clone(), view.clone()
    render(pixels, view, InputSpec(48, 3, (0.5,), (0.5,)))
    assert torch.equal(pixels, before[0]) and torch.equal(view, before[1])


# Light and color


def test_the_erased_box_is_gray_and_covers_the_stated_part_at_every_size():
    view = row(box_x=0.5, box_y=0.625, box_w=0.25, box_h=0.5)
    for size in (48, 96):
        images = render(torch.full((1, 1, 48, 48), 250, dtype=torch.uint8), view, InputSpec(size))[0, 0]
        gray = (images - 0.5).abs() < 1e-6
        assert gray.float().mean().item() == pytest.approx(0.25 * 0.5)
        rows, columns = gray.any(1).nonzero().ravel(), gray.any(0).nonzero().ravel()
        assert (rows.min(), rows.max() + 1) == (0.375 * size, 0.875 * size)
        assert (columns.min(), columns.max() + 1) == (0.375 * size, 0.625 * size)
        assert torch.allclose(images[~gray], torch.tensor(250 / 255))


def test_boxes_of_a_table_cover_what_lies_within_the_picture():
    view = ViewRecipe(erase=1).table(0, 1, 64)
    images = render(torch.zeros(64, 1, 48, 48, dtype=torch.uint8), view, InputSpec(192))
    gray = (images[:, 0] - 0.5 - view[:, 5, None, None]).abs() < 1e-6
    center, half = view[:, 7:9], view[:, 9:11] / 2
    sides = (center + half).clamp(max=1) - (center - half).clamp(min=0)
    assert torch.allclose(gray.float().mean((1, 2)), sides.prod(1), atol=0.01)


def test_brightness_and_contrast_follow_the_formula():
    pixels = torch.full((1, 1, 48, 48), 51, dtype=torch.uint8)  # 0.2
    images = render(pixels, row(brightness=0.1, contrast=1.2), InputSpec(48, 1, (0.3,), (0.5,)))
    wanted = ((0.2 - 0.5) * 1.2 + 0.5 + 0.1 - 0.3) / 0.5
    assert torch.allclose(images, torch.tensor(wanted), atol=1e-6)


def test_color_becomes_gray_as_in_pillow_and_gray_becomes_color_by_repeating():
    color = noise(channels=3)
    gray = np.asarray(Image.fromarray(color[0].permute(1, 2, 0).numpy()).convert("L"))
    ours = render(color, identity(1), InputSpec(48, 1))[0, 0] * 255
    assert (ours - torch.tensor(gray).float()).abs().max() < 0.51
    repeated = render(noise(), identity(1), InputSpec(48, 3))
    assert repeated.shape == (1, 3, 48, 48)
    assert torch.equal(repeated[:, :1].expand(-1, 3, -1, -1), repeated) and repeated.std() > 0.1


@pytest.mark.parametrize("packed_channels", [1, 3])
@pytest.mark.parametrize("mean", [(0.485, 0.456, 0.406), (0.5,)])
@pytest.mark.parametrize("std", [(0.229, 0.224, 0.225), (0.25,)])
def test_mean_and_std_per_channel_agree_with_torchvision(packed_channels, mean, std):
    pixels = noise(channels=packed_channels, count=2)
    wanted = normalize(pixels.expand(-1, 3, -1, -1) / 255, [*mean] * (3 // len(mean)), [*std] * (3 // len(std)))
    assert torch.allclose(render(pixels, identity(2), InputSpec(48, 3, mean, std)), wanted, atol=1e-3)


def test_a_std_of_one_255th_gives_the_raw_range():
    pixels = noise()
    images = render(pixels, identity(1), InputSpec(48, 1, (0.0,), (1 / 255,)))
    assert torch.allclose(images, pixels.float(), atol=0.03) and images.max() > 250
