"""The compiled MuJoCo model of a task: robot, room and the task's objects, cached on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib import metadata
from pathlib import Path

import mujoco
import numpy as np

from resfit_sim.tasks import Task
from resfit_sim.vega import FIXTURE_TYPE, OBJECT_TYPE, ROBOT_TYPE, build_robot

PHYSICS_STEP_S = 0.005
TABLE_TOP_M = 0.70
FLOOR_M = -0.055
CACHE_VARIABLE = "RESFIT_SIM_CACHE"

_TABLE_CENTER = (0.58, -0.06)
_TABLE_HALF = (0.26, 0.52)
_ZED_FOVY_DEG = 72.0  # ZED X Mini, 2.2 mm lens: its vertical field of view
_SOURCES = ("model.py", "vega.py", "meshes.py", "joints.py", "tasks/tote.py")


def load_model(task: Task) -> mujoco.MjModel:
    """Return a fresh model of `task`, from the cache where possible.

    The first call on a machine takes some seconds (meshes are decimated). A cache that cannot be
    read or written is no error: the model is built anew.
    """
    path = _cache_folder() / f"{task.name}-{_fingerprint(task)}.mjb"
    if path.is_file():
        try:
            return mujoco.MjModel.from_binary_path(str(path))
        except (ValueError, mujoco.FatalError):
            path.unlink(missing_ok=True)
    model = build_model(task)
    try:
        _write_atomically(model, path)
    except OSError:
        return model
    return model


def build_model(task: Task) -> mujoco.MjModel:
    """Build and compile the model of `task` without any cache."""
    spec = build_robot()
    _set_options(spec)
    _add_room(spec)
    _add_cameras(spec)
    task.add_objects(spec)
    return spec.compile()


def _fingerprint(task: Task) -> str:
    """Return a hash over everything the compiled model depends on."""
    digest = hashlib.sha256(mujoco.__version__.encode())
    for package in ("dexmate-urdf", "trimesh", "fast-simplification"):
        try:
            digest.update(f"{package}={metadata.version(package)};".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"{package}=none;".encode())
    for source in (*(Path(__file__).parent / name for name in _SOURCES), task.source()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "resfit_sim"


def _write_atomically(model: mujoco.MjModel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".mjb", dir=path.parent)
    os.close(handle)
    try:
        mujoco.mj_saveModel(model, name)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)  # gone where all went well


def _set_options(spec: mujoco.MjSpec) -> None:
    option = spec.option
    option.timestep = PHYSICS_STEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.iterations = 30
    option.noslip_iterations = 4
    spec.stat.center = (0.45, 0.0, 0.8)
    spec.stat.extent = 1.2
    visual = spec.visual
    visual.quality.offsamples = 0  # must be set before a context exists; 10 x faster in software
    visual.quality.shadowsize = 1024
    getattr(visual, "global").offwidth = 1280
    getattr(visual, "global").offheight = 720
    visual.map.znear = 0.01
    visual.headlight.ambient = (0.38, 0.38, 0.40)
    visual.headlight.diffuse = (0.12, 0.12, 0.12)
    visual.headlight.specular = (0.05, 0.05, 0.05)


def _add_material(spec: mujoco.MjSpec, name: str, image: np.ndarray, repeat: float) -> str:
    """Add a matt material out of a picture. Shape: (height, width, 3), 0..255."""
    height, width, _ = image.shape
    texture = spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3
    )
    texture.data = np.clip(image, 0, 255).astype(np.uint8).tobytes()
    material = spec.add_material(
        name=name, specular=0.05, shininess=0.1, texuniform=True, texrepeat=(repeat, repeat)
    )
    material.textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = name
    return name


def _wood() -> np.ndarray:
    """Return a board with faint grain along its rows."""
    rng = np.random.default_rng(3)
    v, u = np.mgrid[0:256, 0:256] / 256
    bend = 0.03 * np.sin(2 * np.pi * (u + 0.3)) + 0.012 * np.sin(4 * np.pi * u + 6 * v)
    rings = np.sin(2 * np.pi * 11 * (v + bend)) + 0.5 * np.sin(2 * np.pi * 29 * (v + 0.6 * bend))
    grain = np.repeat(rng.normal(size=(256, 32)), 8, axis=1)
    shade = 1.0 + 0.022 * rings + 0.012 * grain
    return shade[..., None] * np.array([205, 172, 132])


def _tiles() -> np.ndarray:
    """Return one floor tile with its joint."""
    tile = np.full((128, 128, 3), (176.0, 180.0, 184.0))
    tile[:2] = tile[:, :2] = (158, 162, 166)
    return tile


def _add_room(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=(0.78, 0.83, 0.88),
        rgb2=(0.93, 0.94, 0.95),
        width=256,
        height=256,
    )
    world = spec.worldbody
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=(0, 0, FLOOR_M),
        size=(12, 12, 3.0),  # drawn in squares of 3 m; the usual 0.1 m would be 80,000 triangles
        material=_add_material(spec, "tiles", _tiles(), repeat=2.0),
        contype=FIXTURE_TYPE,
        conaffinity=0,
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=(*_TABLE_CENTER, TABLE_TOP_M - 0.02),
        size=(*_TABLE_HALF, 0.02),
        material=_add_material(spec, "wood", _wood(), repeat=1.0),
        contype=FIXTURE_TYPE,
        conaffinity=ROBOT_TYPE,
        friction=(0.8, 0.01, 0.002),
    )
    height = (TABLE_TOP_M - 0.04 - FLOOR_M) / 2
    for x in (-1, 1):
        for y in (-1, 1):
            world.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=(
                    _TABLE_CENTER[0] + x * (_TABLE_HALF[0] - 0.03),
                    _TABLE_CENTER[1] + y * (_TABLE_HALF[1] - 0.03),
                    FLOOR_M + height,
                ),
                size=(0.022, 0.022, height),
                rgba=(0.25, 0.25, 0.27, 1),
                contype=0,
                conaffinity=0,
            )
    for position, direction, strength, shadow in (
        ((1.4, -0.7, 2.6), (-0.35, 0.35, -1.0), 0.46, True),
        ((1.6, 1.6, 2.0), (-0.7, -0.7, -0.6), 0.20, False),
    ):
        world.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=position,
            dir=direction,
            diffuse=(strength,) * 3,
            specular=(0.08,) * 3,
            castshadow=shadow,
        )


def _add_cameras(spec: mujoco.MjSpec) -> None:
    # The URDF's optical frames look along +z with y down; MuJoCo cameras look along -z with y up.
    for side in ("left", "right"):
        spec.body(f"zed_{side}_camera").add_camera(
            name=side, quat=(0, 1, 0, 0), fovy=_ZED_FOVY_DEG
        )
    _look(spec, "scene", eye=(1.62, 0.62, 1.42), target=(0.42, -0.07, 0.88), fovy=37.0)


def _look(
    spec: mujoco.MjSpec,
    name: str,
    eye: tuple[float, float, float],
    target: tuple[float, float, float],
    fovy: float,
) -> None:
    """Add a fixed camera at `eye` [m] that looks at `target` [m], upright."""
    forward = np.subtract(target, eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    up = np.cross(right, forward)
    axes = np.stack([axis / np.linalg.norm(axis) for axis in (right, up, -forward)], axis=1)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, axes.ravel())
    spec.worldbody.add_camera(name=name, pos=eye, quat=quaternion, fovy=fovy)


def contact_bits_of_object() -> dict[str, int]:
    """Return the contact bits of a loose object: it meets the robot and all fixtures."""
    return {"contype": OBJECT_TYPE, "conaffinity": ROBOT_TYPE | FIXTURE_TYPE | OBJECT_TYPE}
