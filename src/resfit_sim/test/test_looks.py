"""What the cameras see: the robot's meshes sit where the URDF puts them, and cost little."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from resfit_sim.errors import RenderingUnavailable, UnknownCamera
from resfit_sim.twin import Twin
from resfit_sim.vega import CONTACT_GROUP, FINE_GROUP, LIGHT_GROUP


@pytest.fixture(scope="module")
def twin():
    return Twin()


@pytest.fixture(scope="module")
def seeing(twin):
    twin.reset(3)
    try:
        twin.render("left", 8, 8)
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    yield twin
    twin.close()


def _boxes(model, group):
    """Return the world box (low, high) of each body's geoms of one group, all joints at zero."""
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(model, data)
    boxes = {}
    for geom in np.flatnonzero(model.geom_group == group):
        name = model.body(model.geom_bodyid[geom]).name
        if model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_MESH):
            mesh = model.mesh(model.geom_dataid[geom])
            first, count = int(mesh.vertadr[0]), int(mesh.vertnum[0])
            corners = model.mesh_vert[first : first + count]
        else:
            signs = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
            corners = signs * model.geom_size[geom]
        points = corners @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        low, high = boxes.get(name, (np.inf, -np.inf))
        boxes[name] = (np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0)))
    return boxes


@pytest.mark.parametrize("group", [LIGHT_GROUP, FINE_GROUP, CONTACT_GROUP])
def test_both_sides_mirror_each_other(twin, group):
    """The origins of visuals and collisions were once ignored: the left thumb's tip flew free."""
    boxes = _boxes(twin.model, group)
    left = [name for name in boxes if name.startswith("L_") and "wheel" not in name]
    assert len(left) > 15
    for name in left:
        low, high = boxes[name]
        mirrored_low, mirrored_high = boxes["R_" + name[2:]]
        flip = np.array([1, -1, 1])
        np.testing.assert_allclose(low, np.minimum(mirrored_low * flip, mirrored_high * flip),
                                   atol=0.02, err_msg=name)  # fmt: skip
        np.testing.assert_allclose(high, np.maximum(mirrored_low * flip, mirrored_high * flip),
                                   atol=0.02, err_msg=name)  # fmt: skip


def test_the_torso_stands_in_the_middle(twin):
    for name, (low, high) in _boxes(twin.model, FINE_GROUP).items():
        if name.startswith(("torso", "head", "base")):
            assert abs(low[1] + high[1]) / 2 < 0.03, name


def test_what_is_seen_is_never_touched(twin):
    for group in (LIGHT_GROUP, FINE_GROUP):
        shown = twin.model.geom_group == group
        assert not twin.model.geom_contype[shown].any()
        assert not twin.model.geom_conaffinity[shown].any()


def test_the_robots_eyes_get_few_faces(twin):
    """Without a GPU a picture costs by its faces and shadows; the control loop waits for it."""
    model = twin.model
    light = (model.geom_group == LIGHT_GROUP) & (
        model.geom_type == int(mujoco.mjtGeom.mjGEOM_MESH)
    )
    assert model.mesh_facenum[model.geom_dataid[light]].sum() < 15_000


@pytest.mark.parametrize("camera", ["left", "right", "scene"])
def test_the_ball_is_seen(seeing, camera):
    """Where the ball is taken away, the picture changes, and only there."""
    seeing.reset(3)
    before = seeing.render(camera, 320, 180)
    assert before.shape == (180, 320, 3) and before.dtype == np.uint8
    np.testing.assert_array_equal(before, seeing.render(camera, 320, 180))
    address = int(seeing.model.joint("ball").qposadr[0])
    seeing.data.qpos[address : address + 3] = (-5.0, 0.0, 0.0)
    mujoco.mj_forward(seeing.model, seeing.data)
    changed = (before != seeing.render(camera, 320, 180)).any(axis=2)
    assert 20 < changed.sum() < 3000


def test_a_camera_for_people_leaves_no_trace_in_the_robots(seeing):
    seeing.reset(3)
    before = seeing.render("left", 84, 84)
    seeing.render("scene", 320, 180)
    np.testing.assert_array_equal(before, seeing.render("left", 84, 84))


def test_unknown_cameras_and_sizes_are_refused(seeing):
    with pytest.raises(UnknownCamera, match=r"'nose'.*left"):
        seeing.render("nose")
    with pytest.raises(UnknownCamera, match="9999"):
        seeing.render("left", 9999, 10)
