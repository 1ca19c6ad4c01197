"""THE rule that joins base and residual (DESIGN section 5). Its torch twin: `nets/combine.py`."""

from __future__ import annotations

import numpy as np


def combine(
    base: np.ndarray,
    residual: np.ndarray,
    scale: np.ndarray | float,
    noise: np.ndarray | None = None,
) -> np.ndarray:
    """Return `clip(base + scale * tanh(residual) + noise, -1, 1)` in normalised action space.

    Args:
        base: Base action, [-1, 1]. Shape: (..., action_dim).
        residual: Raw output of the residual actor, unbounded. Shape: (..., action_dim).
        scale: Residual scale, one number or one per joint. Shape: () or (action_dim,).
        noise: Exploration noise in normalised units; None: none. Shape: (..., action_dim).

    Returns:
        Action, [-1, 1], float32; where `scale` is 0 and there is no noise, `base` to the bit.
    """
    action = np.asarray(base, dtype=np.float32) + (
        np.asarray(scale, dtype=np.float32) * np.tanh(np.asarray(residual, dtype=np.float32))
    )
    if noise is not None:
        action = action + np.asarray(noise, dtype=np.float32)
    return np.clip(action, -1.0, 1.0).astype(np.float32)
