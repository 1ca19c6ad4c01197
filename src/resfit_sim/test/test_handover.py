"""PackageHandover: the package is soft, both chains lead to the hands, the oracle is strict."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from resfit_core.contract import load_contract
from resfit_core.control.kinematics import ForwardKinematics
from resfit_sim.env import VegaEnv
from resfit_sim.expert import make_expert
from resfit_sim.factory import twin_for
from resfit_sim.joints import JOINT_NAMES, RIGHT_ARM
from resfit_sim.kinematics import ArmKinematics
from resfit_sim.tasks.package_handover import MIRROR, PARTS, PITCH_M, TOTE_INNER_M
from resfit_sim.twin import Twin
from resfit_sim.vega import GRASP_SITES, ROBOT_TYPE

CONFIG = Path(__file__).parents[3] / "config"


@pytest.fixture(scope="module")
def twin():
    return Twin("package_handover")


def _settle(twin, steps=30):
    hold = twin.sensors().joint_position
    for _ in range(steps):
        twin.step(hold)


def _lay(twin, place, quaternion=(1, 0, 0, 0)):
    """Put the straight package's middle at `place` [m], at rest."""
    address = int(twin.model.joint("package").qposadr[0])
    turned = np.empty(3)
    mujoco.mju_rotVecQuat(turned, np.array([0, 0.07, 0]), np.array(quaternion, np.float64))
    twin.data.qpos[address : address + 3] = np.asarray(place) - turned
    twin.data.qpos[address + 3 : address + 7] = quaternion
    twin.data.qvel[:] = 0
    mujoco.mj_forward(twin.model, twin.data)


def test_scene_follows_the_seed_and_rests(twin):
    twin.reset(5)
    first = twin.sensors().object_poses
    _settle(twin)
    moved = twin.sensors().object_poses[:, :3] - first[:, :3]
    assert np.abs(moved).max() < 0.01
    twin.reset(6)
    assert np.abs(twin.sensors().object_poses - first).max() > 0.01
    twin.reset(5)
    np.testing.assert_array_equal(twin.sensors().object_poses, first)


def _play(twin, steps):
    """Play the expert, step by step, until the task is done."""
    expert = make_expert("package_handover", twin.model)
    twin.reset(2_000_000)
    sensors = twin.sensors()
    expert.reset(sensors.object_poses, sensors.joint_position, np.random.default_rng(0))
    for step in range(steps):
        twin.step(expert.act(step, twin.sensors().object_poses))
        yield
        if twin.success:
            break


def test_package_sags_where_it_is_not_held(twin):
    for _ in _play(twin, 80):
        pass
    ends = twin.sensors().object_poses[:2, :3]
    assert ends[0, 2] > 0.9  # in the right hand
    bend = [float(twin.data.joint(f"{name}_rise").qpos[0]) for name in PARTS[1:]]
    assert max(np.abs(bend)) > 0.05
    assert np.linalg.norm(ends[1] - ends[0]) < 2 * PITCH_M


def test_oracle_wants_it_in_the_tote_at_rest(twin):
    twin.reset(2)
    tote = twin.sensors().object_poses[2, :3]
    _lay(twin, tote + (0, 0, 0.05))
    twin.step(twin.sensors().joint_position)
    assert not twin.success
    _settle(twin)
    assert twin.success


@pytest.mark.parametrize(
    "offset", [(0, -TOTE_INNER_M[1], 0.04), (0, 0.15, 0.14)], ids=["beside", "across the edge"]
)
def test_oracle_refuses_what_is_not_inside(twin, offset):
    twin.reset(2)
    tote = twin.sensors().object_poses[2, :3]
    _lay(twin, tote + offset)
    _settle(twin)
    assert not twin.success


def test_never_done_while_a_hand_touches_the_package(twin):
    """The expert's left hand lowers the package into the tote: done only after it let go."""
    parts = [int(twin.model.geom(name).id) for name in PARTS]
    touched = 0
    for _ in _play(twin, twin.task.horizon_steps):
        pairs = twin.data.contact.geom
        robot = twin.model.geom_contype[pairs] == ROBOT_TYPE
        held = bool((np.isin(pairs, parts).any(axis=1) & robot.any(axis=1)).any())
        assert not (held and twin.success)
        touched += held
    assert twin.success and touched > 50


def test_left_arm_is_the_right_one_s_mirror_image(twin):
    left, right = (ArmKinematics(twin.model, side) for side in ("left", "right"))
    rng, flip = np.random.default_rng(0), np.diag([1.0, -1.0, 1.0])
    for _ in range(5):
        pose = rng.uniform(-0.5, 0.2, 7)
        place, rotation = right.forward(pose)
        mirrored_place, mirrored = left.forward(MIRROR * pose)
        np.testing.assert_allclose(mirrored_place, flip @ place, atol=2e-3)
        np.testing.assert_allclose(mirrored, flip @ rotation @ flip, atol=2e-3)


def test_contract_s_chains_end_where_the_model_s_hands_are():
    contract = load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / "task/package_handover.yaml")
    twin = twin_for(contract)
    twin.reset(9)
    joints = np.asarray(twin.sensors().joint_position)
    for chain in contract.hands:
        tip = ForwardKinematics(chain, contract.joint_names).tip(joints)[0]
        site = twin.data.site(GRASP_SITES[chain.name.split("_")[0]])
        np.testing.assert_allclose(tip, site.xpos, atol=1e-3)
    assert contract.horizon_steps == twin.task.horizon_steps
    assert tuple(JOINT_NAMES[RIGHT_ARM]) == tuple(
        link.joint for link in contract.hands[0].links if link.joint
    )


def test_environment_takes_it():
    env = VegaEnv("package_handover")
    seen, _ = env.reset(seed=1)
    assert seen.shape == (50,) and env.horizon_steps == 300
    assert env.step(env.sensors().joint_position)[1:4] == (0.0, False, False)
