"""The twin: determinism, measurements, oracle, refusals."""

from __future__ import annotations

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from resfit_sim.errors import InvalidJointNames, InvalidTarget, UnknownTask
from resfit_sim.joints import JOINT_NAMES
from resfit_sim.twin import Twin


@pytest.fixture(scope="module")
def twin():
    return Twin()


def _play(twin, seed, steps):
    twin.reset(seed)
    rng = np.random.default_rng(5)
    start = twin.sensors().joint_position
    states = []
    for _ in range(steps):
        twin.step(start + rng.normal(0, 0.1, 29))
        sensors = twin.sensors()
        states.append(
            np.concatenate(
                [
                    twin.data.qpos,
                    twin.data.qvel,
                    sensors.wrench_left,
                    sensors.wrench_right,
                    sensors.object_poses.ravel(),
                ]
            )
        )
    return np.stack(states)


def _place_ball(twin, position, velocity=(0.0, 0.0, 0.0)):
    joint = twin.model.joint("ball")
    address, dof = int(joint.qposadr[0]), int(joint.dofadr[0])
    twin.data.qpos[address : address + 3] = position
    twin.data.qvel[dof : dof + 6] = 0.0
    twin.data.qvel[dof : dof + 3] = velocity
    mujoco.mj_forward(twin.model, twin.data)


def test_same_seed_and_targets_give_the_same_bits(twin):
    """Also after another episode, and in another twin: nothing of the past remains."""
    first = _play(twin, 3, 30)
    _play(twin, 4, 10)
    np.testing.assert_array_equal(first, _play(twin, 3, 30))
    np.testing.assert_array_equal(first, _play(Twin(), 3, 30))


def test_seeds_give_different_scenes(twin):
    scenes = []
    for seed in range(20):
        twin.reset(seed)
        scenes.append(twin.sensors().object_poses[:, :2].ravel())
    assert len(np.unique(np.round(scenes, 6), axis=0)) == 20


def test_sensor_shapes(twin):
    twin.reset(0)
    sensors = twin.sensors()
    assert sensors.joint_position.shape == sensors.joint_velocity.shape == (29,)
    assert sensors.wrench_left.shape == sensors.wrench_right.shape == (6,)
    assert sensors.object_poses.shape == (2, 7)
    assert sensors.object_names == ("ball", "tote")
    np.testing.assert_allclose(np.linalg.norm(sensors.object_poses[:, 3:], axis=1), 1.0)


def test_wrench_is_what_the_surroundings_do_to_the_hand(twin):
    """At rest nothing is felt; a push of 5 N upwards on the hand is felt as 5 N upwards."""
    twin.reset(0)
    start = twin.sensors().joint_position
    assert np.abs(twin.sensors().wrench_right).max() < 1e-6
    body = twin.model.body("R_hand_base").id
    twin.data.xfrc_applied[body, 2] = 5.0
    for _ in range(40):
        twin.step(start)
    rotation = twin.data.site("right_wrist").xmat.reshape(3, 3)
    np.testing.assert_allclose(rotation @ twin.sensors().wrench_right[:3], [0, 0, 5.0], atol=0.05)
    assert np.abs(twin.sensors().wrench_left).max() < 0.05


def test_oracle(twin):
    twin.reset(0)
    start = twin.sensors().joint_position
    tote = twin.sensors().object_poses[1, :3]
    cases = {
        "in the tote": (tote + np.array([0, 0, 0.045]), True),
        "beside the tote": (tote + np.array([0, -0.25, 0.036]), False),
        "on the rim": (tote + np.array([0.113, 0, 0.135]), False),
    }
    for name, (position, expected) in cases.items():
        twin.reset(0)
        _place_ball(twin, position)
        for _ in range(6):
            twin.step(start)
            if not expected:
                assert not twin.success, name
        assert twin.success == expected, name


def test_flying_over_the_tote_is_no_success(twin):
    twin.reset(0)
    start = twin.sensors().joint_position
    tote = twin.sensors().object_poses[1, :3]
    _place_ball(twin, tote + np.array([0, -0.3, 0.3]), velocity=(0.0, 3.5, 0.0))
    for _ in range(20):
        twin.step(start)
        assert not twin.success


@pytest.mark.parametrize(
    ("target", "says"),
    [(np.zeros(28), "shape"), (np.zeros((1, 29)), "shape"), (np.full(29, np.nan), "L_arm_j1")],
)
def test_bad_targets_are_refused_and_move_nothing(twin, target, says):
    twin.reset(0)
    before = twin.data.qpos.copy()
    with pytest.raises(InvalidTarget, match=says):
        twin.step(target)
    np.testing.assert_array_equal(before, twin.data.qpos)


def test_bad_names_are_refused():
    with pytest.raises(UnknownTask, match="folding"):
        Twin("folding")
    with pytest.raises(InvalidJointNames, match="nose"):
        Twin(joint_names=(*JOINT_NAMES[:-1], "nose"))


def test_caller_may_order_the_joints(twin):
    other = Twin(joint_names=JOINT_NAMES[::-1])
    twin.reset(7)
    other.reset(7)
    for _ in range(3):
        target = twin.sensors().joint_position + 0.05
        twin.step(target)
        other.step(target[::-1])
    np.testing.assert_array_equal(
        twin.sensors().joint_position, other.sensors().joint_position[::-1]
    )


def test_works_without_any_opengl():
    """A machine without OpenGL simulates; only images are refused, with the fix."""
    code = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "import sys\n"
        "for name in ('OpenGL', 'glfw'): sys.modules[name] = None\n"
        "from resfit_sim.twin import Twin\n"
        "from resfit_sim.errors import RenderingUnavailable\n"
        "twin = Twin(); twin.step(twin.sensors().joint_position)\n"
        "try: twin.render()\n"
        "except RenderingUnavailable as error: print('refused', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout and "fix: install" in done.stdout
