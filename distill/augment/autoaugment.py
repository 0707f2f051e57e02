"""AutoAugment for CIFAR-10 as CERN was trained with it: two operations per face, drawn as numbers, done on packed pixels."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

VERSION = 2  # raise it when the same numbers would give another face
FIELDS = ("op_1", "value_1", "op_2", "value_2")  # op: 0 is none, k is OPERATIONS[k - 1]; value in the grid's units
STEPS = 10  # of a grid: magnitude m lies between its points m and m + 1

GRIDS = {  # first and last point of each operation's grid
    "ShearX": (-0.3, 0.3),  # rows per column
    "ShearY": (-0.3, 0.3),  # columns per row
    "TranslateX": (-150 / 331, 150 / 331),  # fraction of the width; positive moves the face left
    "TranslateY": (-150 / 331, 150 / 331),  # fraction of the height; positive moves the face up
    "Rotate": (-30.0, 30.0),  # degrees, positive turns clockwise
    "Brightness": (0.1, 1.9),  # 1 leaves the face, as in the next three
    "Color": (0.1, 1.9),
    "Contrast": (0.1, 1.9),
    "Sharpness": (0.1, 1.9),
    "Posterize": (4.0, 8.0),  # bits, rounded
    "Solarize": (0.0, 256.0),  # least value that is inverted
    "AutoContrast": (0.0, 0.0),
    "Equalize": (0.0, 0.0),
    "Invert": (0.0, 0.0),
}
OPERATIONS = tuple(GRIDS)

POLICIES = (  # (operation, probability, magnitude) twice
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)


def columns(seed: int, view_id: int, rows: int) -> np.ndarray:
    """Draw which operations change each face of a view, and how far.

    A policy of the 25 is drawn evenly; each of its two operations is done with its probability, its value uniform in
    [grid[m], grid[m + 1]] of the 11-point grid, which has a sign: m < 5 is always the negative side.
    u = Philox(key=(seed, view_id), counter=2^192) uniforms [rows, 5], a stream apart from that of the other columns.

    Returns:
        [rows, 4] float64, columns as in FIELDS.

    Reference: Cubuk et al., AutoAugment, arXiv 1805.09501, table 7 (CIFAR-10), with the signed grids of CERN's training
    (Gera et al., Pattern Recognition Letters 155, 2022). Deviation: there CERN's mirror image is augmented by a draw of
    its own; here a network that mirrors flips the augmented face.
    """
    key, counter = np.array([seed, view_id], dtype=np.uint64), np.array([0, 0, 0, 1], dtype=np.uint64)
    u = np.random.Generator(np.random.Philox(key=key, counter=counter)).random((rows, 5))
    policy = (len(POLICIES) * u[:, 0]).astype(int)
    drawn = []
    for k in (0, 1):
        chance = np.array([pair[k][1] for pair in POLICIES])[policy]
        code = np.array([OPERATIONS.index(pair[k][0]) + 1 for pair in POLICIES])[policy]
        grids = [np.linspace(*GRIDS[pair[k][0]], STEPS + 1)[pair[k][2] : pair[k][2] + 2] for pair in POLICIES]
        low, high = np.array(grids)[policy].T
        done = u[:, 1 + k] < chance
        drawn += [np.where(done, code, 0), np.where(done, low + (high - low) * u[:, 3 + k], 0.0)]
    return np.stack(drawn, 1)


def augment(pixels: Tensor, plan: Tensor) -> Tensor:
    """Do each face's two operations, all faces of one operation together.

    Args:
        pixels: packed faces, left as they are.
        plan: columns of an augmentation table as in FIELDS.

    Shape:
        pixels: [B, C, H, W] uint8, C = 1 (as three equal channels would be) or 3; plan: [B, 4]; returns as pixels.

    Reference: colors as PIL's ImageOps and ImageEnhance, to the last bit; geometry as scipy.ndimage.affine_transform, 0
    outside. Deviation: pixels are interpolated linearly, in the published training by cubic splines.
    """
    faces = pixels.clone()
    for codes, values in (plan[:, :2].unbind(1), plan[:, 2:].unbind(1)):
        if faces.device.type != "cpu":
            faces = operate_all(faces, codes, values)
            continue
        for code in codes.unique().long().tolist():
            if code:
                rows = (codes == code).nonzero().ravel()
                faces[rows] = operate(OPERATIONS[code - 1], faces[rows], values[rows])
    return faces


def operate_all(faces: Tensor, codes: Tensor, values: Tensor) -> Tensor:
    """Do every operation on every face and keep each face's own: which it is, a GPU need not be waited for to tell."""
    done = faces
    for code, operation in enumerate(OPERATIONS, 1):
        done = torch.where((codes == code)[:, None, None, None], operate(operation, faces, values), done)
    return done


def operate(operation: str, faces: Tensor, values: Tensor) -> Tensor:
    """Do one operation on faces [B, C, H, W] uint8, each with its own value [B]."""
    value = values[:, None, None, None]
    match operation:
        case "Brightness":
            return _blend(torch.zeros_like(faces), faces, value)
        case "Color":
            return _blend(_gray(faces), faces, value)
        case "Contrast":
            return _blend((_gray(faces).double().mean((1, 2, 3), keepdim=True) + 0.5).floor(), faces, value)
        case "Sharpness":
            return _blend(_smooth(faces), faces, value)
        case "Posterize":
            step = 2 ** (8 - value.round())
            return (faces.float().div(step).floor() * step).to(torch.uint8)
        case "Solarize":
            return torch.where(faces < value, faces, 255 - faces)
        case "AutoContrast":
            return _stretch(faces)
        case "Equalize":
            from torchvision.transforms.v2.functional import equalize_image  # seconds to import, for this alone

            return equalize_image(faces)
        case "Invert":
            return 255 - faces
        case _:
            return _warp(faces, operation, values)


def _blend(other: Tensor, faces: Tensor, share: Tensor) -> Tensor:
    other, faces = other.float(), faces.float()
    return (other + share * (faces - other)).clamp_(0, 255).to(torch.uint8)


def _gray(faces: Tensor) -> Tensor:
    """Luma [B, 1, H, W], in PIL's whole numbers."""
    if faces.shape[1] == 1:
        return faces
    red, green, blue = faces.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)[:, None]


def _smooth(faces: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels with the middle counted five times; edges are left."""
    smooth = faces.float()
    total = smooth[..., :-2] + smooth[..., 1:-1] + smooth[..., 2:]
    total = total[..., :-2, :] + total[..., 1:-1, :] + total[..., 2:, :] + 4 * smooth[..., 1:-1, 1:-1]
    smooth[..., 1:-1, 1:-1] = (total / 13 + 0.5).floor()
    return smooth


def _stretch(faces: Tensor) -> Tensor:
    """Let each channel's least value become 0 and its largest 255."""
    low, high = (bound.double() for bound in faces.flatten(2).aminmax(dim=2, keepdim=True))
    scale = torch.where(high > low, torch.full_like(high, 255) / (high - low), 1.0)[..., None]
    offset = torch.where(high > low, -low, 0.0)[..., None] * scale
    return (faces * scale + offset).clamp_(0, 255).to(torch.uint8)


def _warp(faces: Tensor, operation: str, values: Tensor) -> Tensor:
    """Read each pixel at M (p - o) + o + t, p = (row, column), o one pixel right of and below the middle, as published."""
    height, width = faces.shape[-2:]
    down, across = (torch.arange(n, device=faces.device) - n / 2 - 0.5 for n in (height, width))
    one, none = torch.ones_like(values), torch.zeros_like(values)
    cos, sin = torch.deg2rad(values).cos(), torch.deg2rad(values).sin()
    rows = {"Rotate": (cos, -sin, sin, cos), "ShearX": (one, values, none, one), "ShearY": (one, none, values, one)}
    moves = {"TranslateX": (none, values), "TranslateY": (values, none)}
    # M [B, 2, 2] and t [B, 2], in heights and widths
    matrix = torch.stack(rows.get(operation, (one, none, none, one)), 1).view(-1, 2, 2)
    shift = torch.stack(moves.get(operation, (none, none)), 1)
    y, x = (
        row[:, 0, None, None] * down[:, None] + row[:, 1, None, None] * across + (n / 2 + 0.5 + n * move)[:, None, None]
        for row, move, n in zip(matrix.unbind(1), shift.unbind(1), (height, width), strict=True)
    )
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    read = F.grid_sample(faces.float(), grid, "bilinear", "zeros", align_corners=True) * inside[:, None]
    return (read + 0.5).clamp_(0, 255).to(torch.uint8)
