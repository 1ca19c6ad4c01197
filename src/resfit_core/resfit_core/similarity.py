"""How alike two pictures are: the structural similarity index (Wang et al. 2004)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

_WINDOW = 7  # px
_C1, _C2 = 0.01**2, 0.03**2


def grey(image: np.ndarray, largest: int = 160) -> np.ndarray:
    """Return a picture as grey floats, made smaller by whole factors.

    Args:
        image: RGB uint8 of shape (height, width, 3).
        largest: The longer side is at most twice this.

    Returns:
        Float64 in [0, 1], shape (height // k, width // k).
    """
    k = max(1, max(image.shape[:2]) // largest)
    height, width = (n // k * k for n in image.shape[:2])
    light = image[:height, :width] @ np.array([0.299, 0.587, 0.114]) / 255
    return light.reshape(height // k, k, width // k, k).mean((1, 3))


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean structural similarity of two grey pictures; 1: equal, around 0: unlike.

    Uniform windows of 7 x 7 px, sample covariance, data range 1, the usual constants.

    Args:
        first: Floats in [0, 1], shape (height, width), at least 7 x 7.
        second: Of the same shape.

    Raises:
        ValueError: The shapes differ, or they are smaller than the window.
    """
    if first.shape != second.shape or min(first.shape) < _WINDOW:
        raise ValueError(
            f"pictures of shape {first.shape} and {second.shape}: equal ones of at least "
            f"{_WINDOW} x {_WINDOW} px are needed"
        )

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(uniform_filter(values, _WINDOW))

    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    m1, m2 = mean(first), mean(second)
    v1 = sample * (mean(first * first) - m1 * m1)
    v2 = sample * (mean(second * second) - m2 * m2)
    both = sample * (mean(first * second) - m1 * m2)
    index = (2 * m1 * m2 + _C1) * (2 * both + _C2)
    index /= (m1**2 + m2**2 + _C1) * (v1 + v2 + _C2)
    edge = _WINDOW // 2
    return float(index[edge:-edge, edge:-edge].mean())
