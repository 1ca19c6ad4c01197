"""The twin: one robot, one task, one control period per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from resfit_sim.errors import InvalidJointNames, InvalidTarget
from resfit_sim.joints import JOINT_NAMES, NUM_JOINTS
from resfit_sim.model import load_model
from resfit_sim.rendering import OffscreenRenderer
from resfit_sim.tasks import make_task
from resfit_sim.vega import HANDS

_SENSOR_OFF = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)


@dataclass(frozen=True)
class Sensors:
    """What the robot and the tracker measure at one instant.

    Attributes:
        joint_position: Shape (29,) [rad], order of the twin's joint names.
        joint_velocity: Shape (29,) [rad/s].
        wrenches: Of each wrist, in the contract's order: force then torque that the surroundings
            exert on the hand, in the wrist's frame; the hand's own weight is taken off. Shape
            (wrists, 6) [N, Nm].
        object_poses: Position and quaternion (x, y, z, w) in the base frame. Shape (n, 7) [m].
        object_names: The n names.
    """

    joint_position: np.ndarray
    joint_velocity: np.ndarray
    wrenches: np.ndarray
    object_poses: np.ndarray
    object_names: tuple[str, ...]

    @property
    def wrench_left(self) -> np.ndarray:
        """Vega's left wrist. Shape (6,) [N, Nm]."""
        return self.wrenches[0]

    @property
    def wrench_right(self) -> np.ndarray:
        """Vega's right wrist. Shape (6,) [N, Nm]."""
        return self.wrenches[1]


class Twin:
    """Deterministic MuJoCo twin: same seed and targets, bit-identical trajectory.

    One thread at a time. Nothing here needs OpenGL until `render` is called.
    """

    def __init__(
        self,
        task: str = "woolly_ball_pnp",
        control_rate_hz: float = 20,
        joint_names: Sequence[str] | None = None,
    ) -> None:
        """Load the model and reset to seed 0.

        Args:
            task: Name in the task registry.
            control_rate_hz: Control steps per second; the period must be whole physics steps.
            joint_names: The 29 joints in the caller's order; None for `JOINT_NAMES`.

        Raises:
            UnknownTask: If the task is not registered.
            InvalidJointNames: If the names are not a permutation of the 29.
            ValueError: If the period is not a whole number of physics steps.
        """
        names = tuple(JOINT_NAMES if joint_names is None else joint_names)
        if sorted(names) != sorted(JOINT_NAMES):
            odd = sorted(set(names) ^ set(JOINT_NAMES)) or "a name twice"
            raise InvalidJointNames(f"joint_names must be the robot's {NUM_JOINTS}; odd: {odd}")
        self.joint_names = names
        self.task = make_task(task)
        self.model = load_model(self.task)
        self.data = mujoco.MjData(self.model)
        self._substeps = round(1.0 / (control_rate_hz * self.model.opt.timestep))
        self.control_period_s = self._substeps * float(self.model.opt.timestep)
        if abs(self.control_period_s * control_rate_hz - 1.0) > 1e-9 or self._substeps < 1:
            raise ValueError(
                f"control_rate_hz {control_rate_hz}: its period must be a multiple of "
                f"{self.model.opt.timestep} s"
            )
        self._to_caller = np.array([JOINT_NAMES.index(name) for name in names])
        joints = [self.model.joint(name) for name in names]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._qvel = np.array([int(joint.dofadr[0]) for joint in joints])
        self._actuators = np.array([int(self.model.actuator(name).id) for name in names])
        self._objects = np.array([int(self.model.body(n).id) for n in self.task.object_names])
        self._wrists = [
            Wrist(self.model, side, f"{side}_wrist", body) for side, body in HANDS.items()
        ]
        self.joint_range = self.model.actuator_ctrlrange[self._actuators].copy()
        self._renderer: OffscreenRenderer | None = None
        self._success = False
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start the episode that belongs to `seed`; nothing of the past remains."""
        rng = np.random.default_rng(seed)
        self.model.opt.disableflags &= ~_SENSOR_OFF
        mujoco.mj_resetData(self.model, self.data)
        start = self.task.reset(self.model, self.data, rng)[self._to_caller]
        start = np.clip(start, self.joint_range[:, 0], self.joint_range[:, 1])
        self.data.qpos[self._qpos] = start
        self._set_mimics()
        self.data.ctrl[self._actuators] = start
        mujoco.mj_forward(self.model, self.data)
        self._success = False

    def step(self, target_rad: np.ndarray) -> None:
        """Drive the joints towards `target_rad` for one control period.

        Targets outside the joint ranges are clipped to them, as the robot's controller does.

        Args:
            target_rad: Order of `joint_names`. Shape: (29,) [rad].

        Raises:
            InvalidTarget: If the length is wrong or a value is not finite; nothing moves then.
        """
        target = np.asarray(target_rad, np.float64)
        if target.shape != (NUM_JOINTS,):
            raise InvalidTarget(f"target_rad has shape {target.shape}, must be ({NUM_JOINTS},)")
        if not np.all(np.isfinite(target)):
            bad = int(np.flatnonzero(~np.isfinite(target))[0])
            raise InvalidTarget(
                f"target_rad of {self.joint_names[bad]} is {target[bad]}, must be finite"
            )
        self.data.ctrl[self._actuators] = np.clip(
            target, self.joint_range[:, 0], self.joint_range[:, 1]
        )
        # Sensors cost as much as a tenth of the physics and are read once per period.
        self.model.opt.disableflags |= _SENSOR_OFF
        mujoco.mj_step(self.model, self.data, nstep=self._substeps - 1)
        self.model.opt.disableflags &= ~_SENSOR_OFF
        mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)
        self._success = self.task.observe(self.model, self.data)

    def sensors(self) -> Sensors:
        """Return the measurements at the current instant, as copies."""
        data = self.data
        quaternion = data.xquat[self._objects]
        return Sensors(
            joint_position=data.qpos[self._qpos].copy(),
            joint_velocity=data.qvel[self._qvel].copy(),
            wrenches=np.stack([wrist.read(self.model, data) for wrist in self._wrists]),
            object_poses=np.concatenate(
                [data.xpos[self._objects], quaternion[:, 1:], quaternion[:, :1]], axis=1
            ),
            object_names=self.task.object_names,
        )

    @property
    def success(self) -> bool:
        """Whether the task's oracle saw the task done at the last control step."""
        return self._success

    @property
    def time_s(self) -> float:
        """Simulated time since the reset [s]."""
        return float(self.data.time)

    def render(self, camera: str = "scene", width: int = 640, height: int = 360) -> np.ndarray:
        """Return an image of camera `left`, `right` or `scene`.

        Returns:
            RGB. Shape: (height, width, 3), uint8.

        Raises:
            RenderingUnavailable: If there is no OpenGL library; the twin itself goes on working.
            UnknownCamera: If the camera is unknown or the image too large.
        """
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self.model)
        return self._renderer.render(self.data, camera, width, height)

    def close(self) -> None:
        """Free the OpenGL context, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _set_mimics(self) -> None:
        """Put the coupled finger joints where their leaders ask, so that nothing springs."""
        model, qpos = self.model, self.data.qpos
        for index in range(model.neq):
            follower = int(model.jnt_qposadr[model.eq_obj1id[index]])
            leader = int(model.jnt_qposadr[model.eq_obj2id[index]])
            offset, multiplier = model.eq_data[index, :2]
            qpos[follower] = offset + multiplier * qpos[leader]


class Wrist:
    """Reads one wrist's force and torque and takes the hand's weight off."""

    def __init__(self, model: mujoco.MjModel, name: str, site: str, body: str = "") -> None:
        """Find sensors `<name>_force` and `<name>_torque`, their site, and the hand's body.

        Args:
            model: Compiled.
            name: Prefix of the sensors.
            site: Where they sit.
            body: Whose weight, with all that hangs on it, is taken off; empty: the site's.
        """
        force, torque = (model.sensor(f"{name}_{kind}") for kind in ("force", "torque"))
        self._force = slice(int(force.adr[0]), int(force.adr[0]) + 3)
        self._torque = slice(int(torque.adr[0]), int(torque.adr[0]) + 3)
        self._site = int(model.site(site).id)
        self._body = int(model.body(body).id) if body else int(model.site_bodyid[self._site])

    def read(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
        """Return force and torque. Shape: (6,) [N, Nm]."""
        rotation = data.site_xmat[self._site].reshape(3, 3)
        weight = rotation.T @ (float(model.body_subtreemass[self._body]) * model.opt.gravity)
        arm = rotation.T @ (data.subtree_com[self._body] - data.site_xpos[self._site])
        force = -data.sensordata[self._force] - weight
        torque = -data.sensordata[self._torque] - np.cross(arm, weight)
        return np.concatenate([force, torque])
