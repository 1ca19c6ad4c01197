"""The tote that objects are put into: a box without a lid, fixed where a task's reset puts it."""

from __future__ import annotations

import mujoco
import numpy as np

_WALL_M = 0.006


def add_tote(spec: mujoco.MjSpec, inner_m: tuple[float, float], height_m: float) -> None:
    """Add body `tote`, its frame in the middle of its floor.

    Args:
        spec: Specification of robot and room.
        inner_m: Inner edges along x and y [m].
        height_m: Height of the walls [m].
    """
    tote = spec.worldbody.add_body(name="tote", mocap=True, pos=(0.52, 0.16, 0.70))
    x, y, wall = inner_m[0] / 2, inner_m[1] / 2, _WALL_M / 2
    height = height_m / 2
    for pos, size in (
        ((0, 0, wall), (x, y, wall)),
        ((x + wall, 0, height), (wall, y + 2 * wall, height)),
        ((-x - wall, 0, height), (wall, y + 2 * wall, height)),
        ((0, y + wall, height), (x, wall, height)),
        ((0, -y - wall, height), (x, wall, height)),
    ):
        tote.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=pos,
            size=size,
            rgba=(0.16, 0.45, 0.74, 1),
            contype=2,
            conaffinity=1,
            friction=(0.8, 0.01, 0.002),
        )


def place_tote(
    model: mujoco.MjModel, data: mujoco.MjData, xy_m: np.ndarray, table_top_m: float
) -> None:
    """Stand the tote on the table, its floor's middle at `xy_m`. Shape: (2,) [m]."""
    mocap = int(model.body("tote").mocapid[0])
    data.mocap_pos[mocap] = (*xy_m, table_top_m)
    data.mocap_quat[mocap] = (1.0, 0.0, 0.0, 0.0)
