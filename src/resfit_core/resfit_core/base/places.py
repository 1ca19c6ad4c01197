"""Where a demonstrator's hands closed and opened: what a picture has to tell a policy.

Nobody labels objects in a demonstration, but the hand goes to them: where it closes lies what was
taken, where it opens is where that was meant to go. Needs numpy only.
"""

from __future__ import annotations

import numpy as np

from resfit_core.base.protocol import BaseError
from resfit_core.contract import Contract
from resfit_core.control.kinematics import ForwardKinematics

PER_HAND = 2  # what it takes, where it lets go


def place_count(contract: Contract) -> int:
    """Return the number of places of a task: two for each hand that it looks from."""
    return PER_HAND * len(contract.hands)


def hand_places(
    contract: Contract, joint_position: np.ndarray, action_rad: np.ndarray
) -> np.ndarray:
    """Return, at each observation of a successful demonstration, its hands' places.

    For each hand: where the thing is that it takes (until then where it will close, while it is
    held the hand itself, then where it was let go), and where the hand will open.

    Args:
        contract: Its task names the hands; a hand's fingers are the joint group of its name.
        joint_position: Measured [rad]. Shape: (T + 1, action_dim).
        action_rad: Executed targets [rad]. Shape: (T, action_dim).

    Returns:
        In the robot's base frame [m]. Shape: (T + 1, places, 3).

    Raises:
        BaseError: A hand has no joint group of its name, or never closed.
    """
    places = []
    for hand in contract.hands:
        fingers = [i for i, group in enumerate(contract.groups()) if group == hand.name]
        if not fingers:
            raise BaseError(
                f"hand '{hand.name}' has no joint group of that name, so when it closes is "
                "unknown; name the group after the chain or train with --points 0"
            )
        kinematics = ForwardKinematics(hand, contract.joint_names)
        tips = np.stack([kinematics.tip(joints)[0] for joints in joint_position])
        first, last = _grip(action_rad[:, fingers], hand.name)
        taken = tips.copy()
        taken[:first], taken[last:] = tips[first], tips[last]
        places += [taken, np.broadcast_to(tips[last], tips.shape)]
    return np.stack(places, axis=1)


def _grip(fingers: np.ndarray, name: str) -> tuple[int, int]:
    """Return the first and the last step at which the fingers are at least half closed."""
    moved = np.abs(fingers - fingers[0]).mean(axis=1)
    most = float(moved.max())
    if most < 1e-3:
        raise BaseError(f"hand '{name}' never closes in a demonstration; leave that one out")
    closed = np.flatnonzero(moved > most / 2)
    return int(closed[0]), int(closed[-1])
