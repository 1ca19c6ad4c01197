"""WoollyBallPnP: the right hand picks a woolly ball up and puts it into the tote."""

from __future__ import annotations

import mujoco
import numpy as np

from resfit_sim.tasks.base import Task
from resfit_sim.tasks.tote import add_tote, place_tote

TABLE_TOP_M = 0.70
BALL_RADIUS_M = (0.030, 0.035)
BALL_X_M, BALL_Y_M = (0.42, 0.62), (-0.38, -0.12)
TOTE_X_M, TOTE_Y_M = (0.46, 0.58), (0.10, 0.22)
TOTE_INNER_M = (0.22, 0.26)  # x, y
TOTE_HEIGHT_M = 0.10

_BALL_MASS_KG = 0.060
_SUCCESS_STEPS = 3  # control steps the ball must lie in the tote, released
_REST_M_S = 0.25
_START_STD_RAD = 0.02

# Right arm above its half of the table, hand open; left arm tucked; head level with the torso.
RIGHT_HOME_RAD = (-1.306, -0.343, 0.785, -2.425, 0.055, -0.024, 0.979)
LEFT_TUCKED_RAD = (1.61, 0.35, -0.718, -2.309, 0.813, -0.228, -0.132)
HAND_OPEN_RAD = (0.183, 0.146, 0.139, 0.149, 0.147, 1.117)
HEAD_RAD = (0.0, 0.0, 0.0)


class WoollyBallPnP(Task):
    """Ball of 6 to 7 cm at a random place; tote at a random place; 8 s."""

    name = "woolly_ball_pnp"
    object_names = ("ball", "tote")
    horizon_steps = 160

    def __init__(self) -> None:
        """Start with no episode."""
        self._steps_inside = 0

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Add a free ball and a tote that stands where `reset` puts it."""
        _add_wool(spec)
        ball = spec.worldbody.add_body(name="ball", pos=(0.5, -0.25, TABLE_TOP_M + 0.035))
        ball.add_freejoint(name="ball")
        ball.add_geom(
            name="ball",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=(0.035, 0, 0),
            mass=_BALL_MASS_KG,
            material="wool",
            condim=6,
            friction=(1.0, 0.01, 0.002),
            solref=(0.01, 1.0),
            priority=1,
            contype=4,
            conaffinity=7,
        )
        add_tote(spec, TOTE_INNER_M, TOTE_HEIGHT_M)

    def reset(
        self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw ball size, both places and the start pose; see `Task.reset`."""
        self._steps_inside = 0
        radius = rng.uniform(*BALL_RADIUS_M)
        ball_xy = rng.uniform((BALL_X_M[0], BALL_Y_M[0]), (BALL_X_M[1], BALL_Y_M[1]))
        tote_xy = rng.uniform((TOTE_X_M[0], TOTE_Y_M[0]), (TOTE_X_M[1], TOTE_Y_M[1]))
        start = np.concatenate(
            [LEFT_TUCKED_RAD, HAND_OPEN_RAD, RIGHT_HOME_RAD, HAND_OPEN_RAD, HEAD_RAD]
        )
        start[:7] += rng.normal(0.0, _START_STD_RAD / 2, 7)
        start[13:20] += rng.normal(0.0, _START_STD_RAD, 7)
        start[26:] += rng.normal(0.0, _START_STD_RAD / 2, 3)
        quaternion = rng.normal(size=4)

        _resize_ball(model, data, radius)
        address = int(model.joint("ball").qposadr[0])
        data.qpos[address : address + 3] = (*ball_xy, TABLE_TOP_M + radius)
        data.qpos[address + 3 : address + 7] = quaternion / np.linalg.norm(quaternion)
        place_tote(model, data, tote_xy, TABLE_TOP_M)
        return start

    def observe(self, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        """Return true once the ball has lain in the tote, released, for three control steps."""
        inside = self._in_tote(model, data)
        self._steps_inside = self._steps_inside + 1 if inside else 0
        return self._steps_inside >= _SUCCESS_STEPS

    @staticmethod
    def _in_tote(model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        ball, tote = int(model.body("ball").id), int(model.body("tote").id)
        offset = data.xpos[ball] - data.xpos[tote]
        radius = float(model.geom("ball").size[0])
        within = np.all(np.abs(offset[:2]) <= np.asarray(TOTE_INNER_M) / 2 - 0.5 * radius)
        if not within or offset[2] > TOTE_HEIGHT_M - radius / 2 or offset[2] < 0.0:
            return False
        address = int(model.joint("ball").dofadr[0])
        if np.linalg.norm(data.qvel[address : address + 3]) > _REST_M_S:
            return False
        return not _touches_robot(model, data, int(model.geom("ball").id))


def _resize_ball(model: mujoco.MjModel, data: mujoco.MjData, radius: float) -> None:
    """Give the ball a radius [m] at constant mass, with everything MuJoCo derives from it."""
    geom, body = int(model.geom("ball").id), int(model.body("ball").id)
    model.geom_size[geom] = (radius, 0.0, 0.0)
    model.geom_rbound[geom] = radius
    model.geom_aabb[geom] = (0.0, 0.0, 0.0, radius, radius, radius)
    model.body_inertia[body] = 0.4 * _BALL_MASS_KG * radius**2
    keep = data.qpos.copy()
    mujoco.mj_setConst(model, data)
    data.qpos[:] = keep


def _touches_robot(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> bool:
    robot = 1
    pairs = data.contact.geom
    for first, second in pairs[np.any(pairs == geom, axis=1)]:
        other = second if first == geom else first
        if model.geom_contype[other] & robot:
            return True
    return False


def _add_wool(spec: mujoco.MjSpec) -> None:
    """Add a cream material with a pattern of yarn."""
    side = 96
    rng = np.random.default_rng(7)
    v, u = np.mgrid[0:side, 0:side] / side
    faces = []
    for _ in range(6):
        shade = np.zeros((side, side))
        for _ in range(5):
            angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
            bend = 0.8 * np.sin(2 * np.pi * (u * np.sin(angle) - v * np.cos(angle)) + phase)
            along = np.cos(angle) * u + np.sin(angle) * v
            shade = np.maximum(shade, np.sin(2 * np.pi * 9 * along + bend + phase))
        faces.append(0.78 + 0.22 * shade + rng.normal(0, 0.02, shade.shape))
    tone = np.clip(np.concatenate(faces), 0, 1)[..., None] * np.array([250, 244, 230])
    texture = spec.add_texture(
        name="wool", type=mujoco.mjtTexture.mjTEXTURE_CUBE, width=side, height=6 * side, nchannel=3
    )
    texture.data = tone.astype(np.uint8).tobytes()
    material = spec.add_material(name="wool", specular=0.0, shininess=0.0, texuniform=False)
    material.textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "wool"
