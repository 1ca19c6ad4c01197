"""Driving a robot by sticks and keys: what a control moves, and the targets that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.kinematics import ForwardKinematics
from resfit_core.strict_yaml import ContractError, check_keys, check_keys_in, read_yaml

AXES = ("x", "y", "z")
_NUDGE_RAD = 1e-5  # for the Jacobian
_DAMPING_M = 0.02  # keeps joints slow where the arm is stretched
DEVICES = ("axes", "buttons", "keys")


@dataclass(frozen=True)
class Move:
    """What a control moves when it is fully deflected.

    Attributes:
        joints: Joint name to speed [rad/s].
        tip: Chain of the contract whose tip moves; empty: none.
        velocity: Of the tip, in the robot's base frame [m/s]. Shape: (3,).
    """

    joints: Mapping[str, float]
    tip: str
    velocity: np.ndarray


@dataclass(frozen=True)
class JogSettings:
    """`config/operator/teleop.yaml`.

    Attributes:
        deadman: Number of the gamepad's button that must be held.
        deadband: Deflection below which a stick is at rest.
        key_hold_s: A key counts as held so long after each character [s].
        reach_rad: Targets stay this near to those in force [rad].
        moves: (device, control) to what it moves.
    """

    deadman: int
    deadband: float
    key_hold_s: float
    reach_rad: float
    moves: Mapping[tuple[str, Any], Move]


def load_jog(file: str | Path, contract: Contract) -> JogSettings:
    """Read the mapping; of chains that the task does not name, controls do nothing.

    Raises:
        ContractError: It is wrong; the text names file, control and what is allowed.
    """
    data = read_yaml(file)
    check_keys(data, {"deadman", "deadband", "key_hold_s", "reach_rad", *DEVICES}, str(file))
    numbers = {}
    for key in ("deadband", "key_hold_s", "reach_rad"):
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ContractError(f"{file}: '{key}' is {value!r}, a number above 0 is needed")
        numbers[key] = float(value)
    if type(data["deadman"]) is not int or data["deadman"] < 0:
        raise ContractError(f"{file}: 'deadman' is {data['deadman']!r}, a button's number, from 0")
    moves = {
        (device, control): _move(row, f"{file}: {device}: {control!r}", contract)
        for device in DEVICES
        for control, row in (data[device] or {}).items()
    }
    return JogSettings(int(data["deadman"]), **numbers, moves=moves)


def _move(row: Any, where: str, contract: Contract) -> Move:
    if not isinstance(row, Mapping) or not row:
        raise ContractError(f"{where} is {row!r}, joint or chain names are needed")
    joints, tip, velocity = {}, "", np.zeros(3)
    for name, value in row.items():
        if isinstance(value, Mapping):
            check_keys_in(value, set(AXES), f"{where}: {name}")
            tip = str(name)
            velocity = np.array([float(value.get(axis, 0.0)) for axis in AXES])
        elif name in contract.joint_names:
            joints[str(name)] = float(value)
        else:
            raise ContractError(
                f"{where}: '{name}' is no joint of robot '{contract.robot}'; a chain's tip is "
                "written {right_hand: {x: 0.1}} [m/s]"
            )
    return Move(joints, tip, velocity)


class Jog:
    """Integrates deflections to joint targets, from those in force on. Not thread-safe."""

    def __init__(self, settings: JogSettings, contract: Contract) -> None:
        """Take the mapping."""
        self._settings, self._contract = settings, contract
        self._tips = {c.name: ForwardKinematics(c, contract.joint_names) for c in contract.hands}
        index = {name: i for i, name in enumerate(contract.joint_names)}
        self._chains = {
            c.name: [index[link.joint] for link in c.links if link.joint] for c in contract.hands
        }
        self._target: np.ndarray | None = None

    def release(self) -> None:
        """Forget the targets: the next step starts from those in force."""
        self._target = None

    def step(
        self, in_force: np.ndarray, deflections: Mapping[tuple[str, Any], float], seconds: float
    ) -> np.ndarray:
        """Return the joint targets after `seconds` of these deflections [rad].

        Args:
            in_force: Joint targets in force [rad]. Shape: (action_dim,).
            deflections: Of the controls, [-1, 1]; one that is left out is at rest.
            seconds: Since the step before [s].
        """
        target = in_force.copy() if self._target is None else self._target
        speed = np.zeros(len(target))
        for control, deflection in deflections.items():
            move = self._settings.moves.get(control)
            if move is None or abs(deflection) < self._settings.deadband:
                continue
            for name, value in move.joints.items():
                speed[self._contract.joint_names.index(name)] += deflection * value
            if move.tip in self._tips:
                speed += self._to_joints(move.tip, target, deflection * move.velocity)
        target = target + speed * seconds
        reach = self._settings.reach_rad
        # What the safety filter stops must not wind up: let go, and it comes back at once.
        target = np.clip(target, in_force - reach, in_force + reach)
        self._target = np.clip(target, self._contract.lower, self._contract.upper)
        return self._target.copy()

    def _to_joints(self, tip: str, at: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Return joint speeds that move a tip so, damped least squares. Shape: (action_dim,)."""
        kinematics, joints = self._tips[tip], self._chains[tip]
        here, _ = kinematics.tip(at)
        jacobian = np.zeros((3, len(joints)))
        for column, joint in enumerate(joints):
            there = at.copy()
            there[joint] += _NUDGE_RAD
            jacobian[:, column] = (kinematics.tip(there)[0] - here) / _NUDGE_RAD
        square = jacobian @ jacobian.T + _DAMPING_M**2 * np.eye(3)
        speed = np.zeros(len(at))
        speed[joints] = jacobian.T @ np.linalg.solve(square, velocity)
        return speed
