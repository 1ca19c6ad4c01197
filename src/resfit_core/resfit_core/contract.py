"""The one truth on joints, limits, streams, rates and units: robot YAML and task YAML, merged.

Everybody who builds, stores or reads an observation or an action loads the same
:class:`Contract`. Its hash travels in every message, bag and checkpoint (DESIGN section 4), so
that two sides that disagree refuse each other instead of getting quietly worse. Needs numpy and
PyYAML only: the driver loads it without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.control.limits import SafetyLimits, load_limits
from resfit_core.strict_yaml import (
    ContractError,
    check_keys,
    check_keys_in,
    is_number,
    not_negative,
    positive,
    read_yaml,
)  # fmt: skip

WRENCH_SIZE = 6  # force [N] and torque [Nm]
POSITION_SIZE = 3  # [m]


@dataclass(frozen=True)
class Joint:
    """One actuated joint: range [rad], velocity limit [rad/s], group for per-group settings."""

    name: str
    lower: float
    upper: float
    velocity: float
    group: str


@dataclass(frozen=True)
class Camera:
    """One image stream: topic, native size [px], optical frame, rate [Hz]."""

    name: str
    topic: str
    width: int
    height: int
    frame: str
    rate_hz: float


@dataclass(frozen=True)
class Link:
    """One link of a chain: origin [m], roll-pitch-yaw [rad], a turn of `joint` about `axis`."""

    joint: str
    xyz: tuple[float, float, float]
    rpy: tuple[float, float, float]
    axis: tuple[float, float, float]


@dataclass(frozen=True)
class Chain:
    """Links from the robot's base frame to a tip, for forward kinematics."""

    name: str
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Contract:
    """Merged robot and task description for one observation variant."""

    robot: str
    task: str
    variant: str
    control_rate_hz: float
    joints: tuple[Joint, ...]
    wrenches: tuple[str, ...]
    cameras: tuple[Camera, ...]
    objects: tuple[str, ...]
    hands: tuple[Chain, ...]
    fields: tuple[str, ...]
    images: tuple[str, ...]
    image_size: int
    horizon_steps: int
    reaction_time_s: float
    max_step_rad: tuple[float, ...]
    max_observation_age_s: float
    command_timeout_s: float
    sha256: str
    # Of the robot's safety file; not hashed: a site's force limit makes no policy another one.
    safety: SafetyLimits | None = field(default=None, compare=False)
    # Where it was read from: companions (`<robot>.sim.yaml`, …) lie beside.
    robot_file: str = field(default="", compare=False)
    task_file: str = field(default="", compare=False)

    @property
    def period_s(self) -> float:
        """Length of one control period [s]."""
        return 1.0 / self.control_rate_hz

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the actuated joints in the order of every action vector."""
        return tuple(j.name for j in self.joints)

    @property
    def hand(self) -> Chain | None:
        """The first of the hands that the task looks from; None: it looks from none."""
        return self.hands[0] if self.hands else None

    @property
    def action_dim(self) -> int:
        """Number of actuated joints."""
        return len(self.joints)

    @cached_property
    def lower(self) -> np.ndarray:
        """Lower joint limits [rad]. Shape: (action_dim,)."""
        return np.array([j.lower for j in self.joints])

    @cached_property
    def upper(self) -> np.ndarray:
        """Upper joint limits [rad]. Shape: (action_dim,)."""
        return np.array([j.upper for j in self.joints])

    @cached_property
    def velocity(self) -> np.ndarray:
        """Joint velocity limits [rad/s]. Shape: (action_dim,)."""
        return np.array([j.velocity for j in self.joints])

    @cached_property
    def max_step(self) -> np.ndarray:
        """Largest distance target to measured [rad]; inf: unguarded. Shape: (action_dim,)."""
        return np.array(self.max_step_rad)

    @cached_property
    def layout(self) -> dict[str, slice]:
        """Where each field lies in the flat observation."""
        sizes = {
            "joint_position": self.action_dim,
            "joint_velocity": self.action_dim,
            "wrench": WRENCH_SIZE * len(self.wrenches),
            "object_position": POSITION_SIZE * len(self.objects),
            "hand_to_object": POSITION_SIZE * len(self.objects) * len(self.hands),
        }
        layout, at = {}, 0
        for name in self.fields:
            layout[name] = slice(at, at + sizes[name])
            at += sizes[name]
        return layout

    @property
    def obs_dim(self) -> int:
        """Length of the flat observation."""
        return max(s.stop for s in self.layout.values())

    def groups(self) -> tuple[str, ...]:
        """Group of each joint, in joint order."""
        return tuple(j.group for j in self.joints)

    def camera(self, name: str) -> Camera:
        """Return the camera called `name`.

        Raises:
            ContractError: If the robot has no such camera.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise ContractError(f"camera '{name}' is not one of {[c.name for c in self.cameras]}")

    def require(self, sha256: str, what: str) -> None:
        """Refuse `what` if it was made under another contract.

        Raises:
            ContractError: If the hashes differ.
        """
        if sha256 != self.sha256:
            raise ContractError(
                f"{what} was made for contract {sha256[:12] or '(none)'}, but robot "
                f"'{self.robot}' with task '{self.task}' ({self.variant}) is {self.sha256[:12]}: "
                "use the config it was made with, or make it anew with 'make demos' and "
                "'make base'"
            )


_ROBOT_KEYS = {
    "robot", "control_rate_hz", "joints", "chains", "wrenches", "cameras", "max_step_rad",
    "max_observation_age_s", "command_timeout_s",
}  # fmt: skip
_TASK_KEYS = {
    "task", "robot", "horizon_steps", "objects", "hand", "observation", "image_size",
    "reaction_time_s",
}  # fmt: skip
FIELDS = ("joint_position", "joint_velocity", "wrench", "object_position", "hand_to_object")


def load_contract(
    robot_file: str | Path, task_file: str | Path, variant: str = "state"
) -> Contract:
    """Load, check and merge a robot YAML and a task YAML.

    Args:
        robot_file: For example `config/robot/vega_1.yaml`.
        task_file: For example `config/task/woolly_ball_pnp.yaml`.
        variant: Which of the task's observation variants, `state` or `pixels`.

    Raises:
        ContractError: If a file is missing or wrong; the text names file, key and fix.
    """
    try:
        return _merged(robot_file, task_file, variant)
    except ContractError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise ContractError(
            f"{robot_file} or {task_file}: a value has another form than in the shipped files "
            f"({error}): compare the two"
        ) from error


def _merged(robot_file: str | Path, task_file: str | Path, variant: str) -> Contract:
    robot = read_yaml(robot_file)
    task = read_yaml(task_file)
    check_keys(robot, _ROBOT_KEYS, str(robot_file))
    check_keys(task, _TASK_KEYS, str(task_file))
    if task["robot"] != robot["robot"]:
        raise ContractError(
            f"{task_file}: task '{task['task']}' is for robot '{task['robot']}', not "
            f"'{robot['robot']}': choose another robot:= or task:="
        )
    variants = task["observation"]
    if not isinstance(variants, Mapping) or variant not in variants:
        known = list(variants) if isinstance(variants, Mapping) else variants
        raise ContractError(f"{task_file}: observation variant '{variant}' is not one of {known}")
    chosen = variants[variant]
    check_keys(chosen, {"fields", "images"}, f"{task_file}: observation.{variant}")
    for name in chosen["fields"]:
        if name not in FIELDS:
            raise ContractError(
                f"{task_file}: observation.{variant}.fields: '{name}' is not one of {FIELDS}"
            )
    hands = _names(task["hand"], task_file)
    # Chains that the task does not look from are no part of what was agreed.
    chains = {name: chain for name, chain in dict(robot["chains"]).items() if name in hands}
    merged = {"robot": {**robot, "chains": chains}, "task": task, "variant": variant}
    canonical = json.dumps(merged, sort_keys=True, separators=(",", ":"))
    joints = _joints(robot["joints"], robot_file)
    check_keys_in(robot["max_step_rad"], {j.group for j in joints}, f"{robot_file}: max_step_rad")
    steps = {
        group: positive(robot["max_step_rad"], group, f"{robot_file}: max_step_rad")
        for group in robot["max_step_rad"]
    }
    contract = Contract(
        robot=str(robot["robot"]),
        task=str(task["task"]),
        variant=variant,
        control_rate_hz=positive(robot, "control_rate_hz", robot_file),
        joints=joints,
        wrenches=tuple(robot["wrenches"]),
        cameras=_cameras(robot["cameras"], robot_file),
        objects=tuple(task["objects"]),
        hands=tuple(
            _hand(name, robot["chains"], {j.name for j in joints}, robot_file, task_file)
            for name in hands
        ),
        fields=tuple(chosen["fields"]),
        images=tuple(chosen["images"]),
        image_size=int(positive(task, "image_size", task_file)),
        horizon_steps=int(positive(task, "horizon_steps", task_file)),
        reaction_time_s=not_negative(task, "reaction_time_s", task_file),
        max_step_rad=tuple(steps.get(j.group, np.inf) for j in joints),
        max_observation_age_s=positive(robot, "max_observation_age_s", robot_file),
        command_timeout_s=positive(robot, "command_timeout_s", robot_file),
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
        robot_file=str(robot_file),
        task_file=str(task_file),
        safety=load_limits(
            robot_file, [j.name for j in joints], [j.group for j in joints], robot["wrenches"]
        ),
    )
    if "hand_to_object" in contract.fields and not contract.hands:
        raise ContractError(f"{task_file}: field 'hand_to_object' needs 'hand' to name a chain")
    for name in contract.images:
        contract.camera(name)
    return contract


def _joints(data: Any, where: str | Path) -> tuple[Joint, ...]:
    if not isinstance(data, Mapping) or not data:
        raise ContractError(f"{where}: 'joints' must map names to [lower, upper, velocity, group]")
    joints = []
    for name, row in data.items():
        fits = isinstance(row, Sequence) and len(row) == 4
        if not fits or not all(is_number(value) for value in row[:3]):
            raise ContractError(
                f"{where}: joint '{name}' is {row!r}, [lower, upper, velocity, group] is needed, "
                "the first three finite numbers"
            )
        lower, upper, velocity, group = row
        joint = Joint(str(name), float(lower), float(upper), float(velocity), str(group))
        if not joint.lower < joint.upper or not joint.velocity > 0:
            raise ContractError(
                f"{where}: joint '{name}' needs lower < upper and velocity > 0, got {row!r}"
            )
        joints.append(joint)
    return tuple(joints)


def _cameras(data: Any, where: str | Path) -> tuple[Camera, ...]:
    if not isinstance(data, Mapping):
        raise ContractError(f"{where}: 'cameras' must map names to streams; {{}}: none")
    cameras = []
    for name, row in data.items():
        check_keys(
            row, {"topic", "width", "height", "frame", "rate_hz"}, f"{where}: camera {name}"
        )
        for key in ("width", "height", "rate_hz"):
            positive(row, key, f"{where}: camera {name}")
        cameras.append(Camera(name=str(name), **row))
    return tuple(cameras)


def _names(given: Any, where: str | Path) -> tuple[str, ...]:
    """Return `hand` as a tuple: it is a chain's name, a list of them, or null for none."""
    names = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(names, (tuple, list)) or not all(isinstance(n, str) for n in names):
        raise ContractError(f"{where}: 'hand' is {given!r}, a chain's name or a list is needed")
    return tuple(names)


def _hand(name: str, chains: Any, joints: set[str], robot_file: Any, task_file: Any) -> Chain:
    if not isinstance(chains, Mapping) or name not in chains:
        raise ContractError(f"{task_file}: hand '{name}' is not one of {robot_file}'s chains")
    links = []
    for row in chains[name]:
        where = f"{robot_file}: chain {name}"
        check_keys_in(row, {"joint", "xyz", "rpy", "axis"}, where)
        link = Link(
            joint=str(row.get("joint", "")),
            xyz=tuple(row.get("xyz", (0.0, 0.0, 0.0))),
            rpy=tuple(row.get("rpy", (0.0, 0.0, 0.0))),
            axis=tuple(row.get("axis", (0.0, 0.0, 1.0))),
        )
        if link.joint and link.joint not in joints:
            raise ContractError(f"{where}: '{link.joint}' is not one of the robot's joints")
        if not np.isclose(np.linalg.norm(link.axis), 1.0):
            raise ContractError(f"{where}: axis {link.axis} of '{link.joint}' is no unit vector")
        links.append(link)
    return Chain(name, tuple(links))
