"""Write `config/robot/<robot>.collision.yaml` from the vendor's URDF, spheres and SRDF.

    tools/env.sh python tools/collision_model.py             # writes the file
    tools/env.sh python tools/collision_model.py --coverage  # and says what of the meshes it lacks

The vendor's spheres (package dexmate-urdf, Apache-2.0) stand for the links. Links that do not move
against each other become one frame; wheels have no spheres and are left out; the torso stands in
its crouch. Pairs that are never checked: those of one frame; those that at most two joints hold
apart (the joints' own ranges do it); those that the SRDF rules out as touching by design, hands
excepted, whose fingers the SRDF leaves to pass through each other.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resfit_core.control.kinematics import rotation_rpy

ROOT = Path(__file__).parents[1]
TORSO_RAD = {"torso_j1": 0.52, "torso_j2": 1.05, "torso_j3": -0.26}  # as resfit_sim.vega
FINGERS = {"th": "thumb", "ff": "index", "mf": "middle", "rf": "fingers", "lf": "fingers"}
SIDES = {"L": "left", "R": "right"}
# The vendor's spheres leave 5 % of these surfaces further out than this [m]: they are enlarged.
ENLARGED_M = {"base": 0.021, "torso_l1": 0.019, "torso_l2": 0.011}
# The vendor's spheres lie beside this link; the other side's, carried over with the mesh, fit.
CARRIED_OVER = {"R_th_l0": "L_th_l0"}
HEADER = """\
# Spheres that stand for the links of Vega with two F5D6 hands, torso in its crouch. Made by
# tools/collision_model.py from the vendor's dexmate-urdf (Apache-2.0); not hashed by the contract.
# frames: parent, joint that moves it (angle = multiplier x joint + offset), origin [m], quaternion
# (w x y z), axis. links: frame, group, spheres x y z radius [m]. allowed: pairs never checked.
"""


@dataclass
class Joint:
    """One URDF joint: its child hangs on `parent` at `xyz` [m], turned by `turn` (3, 3)."""

    name: str
    parent: str
    moving: bool
    xyz: np.ndarray
    turn: np.ndarray
    axis: np.ndarray
    leader: str
    multiplier: float
    offset: float


@dataclass
class Frame:
    """A moving frame and the fixed place of each of its links: rotation (3, 3), origin [m]."""

    joint: Joint | None
    parent: str
    origin: tuple[np.ndarray, np.ndarray]
    depth: tuple[str, ...]  # joints between the base and here
    places: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def numbers(text: str) -> np.ndarray:
    """Return the numbers of an attribute."""
    return np.array([float(word) for word in text.split()])


def read_joints(root: ElementTree.Element) -> dict[str, Joint]:
    """Return every joint by its child link; the torso's are fixed in the crouch."""
    joints = {}
    for node in root.findall("joint"):
        name, origin, axis = node.get("name", ""), node.find("origin"), node.find("axis")
        mimic = node.find("mimic")
        turn = rotation_rpy(numbers(origin.get("rpy")))
        vector = np.zeros(3) if axis is None else numbers(axis.get("xyz"))
        moving = node.get("type") == "revolute" and "wheel" not in name
        if name in TORSO_RAD:
            turn, moving = turn @ rotation_rpy(vector * TORSO_RAD[name]), False
        joints[node.find("child").get("link")] = Joint(
            name=name,
            parent=node.find("parent").get("link"),
            moving=moving,
            xyz=numbers(origin.get("xyz")),
            turn=turn,
            axis=vector,
            leader=name if mimic is None else mimic.get("joint"),
            multiplier=1.0 if mimic is None else float(mimic.get("multiplier")),
            offset=0.0 if mimic is None else float(mimic.get("offset")),
        )
    return joints


def make_frames(joints: dict[str, Joint]) -> dict[str, Frame]:
    """Merge links that do not move against each other; frames bear their first link's name."""
    frames = {"base": Frame(None, "", (np.eye(3), np.zeros(3)), ())}
    frames["base"].places["base"] = (np.eye(3), np.zeros(3))
    where = {"base": "base"}
    waiting = dict(joints)
    while waiting:
        link = next(child for child, joint in waiting.items() if joint.parent in where)
        joint = waiting.pop(link)
        owner = frames[where[joint.parent]]
        turn, origin = owner.places[joint.parent]
        place = (turn @ joint.turn, origin + turn @ joint.xyz)
        if joint.moving:
            depth = (*owner.depth, joint.leader)
            frames[link] = Frame(joint, where[joint.parent], place, depth)
            frames[link].places[link] = (np.eye(3), np.zeros(3))
            where[link] = link
        else:
            owner.places[link] = place
            where[link] = where[joint.parent]
    return frames


def read_spheres(
    balls: ElementTree.Element, urdf: ElementTree.Element
) -> dict[str, list[tuple[np.ndarray, float]]]:
    """Return each link's spheres, centre [m] in the link and radius [m], mended."""
    spheres = {
        link.get("name"): [
            (numbers(c.find("origin").get("xyz")), float(c.find("geometry/sphere").get("radius")))
            for c in link.findall("collision")
        ]
        for link in balls.findall("link")
    }
    for link, metres in ENLARGED_M.items():
        spheres[link] = [(centre, radius + metres) for centre, radius in spheres[link]]
    for link, other in CARRIED_OVER.items():
        (to, at), (back, from_) = (mesh_place(urdf, name) for name in (link, other))
        spheres[link] = [(to @ back.T @ (c - from_) + at, r) for c, r in spheres[other]]
    return spheres


def mesh_place(urdf: ElementTree.Element, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation (3, 3) and origin [m] of a link's collision mesh."""
    link = next(node for node in urdf.findall("link") if node.get("name") == name)
    origin = link.find("collision/origin")
    return rotation_rpy(numbers(origin.get("rpy", "0 0 0"))), numbers(origin.get("xyz", "0 0 0"))


def group_of(link: str) -> str:
    """Return the group that margins are given for."""
    side, _, rest = link.partition("_")
    if side not in SIDES:
        return "head" if link.startswith("head") else "body"
    finger = rest.split("_")[0]
    return f"{SIDES[side]}_{FINGERS.get(finger, 'arm' if finger == 'arm' else 'palm')}"


def quaternion(turn: np.ndarray) -> list[float]:
    """Return a rotation (3, 3) as w, x, y, z."""
    w = np.sqrt(max(0.0, 1 + np.trace(turn))) / 2
    if w > 1e-3:
        skew = turn - turn.T
        return [w, *(np.array([skew[2, 1], skew[0, 2], skew[1, 0]]) / (4 * w))]
    values, vectors = np.linalg.eigh((turn + turn.T) / 2)  # a half turn: its axis
    return [0.0, *vectors[:, int(np.argmax(values))]]


def rounded(values: object, digits: int = 6) -> str:
    """Return numbers as a YAML list in one line."""
    return "[" + ", ".join(f"{round(float(v), digits) + 0.0:.10g}" for v in values) + "]"


def pairs_allowed(
    frames: dict[str, Frame], frame_of: dict[str, str], srdf: ElementTree.Element
) -> list[tuple[str, str]]:
    """Return the pairs that are never checked, but those of one frame."""
    ruled_out = {
        frozenset((node.get("link1"), node.get("link2")))
        for node in srdf.iter("disable_collisions")
        if node.get("reason") != "Never"
    }
    allowed = []
    for first, second in itertools.combinations(frame_of, 2):
        one, two = frame_of[first], frame_of[second]
        if one == two:
            continue
        between = set(frames[one].depth) ^ set(frames[two].depth)
        in_hands = not any(
            x.endswith(("arm", "body", "head")) for x in map(group_of, (first, second))
        )
        one_chain = set(frames[one].depth) <= set(frames[two].depth) or (
            set(frames[two].depth) <= set(frames[one].depth)
        )
        near = one_chain and len(between) <= 2
        if near or (frozenset((first, second)) in ruled_out and not in_hands):
            allowed.append((first, second))
    return allowed


def main() -> int:
    """Write the file."""
    import dexmate_urdf

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coverage", action="store_true", help="compare with the meshes")
    parser.add_argument("--out", type=Path, default=ROOT / "config/robot/vega_1.collision.yaml")
    arguments = parser.parse_args()
    folder = Path(dexmate_urdf.__file__).parent / "robots/humanoid/vega_1"
    urdf = ElementTree.parse(folder / "vega_1_f5d6.urdf").getroot()
    balls = ElementTree.parse(folder / "vega_1_f5d6_collision_spheres.collision.urdf").getroot()
    srdf = ElementTree.parse(folder / "vega_1_f5d6.srdf").getroot()
    frames = make_frames(read_joints(urdf))
    spheres = read_spheres(balls, urdf)
    frame_of = {
        link: name for name, frame in frames.items() for link in frame.places if spheres.get(link)
    }
    lines = [HEADER + "robot: vega_1", "frames:"]
    for name, frame in frames.items():
        if frame.joint is not None:
            joint, (turn, origin) = frame.joint, frame.origin
            lines.append(
                f"  {name}: {{parent: {frame.parent}, joint: {joint.leader}, "
                f"multiplier: {joint.multiplier:g}, offset: {joint.offset:g}, "
                f"xyz: {rounded(origin)}, quat: {rounded(quaternion(turn), 9)}, "
                f"axis: {rounded(joint.axis)}}}"
            )
    lines.append("links:")
    for link, name in frame_of.items():
        turn, origin = frames[name].places[link]
        lines.append(f"  {link}:\n    frame: {name}\n    group: {group_of(link)}\n    spheres:")
        lines += [
            f"      - {rounded([*(origin + turn @ centre), radius], 5)}"
            for centre, radius in spheres[link]
        ]
    lines.append("allowed:")
    lines += [f"  - [{a}, {b}]" for a, b in pairs_allowed(frames, frame_of, srdf)]
    arguments.out.write_text("\n".join(lines) + "\n")
    print(f"{arguments.out}: {len(frames) - 1} moving frames, {len(frame_of)} links")
    if arguments.coverage:
        print_coverage(urdf, spheres, folder)
    return 0


def print_coverage(urdf: ElementTree.Element, spheres: dict, folder: Path) -> None:
    """Print for each link how far its collision mesh reaches out of its spheres [mm]."""
    import trimesh

    for link in urdf.findall("link"):
        balls = spheres.get(link.get("name"), [])
        for item in link.findall("collision"):
            mesh = item.find("geometry/mesh")
            if mesh is None or not balls:
                continue
            solid = trimesh.load(folder / mesh.get("filename"), force="mesh")
            origin = item.find("origin")
            turn = rotation_rpy(numbers(origin.get("rpy", "0 0 0")))
            points, _ = trimesh.sample.sample_surface(solid, 3000, seed=0)
            points = points @ turn.T + numbers(origin.get("xyz", "0 0 0"))
            out = np.min([np.linalg.norm(points - c, axis=1) - r for c, r in balls], axis=0)
            print(
                f"{link.get('name'):12s} max {1e3 * out.max():6.1f} mm, "
                f"p95 {1e3 * np.percentile(out, 95):6.1f} mm, "
                f"{100 * np.mean(out > 0.002):3.0f} % of the surface more than 2 mm out"
            )


if __name__ == "__main__":
    sys.exit(main())
