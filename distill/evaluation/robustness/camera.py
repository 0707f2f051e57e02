"""What a camera does to a face: blur, noise, too little light, a turned head; each in place on [N, C, H, W] in [0, 1]."""

import numpy as np
import torch
import torch.nn.functional as F


def blur(image: np.ndarray, amount: float, draws: np.ndarray) -> None:
    """Convolve with a Gaussian of sigma = amount * H pixels; at the border with what of it lies inside the picture."""
    sigma = amount * image.shape[2]
    across, down = (_gaussian(image.shape[axis], sigma) for axis in (3, 2))
    image[:] = down @ (image @ across.T)


def noise(image: np.ndarray, amount: float, draws: np.ndarray) -> None:
    """Add amount * standard normal draws [N, C, H, W] in every channel; amount in units of pixels / 255."""
    image += np.float32(amount) * draws


def dark(image: np.ndarray, amount: tuple[float, float], draws: np.ndarray) -> None:
    """Underexpose: gain * image ** gamma, so that shadows drown first; amount = (gain, gamma)."""
    gain, gamma = amount
    image[:] = gain * image**gamma


def rotate(image: np.ndarray, amount: float, draws: np.ndarray) -> None:
    """Turn by amount [degrees] about the middle, to the left or right by a draw; bilinear, borders repeated as in views."""
    angle = np.deg2rad(amount) * np.where(draws[:, 0] < 0.5, -1, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    height, width = image.shape[2:]
    rows = ((cos, -sin * height / width, 0 * cos), (sin * width / height, cos, 0 * cos))
    matrix = torch.from_numpy(np.stack([np.stack(row, 1) for row in rows], 1).astype(np.float32))
    grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
    turned = F.grid_sample(torch.from_numpy(image), grid, padding_mode="border", align_corners=False)
    image[:] = turned.numpy()


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """Return the [size, size] matrix that blurs a line of pixels; rows sum to 1."""
    offset = np.arange(size, dtype=np.float32)
    weight = np.exp(-((offset[:, None] - offset) ** 2) / np.float32(2 * sigma**2))
    return weight / weight.sum(1, keepdims=True)
