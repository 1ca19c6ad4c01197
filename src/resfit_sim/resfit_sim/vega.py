"""Vega with two hands as a MuJoCo specification, mended from the vendor's URDF.

The URDF gives bodies, joints, inertias and limits; geometry, actuators and sensors are added here.
The base stands still and the torso is held in a crouch (welded), so that 29 joints and the
fingers' mimics remain. World frame: the robot's `base` link, x forward, z up.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from resfit_sim import meshes
from resfit_sim.errors import RobotFilesMissing
from resfit_sim.joints import JOINT_NAMES

TORSO_RAD = {"torso_j1": 0.52, "torso_j2": 1.05, "torso_j3": -0.26}
HANDS = {"left": "L_hand_base", "right": "R_hand_base"}
GRASP_SITES = {"left": "L_grasp", "right": "R_grasp"}
# Geom groups: 0 room and objects, then the robot twice: light for its own cameras, fine for films.
LIGHT_GROUP, FINE_GROUP, CONTACT_GROUP = 1, 2, 3
# Contact bits: a pair collides when one side's type meets the other's affinity.
ROBOT_TYPE, FIXTURE_TYPE, OBJECT_TYPE = 1, 2, 4

_GRASP_IN_HAND = {"left": (-0.1168, 0.0232, -0.0548), "right": (-0.1168, -0.0232, -0.0548)}
_GAINS = {  # kp [Nm/rad], kv [Nm s/rad], armature [kg m^2]
    "shoulder": (400.0, 20.0, 0.1),
    "wrist": (150.0, 6.0, 0.03),
    "finger": (2.4, 0.05, 5e-4),
    "head": (40.0, 1.5, 0.01),
}
_HIDDEN = ("ultrasonic", "imu", "base_cam", "lidar")
_FINE_FACES = {
    "finger": 250,
    "palm": 1200,
    "arm": 1600,
    "head": 1500,
    "torso": 3500,
    "base": 1500,
    "wheel": 200,
}
_FINE_CLOSED = ("finger", "palm", "base")  # their .glb files are full of parts that nobody sees
_LIGHT_FACES = {"finger": 120, "palm": 500, "arm": 250, "torso": 250, "base": 250}


@dataclass(frozen=True)
class _Placed:
    """A mesh file and where it sits in its link: position [m] and quaternion (w, x, y, z)."""

    path: Path
    pos: np.ndarray
    quat: np.ndarray


def urdf_path() -> Path:
    """Return the path of the vendor's URDF.

    Raises:
        RobotFilesMissing: If `dexmate-urdf` is not installed or lacks the model.
    """
    try:
        import dexmate_urdf
    except ImportError as error:
        raise RobotFilesMissing(
            "python package 'dexmate-urdf' is not installed; fix: pip install dexmate-urdf"
        ) from error
    folder = Path(dexmate_urdf.__file__).parent / "robots" / "humanoid" / "vega_1"
    path = folder / "vega_1_f5d6.urdf"
    if not path.is_file():
        raise RobotFilesMissing(
            f"{path} is missing; fix: pip install --force-reinstall dexmate-urdf"
        )
    return path


def build_robot() -> mujoco.MjSpec:
    """Return an editable specification of the robot alone, without floor, light or task."""
    path = urdf_path()
    root = ElementTree.parse(path).getroot()
    geometry = _strip_geometry(root, path.parent)
    mimics = _mend_joints(root)
    ElementTree.SubElement(
        ElementTree.SubElement(root, "mujoco"),
        "compiler",
        fusestatic="false",
        strippath="false",
        discardvisual="false",
        balanceinertia="true",
        boundmass="1e-4",
        boundinertia="1e-7",
    )
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    spec.modelname = "vega_1_f5d6"
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    for link, (visuals, collisions) in geometry.items():
        _add_looks(spec, link, visuals, collisions)
        _add_collisions(spec, link, collisions)
    _add_mimics(spec, mimics)
    _add_actuators(spec)
    _add_sites(spec)
    return spec


def _strip_geometry(
    root: ElementTree.Element, folder: Path
) -> dict[str, tuple[list[_Placed], list[_Placed]]]:
    """Take visuals and collisions out of the URDF and return their meshes by link."""
    geometry = {}
    for link in root.findall("link"):
        found: dict[str, list[_Placed]] = {"visual": [], "collision": []}
        for kind, placed in found.items():
            for item in link.findall(kind):
                mesh = item.find("geometry/mesh")
                if mesh is not None:
                    file = (folder / mesh.get("filename", "")).resolve()
                    placed.append(_Placed(file, *_origin(item)))
                link.remove(item)
        geometry[link.get("name", "")] = (found["visual"], found["collision"])
    return geometry


def _origin(item: ElementTree.Element) -> tuple[np.ndarray, np.ndarray]:
    """Return position [m] and quaternion (w, x, y, z) of a visual's or collision's origin."""
    origin = item.find("origin")
    given = {} if origin is None else origin.attrib
    quaternion = np.empty(4)
    # The URDF turns about fixed axes: roll, pitch, yaw.
    mujoco.mju_euler2Quat(quaternion, np.fromstring(given.get("rpy", "0 0 0"), sep=" "), "XYZ")
    return np.fromstring(given.get("xyz", "0 0 0"), sep=" "), quaternion


def _mend_joints(root: ElementTree.Element) -> list[tuple[str, str, float, float]]:
    """Weld wheels and torso; return the mimics as (joint, leader, multiplier, offset)."""
    mimics = []
    for joint in root.findall("joint"):
        name = joint.get("name", "")
        if "wheel" in name:
            joint.set("type", "fixed")
        elif name in TORSO_RAD:
            joint.set("type", "fixed")
            sign = float(joint.find("axis").get("xyz").split()[1])
            joint.find("origin").set("rpy", f"0 {sign * TORSO_RAD[name]} 0")
        mimic = joint.find("mimic")
        if mimic is not None:
            mimics.append(
                (
                    name,
                    mimic.get("joint", ""),
                    float(mimic.get("multiplier", "1")),
                    float(mimic.get("offset", "0")),
                )
            )
            joint.remove(mimic)
    return mimics


def _part(link: str) -> str:
    """Return the robot's part a link belongs to: finger, palm, arm, head, torso, wheel or base."""
    if any(finger in link for finger in ("_th_", "_ff_", "_mf_", "_rf_", "_lf_")):
        return "finger"
    if "hand" in link:
        return "palm"
    return next((part for part in ("arm", "head", "torso", "wheel") if part in link), "base")


def _add_mesh(spec: mujoco.MjSpec, name: str, mesh: meshes.Mesh) -> str:
    if spec.mesh(name) is None:
        spec.add_mesh(
            name=name,
            uservert=mesh.vertices.ravel(),
            userface=mesh.faces.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
    return name


def _add_shown(
    spec: mujoco.MjSpec, link: str, placed: _Placed, name: str, mesh: meshes.Mesh, group: int
) -> None:
    """Add a mesh that is seen and never touched."""
    spec.body(link).add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=_add_mesh(spec, name, mesh),
        pos=placed.pos,
        quat=placed.quat,
        rgba=mesh.rgba,
        contype=0,
        conaffinity=0,
        group=group,
        mass=0,
    )


def _add_looks(
    spec: mujoco.MjSpec, link: str, visuals: list[_Placed], collisions: list[_Placed]
) -> None:
    """Show the link finely to people, and as a closed body of few faces to the robot's eyes."""
    if any(word in link for word in _HIDDEN):
        return
    part = _part(link)
    closed = {placed.path.stem: placed for placed in collisions}
    for visual in visuals:
        stem = visual.path.stem
        solid = closed.get(stem)
        if solid is not None and part in _LIGHT_FACES:
            mesh = meshes.solid(solid.path, _LIGHT_FACES[part], visual.path)
            _add_shown(spec, link, solid, f"{stem}_light", mesh, LIGHT_GROUP)
        if solid is not None and part in _FINE_CLOSED:
            mesh = meshes.solid(solid.path, _FINE_FACES[part], visual.path)
            _add_shown(spec, link, solid, f"{stem}_fine", mesh, FINE_GROUP)
            continue
        for index, mesh in enumerate(meshes.shells(visual.path, _FINE_FACES[part])):
            _add_shown(spec, link, visual, f"{stem}_fine{index}", mesh, FINE_GROUP)


def _add_collisions(spec: mujoco.MjSpec, link: str, collisions: list[_Placed]) -> None:
    """Hands get hulls (boxes would fill the palm), arms get boxes, the rest nothing."""
    part = _part(link)
    if part not in ("finger", "palm", "arm"):
        return
    for placed in collisions:
        path = placed.path
        geom = spec.body(link).add_geom(
            contype=ROBOT_TYPE,
            conaffinity=0,
            group=CONTACT_GROUP,
            mass=0,
            rgba=(0.3, 0.5, 0.9, 0.4),
            pos=placed.pos,
            quat=placed.quat,
        )
        if part == "arm":
            geom.type = mujoco.mjtGeom.mjGEOM_BOX
            centre, geom.size = meshes.bounds(path)
            turned = np.empty(3)
            mujoco.mju_rotVecQuat(turned, centre, placed.quat)
            geom.pos = placed.pos + turned
        else:
            geom.type = mujoco.mjtGeom.mjGEOM_MESH
            geom.meshname = _add_mesh(spec, f"{path.stem}_hull", meshes.hull(path))


def _add_mimics(spec: mujoco.MjSpec, mimics: list[tuple[str, str, float, float]]) -> None:
    for joint, leader, multiplier, offset in mimics:
        spec.joint(joint).armature = _GAINS["finger"][2] / 2
        spec.joint(joint).damping = (0.002, 0.0, 0.0)
        spec.add_equality(
            name=f"{joint}_mimic",
            type=mujoco.mjtEq.mjEQ_JOINT,
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            name1=joint,
            name2=leader,
            data=[offset, multiplier, *[0.0] * 10],
        )


def _gain_key(joint: str) -> str:
    if joint.startswith("head"):
        return "head"
    if "_arm_" in joint:
        return "shoulder" if int(joint[-1]) <= 4 else "wrist"
    return "finger"


def _add_actuators(spec: mujoco.MjSpec) -> None:
    for name in JOINT_NAMES:
        joint = spec.joint(name)
        kp, kv, armature = _GAINS[_gain_key(name)]
        joint.armature = armature
        effort = joint.actfrcrange[1]
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=kp, kv=kv)
        actuator.ctrlrange = joint.range
        actuator.ctrllimited = True
        actuator.forcerange = (-effort, effort)
        actuator.forcelimited = True
        joint.actfrclimited = False


def _add_sites(spec: mujoco.MjSpec) -> None:
    for side, body in HANDS.items():
        spec.body(body).add_site(
            name=GRASP_SITES[side], pos=_GRASP_IN_HAND[side], size=[0.005], group=4
        )
        spec.body(body).add_site(name=f"{side}_wrist", size=[0.005], group=4)
        for kind, sensor in (
            ("force", mujoco.mjtSensor.mjSENS_FORCE),
            ("torque", mujoco.mjtSensor.mjSENS_TORQUE),
        ):
            spec.add_sensor(
                name=f"{side}_{kind}",
                type=sensor,
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=f"{side}_wrist",
            )
