"""Forward kinematics of one chain, from the contract: where the hand is, out of joint positions.

Proprioception in Cartesian form (robomimic's `eef_pos` and object-relative position) saves the
learner from having to discover the arm's geometry out of a few hundred successes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resfit_core.contract import Chain


def rotation_rpy(rpy: Sequence[float]) -> np.ndarray:
    """Rotation matrix of URDF roll-pitch-yaw [rad]: Rz(yaw) Ry(pitch) Rx(roll). Shape: (3, 3)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


class ForwardKinematics:
    """Position of a chain's tip in the robot's base frame."""

    def __init__(self, chain: Chain, joint_names: Sequence[str]) -> None:
        """Prepare the fixed transforms.

        Args:
            chain: Links from the base frame to the tip.
            joint_names: Order of the joint vectors given later.
        """
        self._index = [joint_names.index(link.joint) if link.joint else -1 for link in chain.links]
        self._origins = [np.array(link.xyz, dtype=np.float64) for link in chain.links]
        self._turns = [rotation_rpy(link.rpy) for link in chain.links]
        self._skews = [_skew(link.axis) for link in chain.links]
        self._squares = [k @ k for k in self._skews]

    def tip(self, joint_position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tip's position [m] and rotation. Shapes: (3,), (3, 3).

        Args:
            joint_position: Joint positions [rad], in the order given at construction.
        """
        position, rotation = np.zeros(3), np.eye(3)
        for index, origin, turn, skew, square in zip(
            self._index, self._origins, self._turns, self._skews, self._squares, strict=True
        ):
            position = position + rotation @ origin
            rotation = rotation @ turn
            if index >= 0:
                angle = float(joint_position[index])
                # Rodrigues' formula; axes are unit vectors (checked when the contract loads).
                spin = np.sin(angle) * skew + (1 - np.cos(angle)) * square
                rotation = rotation + rotation @ spin
        return position, rotation


def _skew(axis: Sequence[float]) -> np.ndarray:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
