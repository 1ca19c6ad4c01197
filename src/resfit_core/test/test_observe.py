"""Observation builder, joint order, image shrinking and the sensor joiner, by hand."""

import pathlib

import numpy as np
import pytest

from resfit_core.contract import load_contract
from resfit_core.control.kinematics import ForwardKinematics
from resfit_core.control.observe import (
    JointOrder,
    ObservationBuilder,
    ObservationError,
    Pictures,
    SensorJoiner,
    shrink,
)

CONFIG = pathlib.Path(__file__).parents[3] / "config"


@pytest.fixture(name="contract")
def _contract():
    return load_contract(
        CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / "woolly_ball_pnp.yaml", "state"
    )


def _inputs(contract):
    rng = np.random.default_rng(0)
    poses = np.zeros((2, 7))
    poses[:, :3] = rng.normal(size=(2, 3))
    poses[:, 6] = 1
    wrenches = [rng.normal(size=6), rng.normal(size=6)]
    joints = rng.uniform(contract.lower, contract.upper)
    return joints, np.zeros(contract.action_dim), wrenches, poses


def test_fields_lie_where_the_layout_says(contract):
    joints, velocity, wrenches, poses = _inputs(contract)
    obs = ObservationBuilder(contract).build(joints, velocity, wrenches, poses)
    assert obs.dtype == np.float32 and obs.shape == (contract.obs_dim,)
    at = contract.layout
    np.testing.assert_array_equal(obs[at["joint_position"]], joints.astype(np.float32))
    np.testing.assert_array_equal(obs[at["wrench"]], np.concatenate(wrenches).astype(np.float32))
    np.testing.assert_array_equal(obs[at["object_position"]], poses[:, :3].ravel().astype("f4"))
    tip = ForwardKinematics(contract.hand, contract.joint_names).tip(joints)[0]
    np.testing.assert_allclose(
        obs[at["hand_to_object"]], (poses[:, :3] - tip).ravel(), rtol=0, atol=1e-6
    )


def test_several_hands_one_after_the_other():
    contract = load_contract(
        CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / "package_handover.yaml", "state"
    )
    joints, velocity, wrenches, _ = _inputs(contract)
    poses = np.random.default_rng(2).normal(size=(3, 7))
    seen = ObservationBuilder(contract).build(joints, velocity, wrenches, poses)
    tips = [ForwardKinematics(h, contract.joint_names).tip(joints)[0] for h in contract.hands]
    expected = np.concatenate([(poses[:, :3] - tip).ravel() for tip in tips])
    np.testing.assert_allclose(seen[contract.layout["hand_to_object"]], expected, atol=1e-6)
    assert [h.name for h in contract.hands] == ["right_hand", "left_hand"]


def test_wrong_input_names_the_field(contract):
    joints, velocity, wrenches, poses = _inputs(contract)
    build = ObservationBuilder(contract).build
    with pytest.raises(ObservationError, match="joint_position has 28 values, 29"):
        build(joints[:-1], velocity, wrenches, poses)
    with pytest.raises(ObservationError, match="wrench is missing"):
        build(joints, velocity, None, poses)
    with pytest.raises(ObservationError, match="object poses have shape \\(1, 7\\)"):
        build(joints, velocity, wrenches, poses[:1])
    wrenches[1][2] = np.nan
    with pytest.raises(ObservationError, match=r"wrench\[8\] is nan"):
        build(joints, velocity, wrenches, poses)


def test_joint_order_sorts_by_name():
    order = JointOrder(["a", "b", "c"])
    values = np.array([1.0, 2.0, 3.0])
    assert order.sort(("a", "b", "c"), values) is values
    np.testing.assert_array_equal(
        order.sort(["c", "x", "a", "b"], np.array([3.0, 9.0, 1.0, 2.0])), values
    )
    with pytest.raises(ObservationError, match="joint 'c' is missing"):
        order.sort(["a", "b"], values[:2])


def test_shrink_cuts_the_middle_square_and_averages():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, :2] = image[:, 6:] = 255  # outside of the middle square
    image[:2, 2:4] = 40
    image[2:, 4:6, 1] = [[10, 20], [30, 40]]
    small = shrink(image, 2)
    np.testing.assert_array_equal(small[0, 0], [40, 40, 40])
    np.testing.assert_array_equal(small[1, 1], [0, 25, 0])
    np.testing.assert_array_equal(small[0, 1], [0, 0, 0])


def test_shrink_by_a_fraction_keeps_the_mean():
    image = np.random.default_rng(1).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    small = shrink(image, 84)
    assert small.shape == (84, 84, 3)
    assert abs(small.mean() - image[:, 140:500].mean()) < 0.5
    with pytest.raises(ObservationError, match="at least 84 x 84"):
        shrink(image[:50], 84)


def test_exact_joiner_joins_equal_stamps_and_repeats():
    joiner = SensorJoiner(["joints", "poses"], exact=True)
    assert joiner.add("joints", 10, "j10") is None
    assert joiner.add("poses", 5, "late") is None
    assert joiner.add("poses", 10, "p10").items == {"joints": "j10", "poses": "p10"}
    assert joiner.add("joints", 5, "older sets are over") is None
    # The same stamp is sent again: it joins again, so that the answer can be given again.
    assert joiner.add("joints", 10, "j10") is None
    assert joiner.add("poses", 10, "p10").stamp_ns == 10


def test_exact_joiner_keeps_so_many_half_sets_and_no_more():
    joiner = SensorJoiner(["joints", "poses"], exact=True, depth=2)
    for stamp in (1, 2, 3):
        joiner.add("joints", stamp, f"j{stamp}")
    assert joiner.add("poses", 1, "its half has gone") is None
    assert joiner.add("poses", 2, "p2").items == {"joints": "j2", "poses": "p2"}
    assert joiner.add("poses", 3, "p3").items == {"joints": "j3", "poses": "p3"}


def test_newest_set_must_be_young_and_close_together():
    joiner = SensorJoiner(["joints", "camera"], exact=False, slack_ns=30)
    joiner.add("joints", 100, "j")
    assert joiner.newest(100, 50) is None  # the camera is silent
    joiner.add("camera", 80, "c")
    assert joiner.newest(120, 50) == (100, {"joints": "j", "camera": "c"})
    assert joiner.newest(131, 50) is None  # the camera's item is 51 old
    joiner.add("camera", 131, "c2")
    assert joiner.newest(132, 50) is None  # 31 apart


def test_pictures_are_drawn_once_and_only_in_time():
    drawn = []

    def draw(camera):
        drawn.append(camera)
        return np.full((2, 2, 3), len(drawn), np.uint8)

    pictures = Pictures(("left", "right"), draw)
    assert len(pictures) == 2 and list(pictures) == ["left", "right"] and not drawn
    assert pictures["right"] is pictures["right"] and drawn == ["right"]
    with pytest.raises(KeyError):
        pictures["middle"]
    pictures.close()
    assert pictures["right"][0, 0, 0] == 1
    with pytest.raises(ObservationError, match="'left' was not asked for before the next step"):
        pictures["left"]
