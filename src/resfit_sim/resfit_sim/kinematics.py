"""Inverse kinematics of one arm: damped least squares with a pull towards a posture."""

from __future__ import annotations

import mujoco
import numpy as np

from resfit_sim.errors import PlanFailed
from resfit_sim.joints import JOINT_NAMES, LEFT_ARM, RIGHT_ARM
from resfit_sim.vega import GRASP_SITES

# A relaxed arm in front of the crouched body; the left one is its mirror image.
_POSTURE_RAD = {
    "left": np.array([0.845, 0.3, 0.0, -1.556, 1.271, 0.0, 0.0]),
    "right": np.array([-0.845, -0.3, 0.0, -1.556, -1.271, 0.0, 0.0]),
}
_ARM = {"left": LEFT_ARM, "right": RIGHT_ARM}
_DAMPING = 1e-4
_POSTURE_PULL = 0.05
_MAX_STEP_RAD = 0.3


class ArmKinematics:
    """Forward and inverse kinematics of one hand's grasp site, on private data of a model.

    Knows the robot only: neither the simulated state nor any object.
    """

    def __init__(self, model: mujoco.MjModel, side: str = "right") -> None:
        """Prepare for `model`; it is read, never written.

        Args:
            model: Compiled model of the robot.
            side: `left` or `right`.
        """
        self._model = model
        self._posture = _POSTURE_RAD[side]
        self._data = mujoco.MjData(model)
        joints = [model.joint(name) for name in JOINT_NAMES[_ARM[side]]]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._qvel = np.array([int(joint.dofadr[0]) for joint in joints])
        self._range = np.array([joint.range for joint in joints])
        self._site = int(model.site(GRASP_SITES[side]).id)

    def forward(self, arm_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return position (3,) [m] and rotation (3, 3) of the grasp site in the base frame."""
        self._data.qpos[self._qpos] = arm_rad
        mujoco.mj_kinematics(self._model, self._data)
        return (
            self._data.site_xpos[self._site].copy(),
            self._data.site_xmat[self._site].reshape(3, 3).copy(),
        )

    def solve(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        start_rad: np.ndarray,
        iterations: int = 100,
        tolerance: float = 2e-3,
    ) -> np.ndarray:
        """Return arm joints that put the grasp site at a pose.

        Args:
            position: In the base frame. Shape: (3,) [m].
            rotation: Columns are the site's axes in the base frame. Shape: (3, 3).
            start_rad: Where the search starts. Shape: (7,) [rad].
            iterations: At most this many steps.
            tolerance: Largest accepted error, in metres and rad alike.

        Raises:
            PlanFailed: If the pose is out of reach within the joint ranges.
        """
        joints = np.array(start_rad, np.float64)
        jacobian = np.empty((6, self._model.nv))
        best, best_error = joints.copy(), np.inf
        for _ in range(iterations):
            found, frame = self.forward(joints)
            error = np.concatenate([position - found, _rotation_error(rotation, frame)])
            size = float(np.abs(error).max())
            if size < best_error:
                best, best_error = joints.copy(), size
            if size < 0.05 * tolerance:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
            part = jacobian[:, self._qvel]
            inverse = part.T @ np.linalg.inv(part @ part.T + _DAMPING * np.eye(6))
            free = np.eye(7) - inverse @ part
            step = inverse @ error + free @ (_POSTURE_PULL * (self._posture - joints))
            largest = np.abs(step).max()
            joints = joints + step * min(1.0, _MAX_STEP_RAD / max(largest, 1e-12))
            joints = np.clip(joints, self._range[:, 0], self._range[:, 1])
        if best_error > tolerance:
            raise PlanFailed(
                f"no arm posture for position {np.round(position, 3).tolist()} m "
                f"(error {best_error:.4f}, allowed {tolerance})"
            )
        return best


def _rotation_error(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the rotation vector (3,) [rad] in the base frame that turns `found` into `wanted`."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, (wanted @ found.T).ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def rotation_rpy(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return Rz(yaw) Ry(pitch) Rx(roll). Shape: (3, 3)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos((roll, pitch, yaw)), np.sin((roll, pitch, yaw))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
