"""Draws gray faces from tables of numbers: a head is an ellipsoid, its features are soft shapes on it.

Only + - * / and sqrt touch pixels, all of them exactly rounded, so the bytes depend neither on the machine nor on
how many faces are drawn together. Face coordinates: the head is about 1.5 wide and 1.9 high, x to the right, y down.
"""

from types import SimpleNamespace

import numpy as np

CHUNK = 32  # faces drawn together: their arrays of 48 x 48 stay in the second-level cache


def cover(distance, blur):
    """Soft inside of a shape: 1 where the signed distance is below -blur / 2, 0 above blur / 2."""
    inside = distance * (-1 / blur)
    inside += 0.5
    return np.clip(inside, 0, 1, out=inside)


def blob(x, y):
    """A round bump, 1 at the origin, 1/4 at radius 1."""
    r = x * x
    r += y * y
    r += 1
    return 1 / (r * r)


def stroke(distance, half_width, blur):
    """Soft line of the given half width."""
    return cover(np.abs(distance) - half_width, blur)


def between(x, low, high, blur):
    """1 inside [low, high], soft ends."""
    return cover(np.maximum(low - x, x - high), blur)


def ridge(x):
    """A triangle wave of period 1: 0.5 at whole numbers, 0 half-way between."""
    return np.abs(x - np.floor(x) - 0.5)


def paint(image, amount, tone):
    """image <- (1 - amount) * image + amount * tone, in place."""
    image += amount * (tone - image)


def darken(image, amount):
    """image <- image * (1 - amount), in place."""
    image *= 1 - amount


def rotation(angle):
    """Cosine and sine of about `angle` [rad], rationally."""
    t = angle / 2
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def frame(f, size):
    """Where every pixel lies: (u, v) in the plane of the picture, (p, q) on the head turned back to the front."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1).astype(np.float32)
    x, y = axis[None, None, :] - f.shift_x, axis[None, :, None] - f.shift_y
    c, s = rotation(f.roll)
    g = SimpleNamespace(blur=2.2 / size / f.scale)
    g.u, g.v = (c * x + s * y) / f.scale, (c * y - s * x) / f.scale
    below = np.clip(g.v, 0, 1)
    width = f.head_width * (1 - f.taper * below * below)
    height = np.where(g.v > 0, f.head_height + 0.09 * f.jaw_drop, f.head_height)
    g.nx, g.ny = g.u / width, g.v / height
    g.rr = g.nx * g.nx + g.ny * g.ny
    g.nz = np.sqrt(np.maximum(1 - g.rr, 0))
    g.outside = (np.sqrt(g.rr) - 1) * f.head_width
    (cy, g.yaw), (cp, g.pitch) = rotation(f.yaw), rotation(f.pitch)
    z = 0.75 * g.nz
    g.p = g.u * cy - z * g.yaw
    g.q = g.v * cp - (z * cy + g.u * g.yaw) * g.pitch
    g.side = np.where(g.p > 0, np.float32(1), np.float32(-1))
    g.ap = np.abs(g.p)
    # 1 on the half of the face that a one-sided action moves
    g.half = np.clip(0.5 + g.p * f.one_side * 3, 0, 1)
    return g


def backdrop(f, g):
    """Background, hair behind the head, neck, shoulders, ears."""
    image = f.back + f.back_slope * (g.u + g.v) + np.zeros_like(g.rr)
    au = np.abs(g.u)
    curl_x, curl_y = np.maximum(au - f.head_width - f.hair_volume + 0.32, 0), np.maximum(g.v - f.hair_length + 0.30, 0)
    back_hair = np.maximum(np.sqrt(curl_x * curl_x + curl_y * curl_y) - 0.30, -0.25 - g.v)
    paint(image, cover(back_hair, g.blur * 2) * f.has_hair, f.hair * (0.5 + 0.3 * ridge(g.u * 5)))
    paint(image, cover(np.maximum(au - 0.42, 0.5 - g.v), g.blur * 2), f.skin * 0.55)
    paint(image, cover(1.12 - g.v + au * au * 0.28, g.blur * 2), f.cloth)
    tuck = np.where(g.u > 0, np.maximum(g.yaw, 0), np.maximum(-g.yaw, 0))
    ear_x = (au - f.head_width * 0.99 + 0.35 * tuck) / 0.11
    ear_y = (g.v + 0.02) / 0.2
    ear = np.sqrt(ear_x * ear_x + ear_y * ear_y)
    paint(image, cover((ear - 1) * 0.11, g.blur), f.skin * 0.8)
    darken(image, 0.35 * cover((ear - 0.55) * 0.11, g.blur * 2))
    return image


def head(image, f, g):
    """The skin, lit from one side, with sockets, cheeks and chin modeled by soft shadows."""
    lit = 0.62 + 0.34 * g.nz + f.light_x * g.nx + f.light_y * g.ny
    skin = f.skin * lit
    cheek = blob((g.ap - 0.36) / 0.24, (g.q - 0.22 + 0.05 * f.cheek_raise) / 0.2)
    skin += 0.10 * (0.5 + f.cheek_raise) * cheek
    skin *= 1 - f.socket * blob((g.ap - f.eye_x) / 0.26, (g.q - f.eye_y + 0.05) / 0.17)
    skin += 0.06 * blob(g.p / 0.22, (g.q - 0.84) / 0.13)
    if np.any(f.beard > 0):
        jaw = np.clip((g.q - 0.22 + 0.35 * (0.75 - g.ap)) * 3, 0, 1) * np.clip((g.ap * 1.2 + g.q - 0.5) * 6, 0, 1)
        skin *= 1 - f.beard * jaw
    paint(image, cover(g.outside, g.blur), skin)


def hair(image, f, g):
    """A head of hair above the hairline, fanning out from the crown; curtains to both sides of a parting."""
    x = g.p / f.head_width
    line = -f.hairline + f.temples * x * x * x * x + f.swoop * np.abs(x - 3 * f.parting) + f.parting * x
    thick = f.hair_volume * np.clip(0.35 + f.long_hair - g.v * 1.2, 0, 1) * np.clip(1.15 - 0.45 * g.ny, 1, 1.6)
    cap = np.maximum(np.maximum(g.outside - thick, g.q - line), g.v - 0.10 - 0.35 * f.long_hair)
    fan = ridge(g.u * 11 / (g.v + 2.2)) + ridge(g.u * 27 / (g.v + 2.2))
    sheen = blob(g.nx / 0.7 - f.light_x, (g.ny + 0.74) / 0.13)
    tone = f.hair * (0.55 + 0.3 * g.nz + 0.6 * f.light_x * g.nx + 0.8 * f.light_y * g.ny + 0.3 * fan + 0.35 * sheen)
    darken(image, 0.25 * f.has_hair * cover(cap - 0.05, g.blur * 3) * cover(g.outside, g.blur))
    paint(image, f.has_hair * cover(cap, g.blur * 1.2), tone)


def eyes(image, f, g):
    """White, iris, pupil, glint, lids, lashes and the fold under the eye."""
    x = g.ap - f.eye_x
    y = g.q - f.eye_y + (f.eye_tilt - 0.22 * f.lid_droop) * x
    t = x / f.eye_width
    k = 1 - t * t
    shut = 0.5 * f.lid_tight + 0.2 * f.cheek_raise + 0.22 * f.lid_droop + 0.25 * f.dimple * g.half
    top = f.eye_open * np.maximum(1 + 0.62 * f.lid_raise - shut, 0.12)
    low = f.eye_open * np.maximum(0.6 + 0.1 * f.lid_raise - 0.35 * f.lid_tight - 0.42 * f.cheek_raise, 0.05)
    upper, lower = y + top * k, y - low * k
    opening = cover(np.maximum(-upper, lower), g.blur)
    white = f.white * (0.72 + 0.34 * g.nz + 0.6 * f.light_x * g.nx)
    gaze_x, gaze_y = x - f.gaze_x * g.side, y - f.gaze_y + 0.01 - 0.02 * f.lid_droop
    r = np.sqrt(gaze_x * gaze_x + gaze_y * gaze_y)
    paint(white, cover(r - f.iris_size, g.blur), f.iris)
    paint(white, cover(r - 0.48 * f.iris_size, g.blur), 0.04)
    paint(white, 0.85 * blob((gaze_x - 0.035 * g.side) / 0.03, (gaze_y + 0.035) / 0.03), 1.0)
    darken(white, 0.4 * cover(upper - 0.05, g.blur * 1.5))
    paint(image, opening, white)
    ends = cover(np.abs(x) - f.eye_width * 1.02, g.blur)
    paint(image, f.lash * ends * stroke(upper, 0.013 + 0.010 * (1 + t), g.blur), 0.06)
    darken(image, 0.35 * ends * stroke(lower - 0.005, 0.004, g.blur))
    darken(image, 0.28 * ends * stroke(upper + 0.055 + 0.02 * f.lid_raise, 0.006, g.blur))
    pouch = (0.16 * f.age + 0.4 * f.cheek_raise + 0.25 * f.lid_tight) * cover(np.abs(x) - f.eye_width * 0.9, g.blur * 3)
    darken(image, pouch * stroke(lower - 0.055, 0.008, g.blur))
    crow = np.abs(y) - 0.35 * (x - f.eye_width - 0.02)
    crow_ends = between(x, f.eye_width + 0.03, f.eye_width + 0.12, g.blur)
    darken(image, 0.5 * f.cheek_raise * crow_ends * stroke(crow, 0.006, g.blur))


def brows(image, f, g):
    """Brows with their inner and outer ends raised or lowered, and the lines they fold into the forehead."""
    center = f.eye_x + 0.01 - 0.035 * f.brow_lower
    t = np.clip((g.ap - center) / f.brow_width, -1, 1)
    inner, outer = (1 - t) / 2, (1 + t) / 2
    cocked = 0.5 * f.dimple * g.half
    y = f.brow_y - f.brow_arch * (1 - t * t) + 0.05 * outer * outer
    y = y - 0.20 * f.inner_raise * inner + 0.05 * f.lid_droop * outer
    y = y - (0.13 * f.outer_raise + 0.10 * cocked) * (0.3 + 0.7 * outer)
    y = y + f.brow_lower * (0.03 + 0.15 * inner * inner) + f.wrinkle * 0.05
    away = np.maximum(np.abs(g.q - y) - f.brow_thick * (1.1 - 0.65 * outer), np.abs(g.ap - center) - f.brow_width)
    paint(image, f.brow_dark * cover(away, g.blur * 1.2), f.hair * 0.55)
    knit = np.maximum(f.brow_lower, 0.7 * f.wrinkle)
    glabella = between(g.q, f.brow_y - 0.02, f.brow_y + 0.18, g.blur * 2)
    darken(image, 0.5 * knit * glabella * stroke(g.ap - 0.055, 0.010, g.blur))
    lift = np.clip(0.55 * f.inner_raise + 0.5 * f.outer_raise, 0, 1)
    ripple = ridge((g.q - f.brow_y + 0.02 * g.ap) * 11)
    rows = between(g.q, f.brow_y - 0.36, f.brow_y - 0.21, g.blur) * cover(g.ap - 0.36, g.blur * 4)
    darken(image, (0.08 * f.age + 0.32 * lift) * rows * np.clip(1 - ripple * 5, 0, 1))


def nose(image, f, g):
    """Bridge, tip, wings and nostrils; wrinkling lifts the wings and furrows the bridge."""
    x, y = g.p - 0.16 * g.yaw, g.q - f.nose_y - 0.14 * g.pitch + 0.045 * f.wrinkle
    ax = np.abs(x)
    up = np.clip(-y / (f.nose_y - f.eye_y), 0, 1)
    bridge = between(y, -(f.nose_y - f.eye_y) - 0.08, -0.02, g.blur * 4)
    wing = f.nose_width * (1 - 0.55 * up)
    shadow = np.where(x * f.light_x > 0, np.float32(0.12), np.float32(0.30))
    darken(image, shadow * bridge * cover(np.abs(ax - wing) - 0.015, 0.09))
    image += 0.12 * bridge * cover(ax - 0.02, 0.08) * f.skin
    image += 0.16 * blob(x / 0.06, (y + 0.045) / 0.05) * f.skin
    darken(image, 0.30 * blob(x / (f.nose_width * 0.9), (y - 0.075) / 0.04))
    wing_x, wing_y = (ax - f.nose_width * 0.98) / 0.045, (y + 0.01) / 0.075
    ring = np.sqrt(wing_x * wing_x + wing_y * wing_y) - 1
    outer_half = cover(f.nose_width * 0.98 - ax, g.blur)
    darken(image, (0.30 + 0.30 * f.wrinkle) * outer_half * stroke(ring * 0.05, 0.006, g.blur * 1.3))
    darken(image, 0.72 * blob((ax - f.nose_width * 0.52) / 0.055, (y - 0.028) / 0.03))
    furrow = ridge((y + 0.45 * ax) * 12)
    place = between(y, -0.34, -0.14, g.blur * 2) * cover(ax - 0.13, g.blur * 2)
    darken(image, 0.48 * f.wrinkle * place * np.clip(1 - furrow * 4, 0, 1))


def folds(image, f, g, corner_y):
    """The folds from the nose to the corners of the mouth, and the dimpled chin."""
    start, end = f.nose_y - 0.02 - 0.04 * f.wrinkle, corner_y + 0.06
    down = np.clip((g.q - start) / (end - start), 0, 1)
    above, below = f.nose_width + 0.06, f.mouth_width * f.mouth_stretch + 0.07
    x = above + (below - above) * (down * (1.6 - 0.6 * down))
    depth = 0.10 * f.age + 0.45 * f.corner_pull + 0.5 * f.upper_raise + 0.30 * f.dimple * g.half
    along = between(g.q, start, end, g.blur * 2)
    darken(image, np.clip(depth, 0, 0.5) * along * stroke(g.ap - x, 0.008, g.blur * 2))
    darken(image, 0.35 * f.chin_raise * blob(g.p / 0.2, (g.q - 0.79) / 0.05))


def mouth(image, f, g):
    """Lips, the line between them, teeth, tongue; the corners go up, down, out, or up on one side only."""
    reach = f.mouth_width * f.mouth_stretch * (1 + 0.12 * f.dimple * g.half)
    t = g.p / reach
    tt = t * t
    lift = 0.13 * f.corner_pull + 0.19 * f.dimple * g.half - 0.13 * f.corner_depress + f.rest_curve
    center = f.mouth_y - 0.03 * f.chin_raise + 0.02 * f.jaw_drop - 0.02 * f.upper_raise
    y = g.q - center + lift * (np.minimum(tt, 1.3) - 0.4)
    folds(image, f, g, center - 0.6 * lift)
    boxy = np.clip(0.35 + 0.5 * f.lip_stretch + 0.3 * f.jaw_drop, 0, 1)
    k = 1 - tt * (1 - boxy + boxy * tt)
    thin = 1 - 0.62 * f.lip_press
    gap_up = 0.05 * f.lips_part + 0.075 * f.upper_raise * (0.25 + f.lips_part) + 0.05 * f.jaw_drop
    gap_low = 0.05 * f.lips_part + 0.27 * f.jaw_drop
    ends = np.abs(g.p) - reach
    roof, floor = y + gap_up * k, y - gap_low * k
    bow = 1 - tt - 0.35 * blob(g.p / 0.05, 0)
    lip_up = roof + f.lip_up * thin * (1 + 0.4 * f.upper_raise) * bow
    lip_low = floor - f.lip_low * thin * (1 - tt)
    lips = cover(np.maximum(np.maximum(-lip_up, lip_low), ends), g.blur)
    darken(image, 0.30 * blob(g.p / (0.6 * reach), (lip_low - 0.035) / 0.04))
    sheen = np.where(y > 0, np.float32(0.10), np.float32(-0.06))
    paint(image, lips * f.lip_dark, f.skin * (0.52 + sheen + 0.5 * f.light_x * g.nx))
    inside = cover(np.maximum(np.maximum(-roof, floor), ends), g.blur) * np.clip((gap_up + gap_low) * 25, 0, 1)
    cavity = np.full_like(image, 0.07)
    paint(cavity, 0.6 * cover(-floor - 0.10, 0.08) * np.clip(f.jaw_drop * 2, 0, 1), 0.34 * f.skin + 0.1)
    teeth = cover(roof - 0.085 + 0.03 * f.jaw_drop, g.blur) * f.teeth
    bared = cover(-floor - 0.055, g.blur) * f.teeth * np.clip(1.4 * f.lip_stretch, 0, 1)
    paint(cavity, np.maximum(teeth, bared), 0.88 - 0.25 * tt)
    darken(cavity, 0.55 * f.lip_stretch * f.teeth * stroke(y - 0.01, 0.010, g.blur))
    paint(image, inside, cavity)
    shut = np.clip(1 - (gap_up + gap_low) * 18, 0, 1)
    paint(image, 0.85 * shut * cover(ends, g.blur) * stroke(y, 0.009 + 0.008 * f.lip_press, g.blur), 0.08)
    tuck = 0.35 + 0.4 * f.corner_pull + 0.4 * f.dimple * g.half + 0.3 * f.corner_depress
    darken(image, np.clip(tuck, 0, 0.8) * blob(ends / 0.035, y / 0.035))
