"""Jogging: sticks and keys to joint targets, the shipped mapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from resfit_core.contract import Contract, load_contract
from resfit_core.control.jog import Jog, load_jog
from resfit_core.control.kinematics import ForwardKinematics
from resfit_core.control.reset_motion import load_start
from resfit_core.strict_yaml import ContractError

CONFIG = Path(__file__).parents[3] / "config"
MAPPING, TASK = CONFIG / "operator/teleop.yaml", CONFIG / "task/woolly_ball_pnp.yaml"


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONFIG / "robot/vega_1.yaml", TASK)


@pytest.fixture
def jog(contract: Contract) -> Jog:
    return Jog(load_jog(MAPPING, contract), contract)


@pytest.fixture
def home(contract: Contract) -> np.ndarray:
    return load_start(TASK, contract).poses[-1]


def test_stick_moves_the_tip_straight(jog, contract, home) -> None:
    """Left stick up, 1 s at 0.15 m/s, the robot keeping up: 15 cm forward, nothing sideways."""
    tip = ForwardKinematics(contract.hands[0], contract.joint_names)
    at = home
    for _ in range(20):
        at = jog.step(at, {("axes", 1): 1.0}, 0.05)
    moved = tip.tip(at)[0] - tip.tip(home)[0]
    np.testing.assert_allclose(moved, [0.15, 0, 0], atol=0.01)
    others = [i for i, joint in enumerate(contract.joints) if joint.group != "right_arm"]
    np.testing.assert_array_equal(at[others], home[others])


def test_first_step_starts_from_the_targets_in_force(jog, home) -> None:
    np.testing.assert_array_equal(jog.step(home, {}, 0.05), home)
    jog.step(home, {("keys", "q"): 1.0}, 0.05)
    jog.release()
    elsewhere = home + 0.01
    np.testing.assert_allclose(
        jog.step(elsewhere, {}, 0.05), np.minimum(elsewhere, jog._contract.upper)
    )


def test_what_is_stopped_does_not_wind_up(jog, contract, home) -> None:
    """The filter holds the hand short of the table: the stick goes on, the target does not."""
    joint = contract.joint_names.index("R_arm_j7")
    for _ in range(100):
        target = jog.step(home, {("keys", "e"): 1.0}, 0.05)
    assert target[joint] == pytest.approx(home[joint] - 0.15)
    for _ in range(100):
        target = jog.step(home - 0.2, {("buttons", 12): 1.0}, 0.05)
    assert np.all(target >= contract.lower)


def test_sticks_near_rest_are_at_rest(jog, home) -> None:
    np.testing.assert_array_equal(jog.step(home, {("axes", 1): 0.05}, 0.05), home)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": {0: {"no_joint": 1.0}}}, "'no_joint' is no joint of robot 'vega_1'"),
        ({"axes": {0: {"right_hand": {"forward": 1.0}}}}, "forward"),
        ({"keys": {"w": 3}}, "'w' is 3, joint or chain names are needed"),
        ({"deadman": "A"}, "'deadman' is 'A', a button's number"),
        ({"reach_rad": 0}, "'reach_rad' is 0, a number above 0"),
    ],
)
def test_unsound_mapping_is_refused_in_words(tmp_path, contract, change, said) -> None:
    data = yaml.safe_load(MAPPING.read_text()) | change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ContractError, match=said):
        load_jog(tmp_path / "mine.yaml", contract)
