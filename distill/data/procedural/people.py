"""Who is drawn, and with which expression: every parameter of a face from counted random numbers."""

from types import SimpleNamespace

import numpy as np

from distill.data.common.emotions import EMOTIONS
from distill.data.procedural.camera import OCCLUDERS

# The look of a person: name -> range of a uniform draw, in face units (the head is about 1.5 x 1.9), tones in [0, 1].
PERSON = {
    "head_width": (0.66, 0.80), "head_height": (0.90, 1.02), "taper": (0.02, 0.24), "skin": (0.48, 0.94),
    "socket": (0.10, 0.24), "age": (0.0, 1.0), "hair": (0.06, 0.62), "has_hair": (-6.0, 60.0),
    "hair_volume": (0.03, 0.17), "hair_length": (-0.2, 1.3), "hairline": (0.60, 0.78), "temples": (0.45, 0.95),
    "swoop": (-0.3, 0.5), "parting": (-0.14, 0.14), "beard": (-0.9, 0.42), "eye_x": (0.27, 0.33),
    "eye_y": (-0.14, -0.06), "eye_width": (0.150, 0.190), "eye_open": (0.068, 0.098),
    "eye_tilt": (-0.06, 0.16), "iris": (0.10, 0.45), "iris_size": (0.068, 0.082),
    "white": (0.90, 1.0), "lash": (0.55, 1.0), "brow_gap": (0.20, 0.27), "brow_width": (0.17, 0.215),
    "brow_arch": (0.0, 0.06), "brow_thick": (0.022, 0.044), "brow_dark": (0.75, 1.0), "nose_y": (0.20, 0.29),
    "nose_width": (0.10, 0.155), "mouth_y": (0.50, 0.58), "mouth_width": (0.23, 0.30), "rest_curve": (-0.018, 0.018),
    "lip_up": (0.025, 0.055), "lip_low": (0.04, 0.075), "lip_dark": (0.35, 0.85), "teeth": (0.8, 1.0),
    "glasses": (-4.0, 1.0), "frame_tone": (0.05, 0.4), "cloth": (0.08, 0.85),
}  # fmt: skip

# One picture of that person: pose [rad, or half pictures], light and lens.
SHOT = {
    "roll": (-0.32, 0.32), "yaw": (-0.55, 0.55), "pitch": (-0.28, 0.28), "scale": (0.82, 1.04),
    "shift_x": (-0.09, 0.09), "shift_y": (-0.04, 0.12), "gaze_x": (-0.035, 0.035), "gaze_y": (-0.012, 0.016),
    "light_x": (-0.30, 0.30), "light_y": (-0.20, 0.10), "back": (0.12, 0.85), "back_slope": (-0.14, 0.14),
    "contrast": (0.72, 1.2), "brightness": (-0.12, 0.10), "defocus": (-0.08, 0.24), "noise": (0.0, 0.16),
    "hide_x": (-0.5, 0.5), "hide_y": (0.25, 0.75), "turn": (-0.5, 0.5), "one_side": (-1.0, 1.0),
}  # fmt: skip
POSE = ("roll", "yaw", "pitch", "shift_x", "shift_y")
LENS = ("light_x", "light_y", "back_slope", "defocus", "noise")

# Facial actions, after the action units of FACS, 0 = at rest, 1 = full; two ways of showing each expression.
ACTIONS = (
    "inner_raise", "outer_raise", "brow_lower", "lid_raise", "lid_tight", "lid_droop", "cheek_raise", "wrinkle",
    "upper_raise", "corner_pull", "dimple", "corner_depress", "chin_raise", "lip_stretch", "lip_press", "jaw_drop",
    "lips_part",
)  # fmt: skip
EXPRESSION_ACTIONS: dict[str, tuple[dict[str, float], ...]] = {
    "neutral": ({}, {}),
    "happiness": (
        dict(corner_pull=1, cheek_raise=0.8, lid_tight=0.2, lips_part=1, jaw_drop=0.25),
        dict(corner_pull=1, cheek_raise=0.9, lid_tight=0.2),
    ),
    "surprise": (
        dict(inner_raise=1, outer_raise=1, lid_raise=1, jaw_drop=1),
        dict(inner_raise=1, outer_raise=1, lid_raise=0.8, jaw_drop=0.6, lips_part=0.2),
    ),
    "sadness": (
        dict(inner_raise=1, brow_lower=0.3, lid_droop=1, lid_tight=0.4, corner_depress=1, chin_raise=0.8),
        dict(inner_raise=0.9, brow_lower=0.2, lid_droop=1, lid_tight=0.2, corner_depress=0.9, lips_part=0.25),
    ),
    "anger": (
        dict(brow_lower=1, lid_raise=0.5, lid_tight=0.5, lip_press=1, chin_raise=0.5, corner_depress=0.25),
        dict(brow_lower=1, lid_raise=0.7, lid_tight=0.3, lip_stretch=0.7, lips_part=1, jaw_drop=0.15, upper_raise=0.2),
    ),
    "disgust": (
        dict(wrinkle=1, upper_raise=1, brow_lower=0.45, lid_tight=0.9, cheek_raise=0.6, corner_depress=0.5,
             chin_raise=0.6),
        dict(wrinkle=1, upper_raise=1, brow_lower=0.45, lid_tight=0.9, cheek_raise=0.6, corner_depress=0.4,
             lips_part=0.7),
    ),
    "fear": (
        dict(inner_raise=1, outer_raise=0.25, brow_lower=0.35, lid_raise=1, lip_stretch=1, lips_part=1, jaw_drop=0.25,
             corner_depress=0.5),
        dict(inner_raise=1, outer_raise=0.35, brow_lower=0.35, lid_raise=0.9, lip_stretch=0.8, lips_part=0.5,
             corner_depress=0.5),
    ),
    "contempt": (
        dict(dimple=1, lid_droop=0.1, lid_tight=0.25, lip_press=0.3, chin_raise=0.2),
        dict(dimple=1, outer_raise=0.2, lid_tight=0.4),
    ),
}  # fmt: skip
FULL_INTENSITY = np.array(
    [[[way.get(a, 0) for a in ACTIONS] for way in EXPRESSION_ACTIONS[e]] for e in EMOTIONS]
)  # [8, 2, A]
ANNOTATORS = 10


def counted(seed: int, stream: int, row: int) -> np.random.Generator:
    """A generator that depends on nothing but these three numbers."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream << 40 | row], np.uint64)))


def ranged(draws: np.ndarray, ranges: dict) -> dict:
    """Uniform draws [N, P] as one named column per range."""
    return {name: low + (high - low) * draws[:, i] for i, (name, (low, high)) in enumerate(ranges.items())}


def expressions(main, draws, intensity, mixture):
    """Actions [N, A] and votes [N, 8]: an expression at some strength, in some pictures mixed with another one.

    votes ~ Multinomial(10, p), p ~ (strength * share of each expression, rest to neutral)^2 + a little doubt
    """
    strength, mixed, share, way, other = draws[:5]
    strength = intensity + (1 - intensity) * strength
    share = np.where(mixed < mixture, 0.52 + 0.33 * share, 1.0)
    other = (other * len(EMOTIONS)).astype(int)
    way = np.clip(2 * way - 0.5, 0, 1)[:, None]
    full = FULL_INTENSITY[:, 0][None] * (1 - way[:, None]) + FULL_INTENSITY[:, 1][None] * way[:, None]
    rows = np.arange(len(main))
    blend = share[:, None] * full[rows, main] + (1 - share[:, None]) * full[rows, other]
    seen = np.zeros((len(main), len(EMOTIONS)))
    seen[rows, main] += strength * share
    seen[rows, other] += strength * (1 - share)
    seen[:, 0] += 0.7 * (1 - strength)
    seen = seen * seen
    chance = seen / seen.sum(1, keepdims=True) * 0.96 + 0.04 / len(EMOTIONS)
    steps = np.cumsum(chance, axis=1)[:, None, :-1]
    voted = (draws[5 : 5 + ANNOTATORS].T[:, :, None] > steps).sum(2)
    votes = (voted[:, :, None] == np.arange(len(EMOTIONS))).sum(1)
    return strength[:, None] * blend, votes


def people(seed, split, count, size, first, *, intensity, mixture, occlusion, pose, light):
    """Parameters, votes and film grain of `count` pictures of a split: eight in a row show one person.

    Args:
        seed, split: whole numbers; another split is other people.
        count, size: pictures, and their height and width [pixels].
        first: the first picture's number, a multiple of 8.
        intensity: weakest expression drawn, 1 = always full.
        mixture, occlusion: share of pictures that mix two expressions, or hide a part of the face.
        pose, light: 1 = as in PERSON and SHOT, 0 = straight on, evenly lit and sharp.

    Returns:
        names -> [N] float32, votes [N, 8], grain [N, H, H] float32; row i depends on (seed, split, first + i) alone.
    """
    persons, pictures, grain = [], [], np.empty((count, size, size), np.float32)
    assert first % 8 == 0
    for person in range(first // 8, (first + count + 7) // 8):
        persons.append(counted(seed, 2 * split, person).random(len(PERSON) + len(EMOTIONS)))
    for i in range(count):
        generator = counted(seed, 2 * split + 1, first + i)
        pictures.append(generator.random(len(SHOT) + 2 + 5 + ANNOTATORS + len(ACTIONS)))
        generator.random(dtype=np.float32, out=grain[i])
    looks, shots = np.array(persons)[np.arange(count) // 8], np.array(pictures)
    order = np.argsort(looks[:, len(PERSON) :], axis=1)
    main = order[np.arange(count), np.arange(count) % 8]
    face = ranged(looks, PERSON) | ranged(shots, SHOT)
    hidden, kind, *rest = shots[:, len(SHOT) :].T
    face["occluder"] = np.where(hidden < occlusion, 1 + (kind * (len(OCCLUDERS) - 1)).astype(int), 0)
    actions, votes = expressions(main, np.array(rest), intensity, mixture)
    wobble = np.array(rest[-len(ACTIONS) :]).T
    acted = np.clip(actions * (0.75 + 0.5 * wobble) + 0.12 * np.maximum(wobble - 0.5, 0), 0, 1.15)
    face |= dict(zip(ACTIONS, acted.T, strict=True))
    face |= {name: face[name] * pose for name in POSE} | {name: face[name] * light for name in LENS}
    return SimpleNamespace(**{k: v.astype(np.float32) for k, v in derived(face).items()}), votes, grain


def derived(face: dict) -> dict:
    """Adds what follows from the drawn parameters."""
    face["has_hair"] = np.clip(face["has_hair"], 0, 1)
    face["long_hair"] = np.clip(face["hair_length"] * 4 - 1, 0, 1)
    face["swoop"] = np.maximum(face["swoop"], 0)
    face["beard"] = np.clip(face["beard"], 0, 1)
    face["hair"] = np.minimum(face["hair"], 0.75 * face["skin"])
    face["brow_y"] = face["eye_y"] - face["brow_gap"]
    face["one_side"] = np.where(face["one_side"] > 0, 1.0, -1.0)
    spread = 1 + 0.22 * face["corner_pull"] + 0.24 * face["lip_stretch"] - 0.06 * face["lip_press"]
    face["mouth_stretch"] = spread - 0.34 * face["jaw_drop"] * (1 - 0.8 * np.minimum(face["corner_pull"], 1))
    return face
