"""Things in front of a face: a surgical mask, sunglasses, a hand, a gray box; drawn for crops that a straight face fills.

Coordinates run from -1 to 1, u to the right and v down, whatever the size of the picture. The face is the average one of
FER+: eyes at (+-0.35, -0.26), tip of the nose at v = 0.18, mouth at 0.55, chin at 0.97, cheeks at u = +-0.7.
"""

import math
from types import SimpleNamespace

import numpy as np

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, as distill.augment.views
MASKS = np.array(((0.58, 0.78, 0.88), (0.93, 0.95, 0.96), (0.62, 0.84, 0.76), (0.16, 0.17, 0.20)), np.float32)
MASK_SHARES = np.array((0.45, 0.75, 0.88))  # blue, white and green up to here, black above
# A hand upright, middle of its knuckles at the origin: (x of the knuckle, y of the knuckle, x and y of the tip, half width)
FINGERS = (
    (0.34, 0.07, 0.42, -0.42, 0.090),
    (-0.30, 0.04, -0.36, -0.60, 0.105),
    (0.13, 0.0, 0.16, -0.66, 0.108),
    (-0.09, 0.0, -0.10, -0.72, 0.112),
)
THUMB = (-0.34, 0.50, -0.66, 0.08, 0.120)


def mask(image: np.ndarray, amount: tuple[float, float], draws: np.ndarray) -> None:
    """Paint a pleated surgical mask over nose, mouth and chin, in place.

    Args:
        image: [N, C, H, W] float32 in [0, 1].
        amount: v of its upper edge on the nose, opacity.
        draws: [N, 8] uniforms of each picture: how it sits, which color.
    """
    top, opacity = amount
    f = _frame(image, draws)
    across = np.abs(f.u)
    upper = top + 0.42 * f.u**2 - 0.05 * np.clip(1 - across / 0.16, 0, 1)  # a bend over the ridge of the nose
    lower = 1.03 - 0.32 * f.u**2
    side = 0.69 - 0.30 * np.clip((f.v - 0.35) / 0.7, 0, 1) ** 2
    inside = np.maximum(np.maximum(upper - f.v, f.v - lower), across - side)
    for start, end in (((0.66, top + 0.22), (0.95, -0.22)), ((0.60, 0.72), (0.95, -0.02))):  # ear loops
        loop = _segment(across, f.v, start, end)
        _lay(f, 0.9 * _cover(loop - 0.020, f.blur), 0.9)
        _lay(f, 0.4 * _cover(np.abs(loop - 0.034) - 0.010, f.blur), 0.05)
    _lay(f, 0.30 * _cover(inside - 0.05, 0.08) * (inside > 0), 0.1)  # its shadow on the skin
    height = np.maximum(lower - upper, 0.05)
    light = 1.03 - 0.45 * across**2 - 0.20 * np.clip((f.v - upper) / height - 0.6, 0, 1)
    for share in (0.27, 0.46, 0.65):  # pleats: a line, and below it a shadow that fades
        below = f.v - upper - share * height
        light -= 0.24 * _cover(np.abs(below) - 0.010, f.blur) + 0.14 * np.clip(1 - below / 0.07, 0, 1) * (below > 0)
    light -= 0.20 * _cover(np.abs(inside + 0.045) - 0.008, f.blur)  # seam
    _lay(f, _cover(inside, f.blur), light)
    cloth = MASKS[np.searchsorted(MASK_SHARES, draws[:, 5])] * (0.94 + 0.1 * draws[:, 6:7])
    _paint(image, opacity * f.amount, opacity * f.tone, cloth)


def sunglasses(image: np.ndarray, amount: tuple[float, float], draws: np.ndarray) -> None:
    """Paint sunglasses over the eyes, in place.

    Args:
        image: [N, C, H, W] float32 in [0, 1].
        amount: half height of a lens, opacity of a lens.
        draws: [N, 8] uniforms of each picture: how they sit, their tone.
    """
    height, opacity = amount
    f = _frame(image, draws)
    width, corner = 0.22 + 0.32 * height, 0.55 * height + 0.04
    across, down = np.abs(f.u), f.v + 0.26 - 0.35 * (height - 0.14)
    x = np.abs(across - 0.37) - (width - corner) + 0.14 * np.clip(down, 0, 1)  # narrower below, as in most frames
    y = np.abs(down) - (height - corner)
    lens = _length(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - corner
    bridge = np.maximum(np.abs(down + 0.45 * height - 0.5 * f.u**2) - 0.032, across + width - 0.44)
    temple = np.maximum(np.abs(down + 0.5 * height) - 0.030, 0.34 + width - across)
    streak = np.abs(f.u - 0.37 * np.sign(f.u) + 0.8 * down + 0.06)
    gleam = 0.38 * _cover(streak - 0.030, 0.07) * _cover(lens + 0.05, f.blur)
    tone = (0.05 + 0.08 * draws[:, 5])[:, None, None]
    _lay(f, opacity * _cover(lens, f.blur), tone + 0.16 * np.clip(0.5 + down / (2 * height), 0, 1) + gleam)
    _lay(f, _cover(np.minimum(np.abs(lens) - 0.026, np.minimum(bridge, temple)), f.blur), 0.6 * tone)
    _paint(image, f.amount, f.tone, np.ones((len(image), 3), np.float32))


def hand(image: np.ndarray, amount: tuple[float, float], draws: np.ndarray) -> None:
    """Paint a hand that comes from below, in the tone of the face, over a cheek and more and more of the mouth, in place.

    Args:
        image: [N, C, H, W] float32 in [0, 1].
        amount: (u, v) of the knuckles, u toward the side the hand comes from.
        draws: [N, 8] uniforms of each picture: how it lies, from which side, its tone.
    """
    f = _frame(image, draws)
    near = np.where(draws[:, 5] < 0.5, -1, 1).astype(np.float32)[:, None, None]
    turn = (0.42 + 0.16 * (2 * draws[:, 6] - 1))[:, None, None]
    u, v = near * f.u - amount[0], f.v - amount[1]
    f.u, f.v = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
    back = _length(np.maximum(np.abs(f.u) - 0.26, 0), np.maximum(np.abs(f.v - 0.62) - 0.50, 0)) - 0.15
    _lay(f, _cover(back, f.blur), _round(back, 0.30))
    for finger in (THUMB, *FINGERS):
        _finger(f, finger)
    middle = slice(image.shape[2] // 3, -(image.shape[2] // 3))
    face = image[:, :, middle, middle].mean((2, 3))
    skin = np.clip(face * (0.98 + 0.2 * draws[:, 7:8]), 0.22, 0.92)
    _paint(image, f.amount, f.tone, skin.repeat(3 // skin.shape[1], 1))


def patch(image: np.ndarray, amount: float, draws: np.ndarray) -> None:
    """Paint a gray box somewhere, wholly inside the picture, in place.

    Args:
        image: [N, C, H, W] float32 in [0, 1].
        amount: share of the picture that it covers.
        draws: [N, 8] uniforms of each picture: place, and sides in proportions of 3:2 to 2:3.
    """
    proportion = np.sqrt(1.5) ** (2 * draws[:, 2] - 1)
    inside = np.ones(())
    for axis, side in ((2, np.sqrt(amount) * proportion), (3, np.sqrt(amount) / proportion)):
        start, size = draws[:, axis - 2] * (1 - side), image.shape[axis]
        edges = np.arange(size, dtype=np.float32)
        low, high = ((at * size)[:, None] for at in (start, start + side))
        share = np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, 1)  # of each pixel, exactly
        inside = inside * np.expand_dims(share, 4 - axis)
    inside = inside.astype(np.float32)
    _paint(image, inside, 0.5 * inside, np.ones((len(image), 3), np.float32))


def _frame(image: np.ndarray, draws: np.ndarray) -> SimpleNamespace:
    """Where every pixel lies, u and v [N, H, W], a little off and askew, as no face is quite straight; nothing is laid yet."""
    height, width = image.shape[2:]
    jitter = (2 * draws[:, :4] - 1)[:, :, None, None].astype(np.float32)
    u = ((np.arange(width, dtype=np.float32) + 0.5) * (2 / width) - 1)[None, None, :] - 0.03 * jitter[:, 0]
    v = ((np.arange(height, dtype=np.float32) + 0.5) * (2 / height) - 1)[None, :, None] - 0.03 * jitter[:, 1]
    scale, turn = 1 + 0.04 * jitter[:, 2], 0.05 * jitter[:, 3]
    u, v = (u + turn * v) / scale, (v - turn * u) / scale
    return SimpleNamespace(u=u, v=v, blur=2.4 / height, amount=np.zeros_like(u), tone=np.zeros_like(u))


def _finger(f: SimpleNamespace, finger: tuple[float, ...]) -> None:
    """Lay a rounded stick with a nail and two joints, and its shadow on its neighbor."""
    x0, y0, x1, y1, half = finger
    away = _segment(f.u, f.v, (x0, y0), (x1, y1)) - half
    _lay(f, 0.45 * _cover(away - 0.025, f.blur) * (f.v < 0.12), 0.25)
    length = math.hypot(x1 - x0, y1 - y0)
    a, b = (x1 - x0) / length, (y1 - y0) / length
    along, side = a * (f.u - x1) + b * (f.v - y1), a * (f.v - y1) - b * (f.u - x1)
    nail = _length(side / 0.62, (along - 0.1 * half) / 0.85) - 0.9 * half
    light = _round(away, half) + 0.18 * _cover(nail, f.blur)
    for joint in (0.36, 0.66):
        crease = np.maximum(np.abs(along + joint * length) - 0.012, np.abs(side) - 0.55 * half)
        light -= 0.14 * _cover(crease, f.blur)
    _lay(f, _cover(away, f.blur), light)


def _round(distance: np.ndarray, depth: float) -> np.ndarray:
    """Light on something round: 1 at a depth inside its edge, darker toward the edge."""
    near = np.clip(1 + distance / depth, 0, 1)
    return 1 - 0.38 * near * near * near


def _length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y)


def _segment(x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Distance of every pixel to a straight line from start to end."""
    (x0, y0), (x1, y1) = start, end
    a, b = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * a + (y - y0) * b) / (a * a + b * b), 0, 1)
    return _length(x - x0 - along * a, y - y0 - along * b)


def _cover(distance, blur):
    """Soft inside of a shape: 1 where the signed distance is below -blur / 2, 0 above blur / 2."""
    return np.clip(0.5 - distance / blur, 0, 1)


def _lay(f: SimpleNamespace, amount: np.ndarray, tone: np.ndarray | float) -> None:
    """Lay something over what lies in front of the face so far; f.tone is weighted with f.amount."""
    f.amount += amount * (1 - f.amount)
    f.tone += amount * (tone - f.tone)


def _paint(image: np.ndarray, amount: np.ndarray, tone: np.ndarray, color: np.ndarray) -> None:
    """image <- (1 - amount) * image + tone * color, in place; [N, H, W] and color [N, 3], by its luma on gray."""
    if image.shape[1] == 1:
        color = color @ LUMA[:, None]
    image *= (1 - amount)[:, None]
    image += tone[:, None] * color[:, :, None, None]
