"""The safety filter, worked out by hand on the shipped robot."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from resfit_core.contract import Contract, load_contract
from resfit_core.control.safety import (
    LIMITED,
    Reason,
    SafetyError,
    SafetyFilter,
    reason_words,
)

ROOT = Path(__file__).parents[3]
ARM, HAND = 0, 7  # L_arm_j1: 2.4 rad/s, guarded step .3 rad; L_th_j1: 6.28 rad/s, no guard


@pytest.fixture
def contract() -> Contract:
    config = ROOT / "config"
    loaded = load_contract(config / "robot/vega_1.yaml", config / "task/woolly_ball_pnp.yaml")
    # The contract's limits alone; test_safety_file.py and test_driver_stops.py have the rest.
    return dataclasses.replace(loaded, safety=None)


@pytest.fixture
def home(contract: Contract) -> np.ndarray:
    return (contract.lower + contract.upper) / 2


@pytest.fixture
def safety(contract: Contract, home: np.ndarray) -> SafetyFilter:
    made = SafetyFilter(contract)
    made.reset(home)
    return made


def moved(values: np.ndarray, joint: int, by: float) -> np.ndarray:
    out = values.copy()
    out[joint] += by
    return out


def test_small_move_passes_unchanged(safety: SafetyFilter, home: np.ndarray) -> None:
    target = moved(home, ARM, 0.1)
    action, reasons = safety.filter(target, home)
    np.testing.assert_array_equal(action, target)
    assert (reasons, action.dtype) == (0, np.float64)


def test_velocity_limit_counts_from_the_last_target(
    safety: SafetyFilter, home: np.ndarray
) -> None:
    # 2.4 rad/s at 20 Hz: .12 rad a period. The robot lags behind and stays at home: not looked at.
    for period in (1, 2):
        action, reasons = safety.filter(moved(home, ARM, 1.0), home)
        assert action[ARM] == pytest.approx(home[ARM] + 0.12 * period)
        assert reasons == Reason.VELOCITY_LIMIT


def test_step_limit_counts_from_the_measured_position(
    safety: SafetyFilter, home: np.ndarray
) -> None:
    safety.filter(moved(home, ARM, 0.12), home)
    safety.filter(moved(home, ARM, 0.24), home)
    action, reasons = safety.filter(moved(home, ARM, 0.35), home)
    assert action[ARM] == pytest.approx(home[ARM] + 0.3)
    assert reasons == Reason.STEP_LIMIT


def test_step_limit_beats_velocity_limit_when_the_robot_was_pushed(
    safety: SafetyFilter, home: np.ndarray
) -> None:
    action, reasons = safety.filter(home, moved(home, ARM, -1.0))
    assert action[ARM] == pytest.approx(home[ARM] - 0.7)
    assert reasons == Reason.STEP_LIMIT


def test_hands_have_no_step_limit(safety: SafetyFilter, home: np.ndarray) -> None:
    action, reasons = safety.filter(moved(home, HAND, 0.1), moved(home, HAND, -0.25))
    assert action[HAND] == home[HAND] + 0.1
    assert reasons == 0


def test_position_limit_holds_even_if_measured_outside(
    contract: Contract, home: np.ndarray
) -> None:
    outside = home.copy()
    outside[ARM] = contract.upper[ARM] + 0.4
    safety = SafetyFilter(contract)
    safety.reset(outside)
    action, reasons = safety.filter(outside, outside)
    assert action[ARM] == contract.upper[ARM]
    assert reasons & Reason.POSITION_LIMIT
    assert np.all(action <= contract.upper)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros(28), Reason.WRONG_LENGTH),
        (np.zeros(30), Reason.WRONG_LENGTH),
        (np.zeros((29, 1)), Reason.WRONG_LENGTH),
        (np.zeros(0), Reason.WRONG_LENGTH),
        (np.full(29, np.nan), Reason.NOT_FINITE),
        (np.full(29, np.inf), Reason.NOT_FINITE),
    ],
)
def test_refused_command_holds_the_last_target(
    safety: SafetyFilter, home: np.ndarray, bad: np.ndarray, reason: Reason
) -> None:
    sent, _ = safety.filter(moved(home, ARM, 0.1), home)
    action, reasons = safety.filter(bad, home)
    np.testing.assert_array_equal(action, sent)
    assert reasons == reason
    assert not reasons & LIMITED


def test_one_nan_among_good_joints_refuses_all(safety: SafetyFilter, home: np.ndarray) -> None:
    target = moved(home, ARM, 0.1)
    target[28] = np.nan
    action, reasons = safety.filter(target, home)
    np.testing.assert_array_equal(action, home)
    assert reasons == Reason.NOT_FINITE


def test_unsound_joint_state_holds(safety: SafetyFilter, home: np.ndarray) -> None:
    action, reasons = safety.filter(moved(home, ARM, 0.1), moved(home, ARM, np.nan))
    np.testing.assert_array_equal(action, home)
    assert reasons == Reason.STALE_STATE


def test_callers_arrays_are_not_shared(safety: SafetyFilter, home: np.ndarray) -> None:
    action, _ = safety.filter(home, home)
    action += 1.0
    np.testing.assert_array_equal(safety.filter(np.full(29, np.nan), home).action_rad, home)


def test_same_inputs_same_bits(contract: Contract, home: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    targets = home + rng.normal(0, 0.5, (200, 29))
    measured = home + rng.normal(0, 0.2, (200, 29))
    runs = []
    for _ in range(2):
        safety = SafetyFilter(contract)
        safety.reset(home)
        runs.append([safety.filter(t, m) for t, m in zip(targets, measured, strict=True)])
    for first, second in zip(*runs, strict=True):
        assert first.action_rad.tobytes() == second.action_rad.tobytes()
        assert first.reasons == second.reasons
        assert np.all(first.action_rad >= contract.lower)
        assert np.all(first.action_rad <= contract.upper)


def test_misuse_is_refused(contract: Contract, home: np.ndarray) -> None:
    safety = SafetyFilter(contract)
    with pytest.raises(SafetyError, match="before reset"):
        safety.filter(home, home)
    with pytest.raises(SafetyError, match=r"\(28,\).*\(29,\)"):
        safety.reset(home[1:])
    with pytest.raises(SafetyError, match=r"\[3\] is nan"):
        safety.reset(moved(home, 3, np.nan))
    assert safety.last is None


def test_reasons_are_those_of_the_message() -> None:
    text = (ROOT / "src/resfit_interfaces/msg/ExecutedCommand.msg").read_text()
    given = {
        name: int(bit) for name, bit in re.findall(r"^uint32 (\w+)=(\d+)", text, re.MULTILINE)
    }
    assert given == {reason.name: reason.value for reason in Reason}


def test_reasons_in_words() -> None:
    assert reason_words(0) == ""
    assert reason_words(Reason.VELOCITY_LIMIT | Reason.STEP_LIMIT) == "velocity limit, step limit"
