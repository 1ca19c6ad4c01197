"""Self-collision and obstacles: spheres on the robot's links, judged before a target is sent.

Numpy only. The model is data (`config/robot/<robot>.collision.yaml`, made by
`tools/collision_model.py`), so that the driver's computer needs no URDF and no mesh library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resfit_core.strict_yaml import ContractError, check_keys, read_yaml

_FRAME_KEYS = {"parent", "joint", "multiplier", "offset", "xyz", "quat", "axis"}
_ROOT = "base"
_CLOSER_M = 1e-6  # less than this is no approach


@dataclass(frozen=True)
class Box:
    """An obstacle at rest in the robot's base frame, edges along its axes.

    Attributes:
        name: Shown where a command is altered.
        center: Middle [m]. Shape: (3,).
        half: Half of each edge [m]. Shape: (3,).
        margins: Distance to keep [m] by group of links; `default` for all others.
    """

    name: str
    center: tuple[float, float, float]
    half: tuple[float, float, float]
    margins: Mapping[str, float]


class Collision(NamedTuple):
    """What would touch.

    Attributes:
        with_itself: Two links come too close.
        with_box: A link comes too close to an obstacle.
        joints: Which joints would have to stand still to prevent it. Shape: (action_dim,), bool.
        pairs: Names of links and obstacles, each pair once.
    """

    with_itself: bool
    with_box: bool
    joints: np.ndarray
    pairs: tuple[tuple[str, str], ...]


class CollisionModel:
    """Distances between the spheres of all links, and to boxes, for joint positions.

    A pair's distance to keep comes from `margins`: key `group/group`, in either order, else
    `default`; below zero, spheres may overlap by so much (fingers that close on each other).
    """

    def __init__(
        self,
        file: str | Path,
        joint_names: Sequence[str],
        margins: Mapping[str, float],
        boxes: Sequence[Box] = (),
    ) -> None:
        """Read the model and prepare everything that does not depend on the pose.

        Args:
            file: `<robot>.collision.yaml`.
            joint_names: Order of the joint vectors given later; joints it lacks stand at zero.
            margins: Distance to keep [m] by `group/group`, and `default`.
            boxes: Obstacles.

        Raises:
            ContractError: The file is missing or wrong, or a margin names an unknown group.
        """
        data = read_yaml(file)
        check_keys(data, {"robot", "frames", "links", "allowed"}, str(file))
        self._read_frames(data["frames"], list(joint_names), file)
        self._read_links(data["links"], file)
        self._read_margins(margins, data["allowed"], file)
        self._read_boxes(boxes, file)

    @property
    def links(self) -> tuple[str, ...]:
        """Names of the links that have spheres."""
        return self._links

    def check(self, from_rad: np.ndarray, to_rad: np.ndarray) -> Collision | None:
        """Return what would touch half-way to `to_rad` or there, or None.

        What is too close already may move apart: only pairs that come closer than they are at
        `from_rad` count, so that a robot that starts in contact is not stuck there.

        Args:
            from_rad: Joint targets in force [rad]. Shape: (action_dim,).
            to_rad: Proposed joint targets [rad]. Shape: (action_dim,).
        """
        centers = self._centers(np.stack([(from_rad + to_rad) / 2, to_rad]))
        pairs = self._candidates(centers)
        near = self._distance(centers, pairs) < self._keep[pairs]  # (2, candidates)
        close = self._to_boxes(centers) < self._box_margin  # (2, boxes, spheres)
        if not near.any() and not close.any():
            return None
        return self._judge(from_rad, centers, pairs, near, close)

    def gaps(self, position_rad: np.ndarray) -> dict[tuple[str, str], float]:
        """Return the distance [m] between every two links that are checked (for tests, tools)."""
        every = np.arange(len(self._first))
        distance = self._distance(self._centers(position_rad[None]), every)[0]
        out: dict[tuple[str, str], float] = {}
        for pair, metres in zip(self._link_pair, np.split(distance, self._splits), strict=True):
            out[self._links[pair[0]], self._links[pair[1]]] = float(metres.min())
        return out

    def heights(self, position_rad: np.ndarray, box: int = 0) -> dict[str, float]:
        """Return each moving link's distance [m] to a box (for tests, tools)."""
        distance = self._to_boxes(self._centers(position_rad[None]))[0, box]
        out: dict[str, float] = {}
        for sphere in np.flatnonzero(np.isfinite(self._box_margin[box])):
            name = self._links[self._link_of[sphere]]
            out[name] = min(out.get(name, np.inf), float(distance[sphere]))
        return out

    def _judge(
        self,
        from_rad: np.ndarray,
        centers: np.ndarray,
        pairs: np.ndarray,
        near: np.ndarray,
        close: np.ndarray,
    ) -> Collision | None:
        before = self._centers(from_rad[None])
        joints = np.zeros(self._depth.shape[1], bool)
        names: dict[tuple[str, str], None] = {}
        nearer = self._distance(centers, pairs) < self._distance(before, pairs) - _CLOSER_M
        for pair in pairs[(near & nearer).any(axis=0)]:
            i, j = self._first[pair], self._second[pair]
            # Only joints between the two change their distance.
            joints |= self._depth[i] ^ self._depth[j]
            names[self._links[self._link_of[i]], self._links[self._link_of[j]]] = None
        with_itself = bool(names)
        nearer = self._to_boxes(centers) < self._to_boxes(before) - _CLOSER_M
        touched = np.argwhere((close & nearer).any(axis=0))
        for box, i in touched:
            joints |= self._depth[i]
            names[self._links[self._link_of[i]], self._boxes[box].name] = None
        if not names:
            return None
        return Collision(with_itself, len(touched) > 0, joints, tuple(names))

    def _candidates(self, centers: np.ndarray) -> np.ndarray:
        """Return the sphere pairs of links whose bounding spheres come near. Shape: (n,)."""
        offset = centers[:, self._middle]
        apart = offset[:, self._link_pair[:, 0]] - offset[:, self._link_pair[:, 1]]
        near = (np.einsum("bpx,bpx->bp", apart, apart) < self._link_reach2).any(axis=0)
        return np.flatnonzero(np.repeat(near, self._link_count))

    def _distance(self, centers: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return distances between surfaces [m]. Shape: (poses, pairs)."""
        first, second = self._first[pairs], self._second[pairs]
        apart = centers[:, first] - centers[:, second]
        return np.sqrt(np.einsum("bpx,bpx->bp", apart, apart)) - self._reach[pairs]

    def _centers(self, poses: np.ndarray) -> np.ndarray:
        """Return the spheres' centres [m] in the base frame. Shape: (poses, spheres, 3)."""
        count = len(poses)
        angle = (poses[:, self._joint] * self._driven) * self._multiplier + self._offset
        sine, cosine = np.sin(angle)[..., None, None], 1 - np.cos(angle)[..., None, None]
        # Rodrigues' formula, all frames at once; then the chains, one level after the other.
        local = self._turn + sine * self._turn_skew + cosine * self._turn_square
        turn = np.empty((count, len(self._parent) + 1, 3, 3))
        place = np.empty((count, len(self._parent) + 1, 3))
        turn[:, 0], place[:, 0] = np.eye(3), 0.0
        for level, parent in self._levels:
            above = turn[:, parent]
            turn[:, level + 1] = above @ local[:, level]
            place[:, level + 1] = place[:, parent] + (above @ self._xyz[level, :, None])[..., 0]
        frame = self._frame_of
        return (turn[:, frame] @ self._sphere[:, :, None])[..., 0] + place[:, frame]

    def _to_boxes(self, centers: np.ndarray) -> np.ndarray:
        """Return signed distances to the boxes [m]. Shape: (poses, boxes, spheres)."""
        out = np.abs(centers[:, None] - self._box_center[:, None]) - self._box_half[:, None]
        outside = np.linalg.norm(np.maximum(out, 0.0), axis=-1)
        return outside + np.minimum(out.max(axis=-1), 0.0) - self._radius

    def _read_frames(self, frames: Any, joints: list[str], file: str | Path) -> None:
        names = [_ROOT, *frames]
        rows = list(frames.values())
        for name, row in frames.items():
            check_keys(row, _FRAME_KEYS, f"{file}: frame {name}")
            if row["parent"] not in names[: names.index(name)]:
                raise ContractError(
                    f"{file}: frame {name}: parent '{row['parent']}' must stand above it"
                )
        self._frames = names
        self._parent = np.array([names.index(row["parent"]) for row in rows])
        self._driven = np.array([row["joint"] in joints for row in rows], np.float64)
        self._joint = np.array(
            [joints.index(row["joint"]) if row["joint"] in joints else 0 for row in rows]
        )
        self._multiplier = np.array([row["multiplier"] for row in rows], np.float64)
        self._offset = np.array([row["offset"] for row in rows], np.float64)
        self._xyz = np.array([row["xyz"] for row in rows], np.float64)
        self._turn = np.array([_rotation(row["quat"]) for row in rows])
        skew = np.array([_skew(row["axis"]) for row in rows])
        self._turn_skew, self._turn_square = self._turn @ skew, self._turn @ skew @ skew
        level = [0] * len(names)
        depth = np.zeros((len(names), len(joints)), bool)
        for index, row in enumerate(rows, start=1):
            above = self._parent[index - 1]
            level[index], depth[index] = level[above] + 1, depth[above]
            if row["joint"] in joints:
                depth[index, joints.index(row["joint"])] = True
        self._depth = depth
        self._levels = []
        for number in range(1, max(level) + 1):
            at = np.array([i - 1 for i in range(1, len(names)) if level[i] == number])
            self._levels.append((at, self._parent[at]))

    def _read_links(self, links: Any, file: str | Path) -> None:
        self._links = tuple(links)
        self._groups = [str(row["group"]) for row in links.values()]
        of_link, of_frame, spheres = [], [], []
        for index, (name, row) in enumerate(links.items()):
            check_keys(row, {"frame", "group", "spheres"}, f"{file}: link {name}")
            if row["frame"] not in self._frames:
                raise ContractError(f"{file}: link {name}: frame '{row['frame']}' is not there")
            for sphere in row["spheres"]:
                of_link.append(index)
                of_frame.append(self._frames.index(row["frame"]))
                spheres.append(sphere)
        table = np.array(spheres, np.float64).reshape(-1, 4)
        self._link_of, self._frame_of = np.array(of_link), np.array(of_frame)
        self._sphere, self._radius = table[:, :3], table[:, 3]
        self._depth = self._depth[self._frame_of]

    def _read_margins(self, margins: Mapping[str, float], allowed: Any, file: Any) -> None:
        _known(margins, {*self._groups}, f"{file}: margins_m", pairs=True)
        links, count = self._links, len(self._links)
        margin = np.full((count, count), float(margins["default"]))
        for key, value in margins.items():
            one, _, two = key.partition("/")
            if two:
                first = np.array([g == one for g in self._groups])
                second = np.array([g == two for g in self._groups])
                both = np.outer(first, second)
                margin[both | both.T] = float(value)
        checked = np.triu(np.ones((count, count), bool), 1)
        for one, two in allowed:
            if one not in links or two not in links:
                raise ContractError(f"{file}: allowed: {[one, two]} names an unknown link")
            low, high = sorted((links.index(one), links.index(two)))
            checked[low, high] = False
        spheres = [np.flatnonzero(self._link_of == index) for index in range(count)]
        frames = [self._frame_of[own[0]] for own in spheres]
        self._link_pair = np.array(
            [p for p in np.argwhere(checked) if frames[p[0]] != frames[p[1]]]
        )
        both = [np.meshgrid(spheres[a], spheres[b], indexing="ij") for a, b in self._link_pair]
        self._first = np.concatenate([pair[0].ravel() for pair in both])
        self._second = np.concatenate([pair[1].ravel() for pair in both])
        self._link_count = np.array([pair[0].size for pair in both])
        self._splits = np.cumsum(self._link_count)[:-1]
        self._reach = self._radius[self._first] + self._radius[self._second]
        self._keep = margin[self._link_of[self._first], self._link_of[self._second]]
        self._bound_links(spheres, margin)

    def _bound_links(self, spheres: list[np.ndarray], margin: np.ndarray) -> None:
        """Prepare the broad look: one sphere around each link, centred on one of its own."""
        self._middle = np.empty(len(spheres), int)
        bound = np.empty(len(spheres))
        for index, own in enumerate(spheres):
            apart = self._sphere[own, None] - self._sphere[None, own]
            reach = (np.linalg.norm(apart, axis=-1) + self._radius[own]).max(axis=1)
            self._middle[index], bound[index] = own[np.argmin(reach)], reach.min()
        one, two = self._link_pair.T
        self._link_reach2 = np.maximum(bound[one] + bound[two] + margin[one, two], 0.0) ** 2

    def _read_boxes(self, boxes: Sequence[Box], file: Any) -> None:
        self._boxes = tuple(boxes)
        self._box_center = np.array([box.center for box in boxes], np.float64).reshape(-1, 3)
        self._box_half = np.array([box.half for box in boxes], np.float64).reshape(-1, 3)
        moving = self._depth.any(axis=1)
        rows = []
        for box in boxes:
            _known(box.margins, {*self._groups}, f"{file}: box {box.name}", pairs=False)
            by_link = [
                float(box.margins.get(group, box.margins["default"])) for group in self._groups
            ]
            # Nothing can be done about links that do not move.
            rows.append(np.where(moving, np.array(by_link)[self._link_of], -np.inf))
        self._box_margin = np.array(rows).reshape(len(boxes), len(self._sphere))


def _known(margins: Mapping[str, float], groups: set[str], where: str, *, pairs: bool) -> None:
    if "default" not in margins:
        raise ContractError(f"{where}: 'default' is missing; give the distance to keep [m]")
    for key, value in margins.items():
        parts = key.split("/") if pairs else [key]
        if key != "default" and (len(parts) != 1 + pairs or not groups.issuperset(parts)):
            raise ContractError(f"{where}: '{key}' is none of the groups {sorted(groups)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ContractError(f"{where}: '{key}' is {value!r}, a number of metres is needed")


def _rotation(quaternion: Sequence[float]) -> np.ndarray:
    w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _skew(axis: Sequence[float]) -> np.ndarray:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
