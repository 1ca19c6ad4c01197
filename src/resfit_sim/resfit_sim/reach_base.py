"""A base policy for reaching with any arm that has a chain: good enough to start from, no more.

`base:=resfit_sim.reach_base:ReachBase`. It plans chunks towards a point beside the object, by the
contract's own forward kinematics; what is missing the residual learns.
"""

from __future__ import annotations

import hashlib

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import BaseError, ChunkedBase, Images
from resfit_core.contract import Contract
from resfit_core.control.kinematics import ForwardKinematics

CHUNK = 10
_BESIDE_M = (0.0, 0.015, 0.02)  # systematic error of its aim
_SPREAD_M = 0.012  # and one that differs from episode to episode
_STEP_M = 0.02  # way of the tip per control step
_DAMPING = 0.05
_EPSILON_RAD = 1e-4


class ReachBase(ChunkedBase):
    """Moves the tip of the task's first chain towards its first object."""

    def __init__(self, contract: Contract) -> None:
        """Take the contract.

        Raises:
            BaseError: The task has no hand or no object.
        """
        if contract.hand is None or not contract.objects:
            raise BaseError("ReachBase needs a task with 'hand' and one object at least")
        self._forward = ForwardKinematics(contract.hand, contract.joint_names)
        chain = {link.joint for link in contract.hand.links if link.joint}
        self._moved = [k for k, name in enumerate(contract.joint_names) if name in chain]
        self._joints, layout = contract.action_dim, contract.layout
        if {"joint_position", "object_position"} <= set(layout):
            self._where = layout["joint_position"].start, layout["object_position"].start
        else:  # images for everybody else: its node shows it what it needs
            self.observation_fields = ("joint_position", "object_position")
            self._where = 0, self._joints
        self._error = np.array(_BESIDE_M)
        space = ActionSpace.from_limits(contract)
        facts = f"reach {CHUNK} {_BESIDE_M} {_SPREAD_M} {_STEP_M} {contract.sha256}"
        super().__init__(
            self._chunk_to, CHUNK, space, hashlib.sha256(facts.encode()).hexdigest(),
            contract.sha256,
        )  # fmt: skip

    def reset(self, seed: int | None = None) -> None:
        """Drop the chunk; draw the episode's error from its seed."""
        super().reset(seed)
        if seed is not None:
            rng = np.random.default_rng(seed)
            self._error = np.array(_BESIDE_M) + rng.normal(0.0, _SPREAD_M, 3)

    def _chunk_to(self, observation: np.ndarray, images: Images | None) -> np.ndarray:
        first, object_first = self._where
        joints = np.array(observation[first : first + self._joints], np.float64)
        goal = observation[object_first : object_first + 3] + self._error
        out = np.empty((CHUNK, self._joints))
        for k in range(CHUNK):
            tip = self._forward.tip(joints)[0]
            way = goal - tip
            way *= min(1.0, _STEP_M / max(float(np.linalg.norm(way)), 1e-9))
            jacobian = self._jacobian(joints, tip)
            square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(3)
            joints[self._moved] += jacobian.T @ np.linalg.solve(square, way)
            joints = np.clip(joints, self.action_space.low, self.action_space.high)
            out[k] = joints
        return self.action_space.to_norm(out)

    def _jacobian(self, joints: np.ndarray, tip: np.ndarray) -> np.ndarray:
        columns = []
        for index in self._moved:
            turned = joints.copy()
            turned[index] += _EPSILON_RAD
            columns.append((self._forward.tip(turned)[0] - tip) / _EPSILON_RAD)
        return np.stack(columns, axis=1)
