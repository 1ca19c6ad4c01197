"""PackageHandover: the right hand takes a soft package, the left hand puts it into the tote."""

from __future__ import annotations

import mujoco
import numpy as np

from resfit_sim.tasks.base import Task
from resfit_sim.tasks.tote import add_tote, place_tote
from resfit_sim.tasks.woolly_ball_pnp import HAND_OPEN_RAD, HEAD_RAD, RIGHT_HOME_RAD, TABLE_TOP_M
from resfit_sim.vega import FIXTURE_TYPE, OBJECT_TYPE, ROBOT_TYPE

# Parts of the package from its right end to its left one; their distance along it, their radius.
PARTS = ("package_right", "package_middle", "package_left")
PITCH_M = 0.07
RADIUS_M = 0.033
PACKAGE_X_M, PACKAGE_Y_M = (0.43, 0.57), (-0.26, -0.14)  # of the middle part
PACKAGE_YAW_RAD = 0.30
TOTE_X_M, TOTE_Y_M = (0.42, 0.54), (0.25, 0.31)
TOTE_INNER_M = (0.24, 0.28)  # x, y
TOTE_HEIGHT_M = 0.10
# What a mirror image of the right arm's posture is: every joint but the elbow changes its sign.
MIRROR = np.array([-1.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0])
LEFT_HOME_RAD = tuple(float(angle) for angle in MIRROR * np.array(RIGHT_HOME_RAD))

_PART_MASS_KG = 0.030
_STIFFNESS_NM_RAD = (0.10, 0.20)
_DAMPING_NM_S = 0.004
_PAPER_RGBA = (0.85, 0.66, 0.40, 1)
_SUCCESS_STEPS = 3  # control steps the package must lie in the tote, released
_REST_M_S = 0.25
_START_STD_RAD = 0.02


class PackageHandover(Task):
    """Soft package of 22 cm on the right, tote on the left; 15 s.

    The package is a chain of three padded parts on sprung joints that bend both ways: it sags
    where it is not held. Contacts give way (solref, solimp), as a full pouch does.
    """

    name = "package_handover"
    object_names = ("package_right", "package_left", "tote")
    horizon_steps = 300

    def __init__(self) -> None:
        """Start with no episode."""
        self._steps_inside = 0

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Add the package and a tote that stands where `reset` puts it."""
        body = spec.worldbody
        for index, name in enumerate(PARTS):
            if index == 0:
                body = body.add_body(name=name, pos=(0.5, -0.27, TABLE_TOP_M + RADIUS_M))
                body.add_freejoint(name="package")
            else:
                body = body.add_body(name=name, pos=(0, PITCH_M, 0))
                for bend, axis in (("rise", (1, 0, 0)), ("turn", (0, 0, 1))):
                    body.add_joint(
                        name=f"{name}_{bend}",
                        type=mujoco.mjtJoint.mjJNT_HINGE,
                        pos=(0, -PITCH_M / 2, 0),
                        axis=axis,
                        stiffness=[_STIFFNESS_NM_RAD[1], 0, 0],
                        damping=[_DAMPING_NM_S, 0, 0],
                        armature=2e-5,
                    )
            _add_part(body, name)
        add_tote(spec, TOTE_INNER_M, TOTE_HEIGHT_M)

    def reset(
        self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the package's place, turn and stiffness, the tote's place and the start pose."""
        self._steps_inside = 0
        middle = rng.uniform((PACKAGE_X_M[0], PACKAGE_Y_M[0]), (PACKAGE_X_M[1], PACKAGE_Y_M[1]))
        yaw = PACKAGE_YAW_RAD * rng.uniform(-1, 1)
        tote_xy = rng.uniform((TOTE_X_M[0], TOTE_Y_M[0]), (TOTE_X_M[1], TOTE_Y_M[1]))
        stiffness = rng.uniform(*_STIFFNESS_NM_RAD)
        start = np.concatenate(
            [LEFT_HOME_RAD, HAND_OPEN_RAD, RIGHT_HOME_RAD, HAND_OPEN_RAD, HEAD_RAD]
        )
        for arm in (slice(0, 7), slice(13, 20)):
            start[arm] += rng.normal(0.0, _START_STD_RAD, 7)
        start[26:] += rng.normal(0.0, _START_STD_RAD / 2, 3)

        for name in PARTS[1:]:
            for bend in ("rise", "turn"):
                model.jnt_stiffness[int(model.joint(f"{name}_{bend}").id)] = stiffness
        address = int(model.joint("package").qposadr[0])
        along = np.array([-np.sin(yaw), np.cos(yaw)])
        data.qpos[address : address + 3] = (*(middle - PITCH_M * along), TABLE_TOP_M + RADIUS_M)
        data.qpos[address + 3 : address + 7] = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        place_tote(model, data, tote_xy, TABLE_TOP_M)
        return start

    def observe(self, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        """Return true once the package has lain in the tote, released, for three steps."""
        inside = self._in_tote(model, data)
        self._steps_inside = self._steps_inside + 1 if inside else 0
        return self._steps_inside >= _SUCCESS_STEPS

    @staticmethod
    def _in_tote(model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        tote = data.xpos[int(model.body("tote").id)]
        bodies = [int(model.body(name).id) for name in PARTS]
        offset = data.xpos[bodies] - tote
        within = np.abs(offset[:, :2]) <= np.asarray(TOTE_INNER_M) / 2
        low = (offset[:, 2] >= 0.0) & (offset[:, 2] <= TOTE_HEIGHT_M)
        if not (within.all() and low.all()):
            return False
        if np.linalg.norm(data.cvel[bodies, 3:], axis=1).max() > _REST_M_S:
            return False
        geoms = np.array([int(model.geom(name).id) for name in PARTS])
        return not _touch_robot(model, data, geoms)


def _add_part(body: mujoco.MjsBody, name: str) -> None:
    """Add one padded part: an ellipsoid that is a little longer than the parts' distance."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_ELLIPSOID,
        size=(RADIUS_M, 0.040, RADIUS_M),
        mass=_PART_MASS_KG,
        rgba=_PAPER_RGBA,
        condim=4,  # 6 adds nothing here and costs a quarter of the speed
        friction=(1.0, 0.01, 0.002),
        solref=(0.012, 1.0),
        solimp=(0.80, 0.95, 0.004, 0.5, 2.0),
        priority=1,
        contype=OBJECT_TYPE,
        conaffinity=ROBOT_TYPE | FIXTURE_TYPE,
    )
    # Seen, never touched: one smooth bag instead of three grains.
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=(0.9 * RADIUS_M, PITCH_M / 2, 0),
        quat=(1, 1, 0, 0),
        mass=0,
        rgba=_PAPER_RGBA,
        contype=0,
        conaffinity=0,
    )


def _touch_robot(model: mujoco.MjModel, data: mujoco.MjData, geoms: np.ndarray) -> bool:
    pairs = data.contact.geom
    ours = np.isin(pairs, geoms)
    others = pairs[ours.any(axis=1)][~ours[ours.any(axis=1)]]
    return bool((model.geom_contype[others] & ROBOT_TYPE).any())
