"""What a run saw, number by number, with the name of each: for checks that point at one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resfit_core.contract import Contract

_WRENCH = ("force x", "force y", "force z", "torque x", "torque y", "torque z")
_AXES, _COLOURS = "xyz", ("red", "green", "blue")
PICTURE_FLOOR = 8.0
"""Least deviation of a picture's mean colour that counts, of 255."""


def dimension_names(contract: Contract) -> list[str]:
    """Return a name for each number of the flat observation, then for each camera's colours."""
    parts = {
        "joint_position": contract.joint_names,
        "joint_velocity": contract.joint_names,
        "wrench": [f"{side} {what}" for side in contract.wrenches for what in _WRENCH],
        "object_position": [f"{o} {axis}" for o in contract.objects for axis in _AXES],
        "hand_to_object": [
            f"{hand.name} to {o} {axis}"
            for hand in contract.hands
            for o in contract.objects
            for axis in _AXES
        ],
    }
    names = [f"{field} {part}" for field in contract.layout for part in parts[field]]
    return names + [f"image {c} {colour}" for c in contract.images for colour in _COLOURS]


def with_pictures(observation: np.ndarray, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the observations with the mean colours of each camera's picture behind them.

    Args:
        observation: Shape: (rows, obs_dim).
        images: One uint8 array (rows, height, width, 3) per camera.
    """
    colours = [image.mean((1, 2), dtype=np.float64) for image in images]
    return np.concatenate([observation.astype(np.float64), *colours], axis=1)


def floors(contract: Contract, floor: float) -> np.ndarray:
    """Return the least deviation that counts for each number of `with_pictures`.

    Args:
        contract: Of the observations.
        floor: That of the flat observation, the learner's `observation_std_floor`.
    """
    pictures = len(_COLOURS) * len(contract.images)
    return np.concatenate([np.full(contract.obs_dim, floor), np.full(pictures, PICTURE_FLOOR)])
