"""What comes between a face and its picture: spectacles, hands, bars, scarves, then contrast, blur and noise."""

from types import SimpleNamespace

import numpy as np

from distill.data.procedural import faces
from distill.data.procedural.faces import blob, cover, darken, paint, ridge, rotation, stroke

OCCLUDERS = ("nothing", "sunglasses", "hand", "bar", "scarf")


def render(people: SimpleNamespace, grain: np.ndarray) -> np.ndarray:
    """Draws one gray picture per person.

    Args:
        people: parameters by name (see procedural_people), each [N] float32.
        grain: [N, H, H] float32 in [0, 1), the film grain of every picture; its size is the picture's size.

    Returns:
        [N, H, H] uint8; picture i depends on entry i alone.
    """
    pictures = np.empty(grain.shape, np.uint8)
    for start in range(0, len(grain), faces.CHUNK):
        part = slice(start, start + faces.CHUNK)
        f = SimpleNamespace(**{name: value[part, None, None] for name, value in vars(people).items()})
        pictures[part] = photograph(portrait(f, grain.shape[-1]), f, grain[part])
    return pictures


def portrait(f, size):
    """[n, H, W] float32 brightness of the faces, about 0 to 1."""
    g = faces.frame(f, size)
    image = faces.backdrop(f, g)
    for layer in (faces.head, faces.eyes, faces.nose, faces.mouth, faces.brows, faces.hair, spectacles):
        layer(image, f, g)
    for kind, layer in enumerate((sunglasses, hand, bar, scarf), start=1):
        rows = np.flatnonzero(f.occluder[:, 0, 0] == kind)
        if len(rows):
            some = image[rows]
            layer(some, pick(f, rows), pick(g, rows))
            image[rows] = some
    return image


def pick(table, rows):
    """The same table with these rows only."""
    return SimpleNamespace(**{name: value[rows] for name, value in vars(table).items()})


def photograph(image, f, grain):
    """Contrast, brightness, blur and grain; image is overwritten."""
    image -= 0.5
    image *= f.contrast
    image += 0.5 + f.brightness
    for axis in (1, 2):
        padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        around = padded[:, :-2] + padded[:, 2:] if axis == 1 else padded[:, :, :-2] + padded[:, :, 2:]
        image += f.defocus * (around - 2 * image)
    image += f.noise * (grain - 0.5)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def lens(f, g):
    """Signed distance to the rounded lenses of a pair of glasses."""
    x = np.maximum(np.abs(g.ap - f.eye_x - 0.01) - 0.13, 0)
    y = np.maximum(np.abs(g.q - f.eye_y - 0.02) - 0.07, 0)
    return np.sqrt(x * x + y * y) - 0.10


def bridge(f, g):
    """Soft line of the bridge and the temples of a pair of glasses."""
    gap = np.minimum(g.ap - (f.eye_x - 0.21), f.eye_x + 0.23 - g.ap)
    return stroke(g.q - f.eye_y + 0.02, 0.014, g.blur) * cover(gap, g.blur) * cover(g.outside, g.blur)


def spectacles(image, f, g):
    """Thin frames on those who wear them."""
    rows = np.flatnonzero(f.glasses[:, 0, 0] > 0)
    if len(rows):
        f, g, some = pick(f, rows), pick(g, rows), image[rows]
        paint(some, 0.8 * np.maximum(stroke(lens(f, g), 0.013, g.blur), bridge(f, g)), f.frame_tone)
        image[rows] = some


def sunglasses(image, f, g):
    """Dark lenses with a pale reflection."""
    inside = lens(f, g)
    tone = 0.08 + 0.28 * blob((g.ap - f.eye_x + 0.06) / 0.12, (g.q - f.eye_y + 0.05) / 0.08)
    paint(image, np.maximum(cover(inside, g.blur), bridge(f, g)), tone)


def hand(image, f, g):
    """Four fingers and a palm from below or the side, over the mouth, the chin or a cheek."""
    c, s = rotation(0.9 * f.turn)
    u, v = g.u - 0.75 * f.hide_x, g.v - f.hide_y
    x, y = c * u + s * v, c * v - s * u
    tone = f.skin * (0.72 + 0.2 * f.light_x)
    palm_x, palm_y = np.maximum(np.abs(x) - 0.20, 0), np.maximum(np.abs(y - 0.55) - 0.30, 0)
    palm = np.sqrt(palm_x * palm_x + palm_y * palm_y) - 0.12
    paint(image, cover(palm, g.blur), tone)
    for place, length in ((-0.24, 0.02), (-0.08, -0.08), (0.08, -0.06), (0.24, 0.06)):
        reach = np.maximum(np.maximum(length - y, y - 0.5), 0)
        finger = np.sqrt((x - place) ** 2 + reach * reach) - 0.085
        paint(image, cover(finger, g.blur), tone)
        darken(image, 0.4 * stroke(finger + 0.006, 0.008, g.blur) * cover(palm * -1 - 0.04, g.blur * 3))


def bar(image, f, g):
    """A plain strip across the picture."""
    c, s = rotation(3 * f.turn)
    away = c * (g.v - 0.6 * f.hide_y) - s * (g.u - f.hide_x)
    paint(image, cover(np.abs(away) - 0.13, g.blur), f.cloth)


def scarf(image, f, g):
    """Cloth over mouth and chin."""
    edge = g.q - f.nose_y - 0.10 + 0.12 * g.ap
    folds = 0.06 * ridge(g.q * 5 + g.ap * 1.5)
    paint(image, cover(np.maximum(-edge, g.outside - 0.03), g.blur), f.cloth * (0.7 + 0.3 * g.nz) + folds)
