"""Safety settings beyond the contract: `<robot>.safety.yaml`, read strictly, never hashed.

A changed force limit or a table elsewhere does not make a policy another one; a changed joint
order does. What is here may therefore differ from site to site (docs/decisions/0004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.control.collision import Box, CollisionModel
from resfit_core.strict_yaml import ContractError, check_keys, check_keys_in, positive, read_yaml

_KEYS = {"acceleration_rad_s2", "ramp", "frozen_state_s", "force", "margins_m", "boxes"}


@dataclass(frozen=True)
class ForceLimit:
    """When a wrist's wrench stops the robot, and when it may move again.

    Attributes:
        wrench: Name of the stream, one of the contract's.
        joints: Those held where they were measured, to give way. Shape: (action_dim,), bool.
        limit_n: Force that stops [N].
        release_n: Force below which commands are taken again [N].
        limit_nm: Torque that stops [Nm].
        release_nm: Torque below which commands are taken again [Nm].
    """

    wrench: str
    joints: np.ndarray
    limit_n: float
    release_n: float
    limit_nm: float
    release_nm: float


@dataclass(frozen=True)
class Ramp:
    """How slowly a takeover starts.

    Attributes:
        start_scale: Share of the velocity limits at first, (0, 1].
        seconds: Time until the whole limits hold [s].
        tolerance_rad: A first target this near to the measured pose needs no ramp [rad].
    """

    start_scale: float
    seconds: float
    tolerance_rad: float


@dataclass(frozen=True)
class SafetyLimits:
    """What one robot's safety file says.

    Attributes:
        acceleration: Of targets that speed up [rad/s^2]; inf: none. Shape: (action_dim,).
        ramp: Slow start.
        frozen_state_s: Joint states without any change for so long are not believed [s].
        force: One entry per wrench stream that has a limit.
        collision: Model to check targets with; None: the robot has none.
    """

    acceleration: np.ndarray
    ramp: Ramp
    frozen_state_s: float
    force: tuple[ForceLimit, ...]
    collision: CollisionModel | None


def load_limits(
    robot_file: str | Path,
    joint_names: Sequence[str],
    groups: Sequence[str],
    wrenches: Sequence[str],
) -> SafetyLimits | None:
    """Read `<robot>.safety.yaml` and `<robot>.collision.yaml` beside the robot's YAML.

    Args:
        robot_file: `<robot>.yaml`.
        joint_names: Contract order.
        groups: Group of each joint.
        wrenches: The contract's wrench streams.

    Returns:
        The limits; None where the robot has no safety file.

    Raises:
        ContractError: A file is wrong; the text names file, key and fix.
    """
    file = beside(robot_file, "safety")
    if not file.is_file():
        return None
    data = read_yaml(file)
    check_keys(data, _KEYS, str(file))
    check_keys_in(data["acceleration_rad_s2"], set(groups), f"{file}: acceleration_rad_s2")
    where = f"{file}: acceleration_rad_s2"
    by_group = {
        key: positive(data["acceleration_rad_s2"], key, where)
        for key in data["acceleration_rad_s2"]
    }
    return SafetyLimits(
        acceleration=np.array([by_group.get(group, np.inf) for group in groups]),
        ramp=_ramp(data["ramp"], f"{file}: ramp"),
        frozen_state_s=positive(data, "frozen_state_s", str(file)),
        force=_forces(data["force"], groups, wrenches, f"{file}: force"),
        collision=_collision(data, file, beside(robot_file, "collision"), joint_names),
    )


def beside(robot_file: str | Path, kind: str) -> Path:
    """Return `<robot>.<kind>.yaml` beside `<robot>.yaml`."""
    path = Path(robot_file)
    return path.with_name(f"{path.stem}.{kind}.yaml")


def _ramp(data: Any, where: str) -> Ramp:
    check_keys(data, {"start_scale", "seconds", "tolerance_rad"}, where)
    scale = positive(data, "start_scale", where)
    if scale > 1:
        raise ContractError(
            f"{where}: 'start_scale' is {scale}, a share above 0 up to 1 is needed"
        )
    return Ramp(scale, positive(data, "seconds", where), positive(data, "tolerance_rad", where))


def _forces(
    data: Any, groups: Sequence[str], wrenches: Sequence[str], where: str
) -> tuple[ForceLimit, ...]:
    check_keys_in(data, set(wrenches), where)
    limits = []
    for name, row in data.items():
        here = f"{where}: {name}"
        check_keys(row, {"group", "limit_n", "release_n", "limit_nm", "release_nm"}, here)
        if row["group"] not in groups:
            raise ContractError(
                f"{here}: group '{row['group']}' is not one of {sorted(set(groups))}"
            )
        numbers = {key: positive(row, key, here) for key in row if key != "group"}
        for unit in ("n", "nm"):
            if numbers[f"release_{unit}"] >= numbers[f"limit_{unit}"]:
                raise ContractError(
                    f"{here}: release_{unit} {numbers[f'release_{unit}']:g} must lie below "
                    f"limit_{unit} {numbers[f'limit_{unit}']:g}, or the stop would chatter"
                )
        joints = np.array([group == row["group"] for group in groups])
        limits.append(ForceLimit(str(name), joints, **numbers))
    return tuple(limits)


def _collision(
    data: Mapping[str, Any], file: Path, model: Path, joint_names: Sequence[str]
) -> CollisionModel | None:
    check_keys_in(data["margins_m"], set(data["margins_m"]), f"{file}: margins_m")
    boxes = []
    for name, row in data["boxes"].items():
        here = f"{file}: box {name}"
        check_keys(row, {"center", "half", "margins_m"}, here)
        for key in ("center", "half"):
            if len(row[key]) != 3 or not np.isfinite(np.array(row[key], np.float64)).all():
                raise ContractError(f"{here}: '{key}' is {row[key]!r}, three metres are needed")
        boxes.append(
            Box(str(name), tuple(row["center"]), tuple(row["half"]), dict(row["margins_m"]))
        )
    if not model.is_file():
        if boxes or data["margins_m"]:
            raise ContractError(
                f"{file}: 'margins_m' and 'boxes' need the collision model '{model}', which does "
                "not exist; leave both empty ({}) for a robot without one"
            )
        return None
    return CollisionModel(model, joint_names, data["margins_m"], boxes)
