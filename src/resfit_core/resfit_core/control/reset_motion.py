"""The way back to the start pose between two episodes on a robot: where it leads, how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.limits import beside
from resfit_core.control.records import EpisodeState, Phase
from resfit_core.strict_yaml import ContractError, check_keys, read_yaml

START = "start"
"""`<task>.start.yaml` beside `<task>.yaml`. Of the site: not hashed."""
_THERE_RAD = 1e-6  # the target in force is a pose of the way


@dataclass(frozen=True)
class StartPose:
    """Where episodes start and how the robot gets there.

    Attributes:
        poses: Joint targets [rad], passed in this order, the last is the start. Shape: (n, joints)
        speed: Share of each joint's velocity limit, (0, 1].
        tolerance_rad: The robot stands there once every joint is measured this near [rad].
    """

    poses: np.ndarray
    speed: float
    tolerance_rad: float


def load_start(task_file: str | Path, contract: Contract) -> StartPose | None:
    """Read `<task>.start.yaml` beside the task's YAML; None: there is none.

    Raises:
        ContractError: It is wrong; the text names file, key and what is allowed.
    """
    file = beside(task_file, START)
    if not file.is_file():
        return None
    data = read_yaml(file)
    check_keys(data, {"speed", "tolerance_rad", "poses"}, str(file))
    for key, most in (("speed", 1.0), ("tolerance_rad", np.inf)):
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            raise ContractError(f"{file}: '{key}' is {value!r}, above 0 up to {most:g} is needed")
    poses = data["poses"]
    if not isinstance(poses, list) or not poses:
        raise ContractError(f"{file}: 'poses' is {poses!r}, a list of 'joint: rad' is needed")
    rows = [_pose(pose, contract, f"{file}: pose {n}") for n, pose in enumerate(poses)]
    return StartPose(np.stack(rows), float(data["speed"]), float(data["tolerance_rad"]))


def _pose(data: Any, contract: Contract, where: str) -> np.ndarray:
    if not isinstance(data, Mapping):
        raise ContractError(f"{where} is {data!r}, 'joint: rad' pairs are needed")
    check_keys(data, set(contract.joint_names), where)
    try:
        pose = np.array([float(data[name]) for name in contract.joint_names])
    except (TypeError, ValueError) as error:
        raise ContractError(f"{where}: {error}; numbers are needed") from error
    for name, value, low, high in zip(
        contract.joint_names, pose, contract.lower, contract.upper, strict=True
    ):
        if not low <= value <= high:
            raise ContractError(f"{where}: {name} is {value:g}, [{low:g}, {high:g}] is its range")
    return pose


class ResetMotion:
    """Leads the targets in force along the way, all joints at once, at a share of their speed.

    While an episode is RESETTING or READY. What it says goes through the safety filter like any
    other command. Not thread-safe.
    """

    def __init__(self, contract: Contract, start: StartPose | None) -> None:
        """Take the way; None: there is none, and every start is as good."""
        self._start = start
        share = 0.0 if start is None else start.speed
        self._per_period = contract.velocity * contract.period_s * share
        self._state: EpisodeState | None = None
        self._next = 0  # pose of the way that is headed for
        self.at_start = 0
        """Newest episode for which the robot has come to its start pose; 0: none."""

    def state(self, state: EpisodeState) -> None:
        """Take the run's state."""
        if state.corrects_older_than(self._state):
            return
        before, self._state = self._state, state
        if before is None or state.episode != before.episode:
            self.disturbed()
        elif state.phase == Phase.RESETTING and before.phase != Phase.RESETTING:
            self.disturbed()  # after a pause the same episode is reset anew

    def disturbed(self) -> None:
        """Note that the robot was led elsewhere: the way begins anew."""
        self._next, self.at_start = 0, 0

    def target(self, in_force: np.ndarray, measured: np.ndarray) -> np.ndarray | None:
        """Return the next joint targets [rad]; None: there is nowhere to go, or it is there.

        Args:
            in_force: Joint targets in force [rad]. Shape: (joints,).
            measured: Joint positions [rad]. Shape: (joints,).
        """
        start, state = self._start, self._state
        if start is None or state is None or self.at_start:
            return None
        if state.phase not in (Phase.RESETTING, Phase.READY):
            return None
        goal = start.poses[self._next]
        if np.max(np.abs(goal - in_force)) <= _THERE_RAD:
            if np.max(np.abs(goal - measured)) > start.tolerance_rad:
                return goal
            if self._next + 1 == len(start.poses):
                self.at_start = state.episode
                return None
            self._next += 1
            goal = start.poses[self._next]
        periods = max(1.0, float(np.max(np.abs(goal - in_force) / self._per_period)))
        return goal if periods <= 1 else in_force + (goal - in_force) / periods
