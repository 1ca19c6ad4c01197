"""The twin of any robot with an MJCF model: what `Twin` is for Vega, out of two YAML files.

`<robot>.sim.yaml` names the model and the start, `<task>.sim.yaml` where the task's objects lie
and when it is done. Actuators have the names of the contract's joints and take targets in rad; a
wrench stream `wrist` needs sensors `wrist_force` and `wrist_torque` at a site `wrist`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from resfit_core.contract import Contract, ContractError
from resfit_core.control.limits import beside
from resfit_core.strict_yaml import check_keys, read_yaml
from resfit_sim.errors import InvalidTarget
from resfit_sim.rendering import OffscreenRenderer
from resfit_sim.twin import Sensors, Wrist

_MODELS = Path(__file__).parent / "models"


class MjcfTwin:
    """Deterministic: same seed and targets, bit-identical trajectory. One thread at a time."""

    def __init__(self, contract: Contract) -> None:
        """Load model and settings, and reset to seed 0.

        Raises:
            ContractError: A file or name does not fit the contract; the text names the fix.
        """
        robot_file = beside(contract.robot_file, "sim")
        robot = read_yaml(robot_file)
        check_keys(robot, {"model", "start_rad", "start_noise_rad"}, str(robot_file))
        task_file = beside(contract.task_file, "sim")
        task = read_yaml(task_file)
        check_keys(task, {"objects", "success"}, str(task_file))
        check_keys(robot["start_rad"], set(contract.joint_names), f"{robot_file}: start_rad")
        check_keys(task["objects"], set(contract.objects), f"{task_file}: objects")
        check_keys(
            task["success"], {"site", "object", "within_m", "steps"}, f"{task_file}: success"
        )
        self.model = _load(str(robot["model"]), robot_file)
        self.data = mujoco.MjData(self.model)
        self._substeps = round(contract.period_s / self.model.opt.timestep)
        if abs(self._substeps * self.model.opt.timestep - contract.period_s) > 1e-9:
            raise ContractError(
                f"control period {contract.period_s:g} s is no multiple of the model's time step "
                f"{self.model.opt.timestep:g} s; change one of them"
            )
        names = contract.joint_names
        self._actuators = [self._id(mujoco.mjtObj.mjOBJ_ACTUATOR, n, robot_file) for n in names]
        joints = [int(self.model.actuator_trnid[a, 0]) for a in self._actuators]
        self._qpos = self.model.jnt_qposadr[joints]
        self._qvel = self.model.jnt_dofadr[joints]
        self._lower, self._upper = contract.lower, contract.upper
        self._names = contract.objects
        self._bodies = np.array(
            [self._id(mujoco.mjtObj.mjOBJ_BODY, n, task_file) for n in self._names], np.int64
        )
        self._wrists = [Wrist(self.model, name, name) for name in contract.wrenches]
        self._start = np.array([robot["start_rad"][n] for n in names], np.float64)
        self._noise = float(robot["start_noise_rad"])
        rows = [task["objects"][name] for name in contract.objects]
        self._ranges = [(row["low"], row["high"]) for row in rows]
        self._done = task["success"]
        self._site = self._id(mujoco.mjtObj.mjOBJ_SITE, self._done["site"], task_file)
        self._near = 0
        self._renderer: OffscreenRenderer | None = None
        self.reset(0)

    @property
    def success(self) -> bool:
        """Whether the task was done at the last control step."""
        return self._near >= int(self._done["steps"])

    def reset(self, seed: int) -> None:
        """Start the episode that belongs to `seed`; nothing of the past remains."""
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        start = self._start + rng.normal(0.0, self._noise, len(self._start))
        start = np.clip(start, self._lower, self._upper)
        self.data.qpos[self._qpos] = start
        self.data.ctrl[self._actuators] = start
        for body, (low, high) in zip(self._bodies, self._ranges, strict=True):
            self._place(int(body), rng.uniform(low, high))
        mujoco.mj_forward(self.model, self.data)
        self._near = 0

    def step(self, target_rad: np.ndarray) -> None:
        """Drive the joints towards the targets [rad] for one control period.

        Raises:
            InvalidTarget: The length is wrong or a value is not finite; nothing moves then.
        """
        target = np.asarray(target_rad, np.float64)
        if target.shape != self._start.shape or not np.isfinite(target).all():
            raise InvalidTarget(
                f"target_rad {target} must be {len(self._start)} finite numbers in rad"
            )
        self.data.ctrl[self._actuators] = np.clip(target, self._lower, self._upper)
        mujoco.mj_step(self.model, self.data, nstep=self._substeps)
        mujoco.mj_forward(self.model, self.data)
        goal = self.data.xpos[self._bodies[self._names.index(self._done["object"])]]
        away = float(np.linalg.norm(self.data.site_xpos[self._site] - goal))
        self._near = self._near + 1 if away <= float(self._done["within_m"]) else 0

    def sensors(self) -> Sensors:
        """Return the measurements at the current instant, as copies."""
        data = self.data
        quaternion = data.xquat[self._bodies]
        felt = [wrist.read(self.model, data) for wrist in self._wrists]
        return Sensors(
            joint_position=data.qpos[self._qpos].copy(),
            joint_velocity=data.qvel[self._qvel].copy(),
            wrenches=np.array(felt).reshape(-1, 6),
            object_poses=np.concatenate(
                [data.xpos[self._bodies], quaternion[:, 1:], quaternion[:, :1]], axis=1
            ),
            object_names=self._names,
        )

    def render(self, camera: str = "scene", width: int = 640, height: int = 360) -> np.ndarray:
        """Return an image of one of the model's cameras. Shape: (height, width, 3), uint8."""
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self.model)
        return self._renderer.render(self.data, camera, width, height)

    def close(self) -> None:
        """Free the OpenGL context, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _place(self, body: int, position: np.ndarray) -> None:
        mocap = int(self.model.body_mocapid[body])
        if mocap >= 0:
            self.data.mocap_pos[mocap] = position
            return
        joint = int(self.model.body_jntadr[body])
        free = int(mujoco.mjtJoint.mjJNT_FREE)
        if joint < 0 or int(self.model.jnt_type[joint]) != free:
            name = self.model.body(body).name
            raise ContractError(f"object '{name}' of the model has neither a free joint nor mocap")
        address = int(self.model.jnt_qposadr[joint])
        self.data.qpos[address : address + 3] = position

    def _id(self, kind: Any, name: str, file: Path) -> int:
        index = mujoco.mj_name2id(self.model, int(kind), name)
        if index < 0:
            word = kind.name.removeprefix("mjOBJ_").lower()
            raise ContractError(
                f"{file}: the model has no {word} '{name}'; name it so in the MJCF"
            )
        return int(index)


def _load(model: str, where: Path) -> mujoco.MjModel:
    for path in (Path(model), _MODELS / model):
        if path.is_file():
            return mujoco.MjModel.from_xml_path(str(path))
    known = sorted(p.name for p in _MODELS.glob("*.xml"))
    raise ContractError(f"{where}: model '{model}' is no file and not one of {known}")
