"""The driver's decisions, in both clocks, without ROS."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from resfit_core.action_space import ActionSpace
from resfit_core.contract import Contract, load_contract
from resfit_core.control.driver import Answer, DriverCore
from resfit_core.control.records import Source
from resfit_core.control.safety import Reason, SafetyFilter

ROOT = Path(__file__).parents[3]
MS = 1_000_000
T = 50 * MS
FIRST = 1000 * MS


@pytest.fixture(scope="module")
def contract() -> Contract:
    config = ROOT / "config"
    loaded = load_contract(config / "robot/vega_1.yaml", config / "task/woolly_ball_pnp.yaml")
    # The contract's limits alone; test_safety_file.py and test_driver_stops.py have the rest.
    return dataclasses.replace(loaded, safety=None)


@pytest.fixture
def home(contract: Contract) -> np.ndarray:
    return (contract.lower + contract.upper) / 2


@pytest.fixture
def lockstep(contract: Contract) -> DriverCore:
    return DriverCore(contract, ActionSpace.from_limits(contract), exact=True)


@pytest.fixture
def realtime(contract: Contract) -> DriverCore:
    return DriverCore(contract, ActionSpace.from_limits(contract), exact=False)


def same(first: Answer, second: Answer) -> bool:
    a, b = (dataclasses.astuple(x.executed) for x in (first, second))
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# --- lock-step -----------------------------------------------------------------------------------


def test_tick_is_answered_in_both_spaces(lockstep, contract, home) -> None:
    lockstep.measured(FIRST, home, 0)
    target = home + 0.01
    executed, send = lockstep.command(FIRST, contract.joint_names, target, 0)
    assert send
    assert (executed.stamp_ns, executed.source, executed.altered) == (FIRST, Source.POLICY, False)
    np.testing.assert_array_equal(executed.action_rad, target)
    half = (contract.upper - contract.lower) / 2
    np.testing.assert_allclose(executed.action_norm, 0.01 / half, rtol=1e-5)
    assert executed.action_norm.dtype == np.float32


def test_command_waits_for_its_own_joint_state(lockstep, contract, home) -> None:
    lockstep.measured(FIRST, home, 0)
    lockstep.command(FIRST, contract.joint_names, home, 0)
    assert lockstep.command(FIRST + T, contract.joint_names, home + 0.01, 0) is None
    answer = lockstep.measured(FIRST + T, home, 0)
    assert answer is not None
    assert answer.executed.stamp_ns == FIRST + T


def test_same_stamp_again_is_answered_the_same_and_never_filtered_anew(
    lockstep, contract, home
) -> None:
    lockstep.measured(FIRST, home, 0)
    first = lockstep.command(FIRST, contract.joint_names, home + 1.0, 0)
    again = lockstep.command(FIRST, contract.joint_names, home - 1.0, 0)
    lockstep.measured(FIRST, home, 0)
    assert same(first, again)
    assert again.send
    assert lockstep.status(0).commands == 1


def test_lockstep_knows_neither_age_nor_silence(lockstep, contract, home) -> None:
    lockstep.measured(FIRST, home, 0)
    answer = lockstep.command(FIRST, contract.joint_names, home, 10**12)
    assert answer.executed.reasons == 0
    assert lockstep.watch(10**13) is None


def test_trajectory_equals_the_plain_filter_over_several_episodes(
    lockstep, contract, home
) -> None:
    """The in-process evaluation resets its filter at each reset; the driver sees only a gap."""
    rng = np.random.default_rng(1)
    safety = SafetyFilter(contract)
    for episode in range(3):
        start = FIRST + episode * 5000 * MS
        for k in range(20):
            measured = home + rng.normal(0, 0.1, 29)
            target = home + rng.normal(0, 0.5, 29)
            if k == 0:
                safety.reset(measured)
            lockstep.measured(start + k * T, measured, 0)
            answer = lockstep.command(start + k * T, contract.joint_names, target, 0)
            wanted = safety.filter(target, measured)
            assert answer.executed.action_rad.tobytes() == wanted.action_rad.tobytes()
            assert answer.executed.reasons == wanted.reasons


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda n, t: (n, np.full(29, np.nan)), Reason.NOT_FINITE),
        (lambda n, t: (n, t[1:]), Reason.WRONG_LENGTH),
        (lambda n, t: (n[1:], t[1:]), Reason.WRONG_LENGTH),
        (lambda n, t: ((), t), Reason.WRONG_LENGTH),
        (lambda n, t: (n[::-1], t), Reason.WRONG_ORDER),
        (lambda n, t: (("elbow", *n[1:]), t), Reason.WRONG_ORDER),
    ],
)
def test_refused_command_is_answered_with_the_target_in_force(
    contract, home, exact, spoil, reason
) -> None:
    core = DriverCore(contract, ActionSpace.from_limits(contract), exact=exact)
    core.measured(FIRST, home, 0)
    good = core.command(FIRST, contract.joint_names, home + 0.05, 0).executed
    core.measured(FIRST + T, home, 0)
    executed, send = core.command(FIRST + T, *spoil(contract.joint_names, home), 0)
    assert send  # the twin waits for a command of this stamp, whatever it says
    assert (executed.source, executed.reasons, executed.altered) == (Source.HOLD, reason, True)
    np.testing.assert_array_equal(executed.action_rad, good.action_rad)
    status = core.status(0)
    assert (status.commands, status.refused, status.reasons) == (1, 1, reason)


def test_first_command_refused_holds_where_the_robot_stands(lockstep, contract, home) -> None:
    lockstep.measured(FIRST, home, 0)
    executed, send = lockstep.command(FIRST, contract.joint_names, np.full(29, np.nan), 0)
    assert send
    np.testing.assert_array_equal(executed.action_rad, home)


def test_client_failure_takes_the_target_back(lockstep, contract, home) -> None:
    lockstep.measured(FIRST, home, 0)
    lockstep.command(FIRST, contract.joint_names, home, 0)
    lockstep.measured(FIRST + T, home, 0)
    answer = lockstep.failed(lockstep.command(FIRST + T, contract.joint_names, home + 0.05, 0))
    assert not answer.send
    assert (answer.executed.source, answer.executed.reasons) == (Source.HOLD, Reason.CLIENT_ERROR)
    np.testing.assert_array_equal(answer.executed.action_rad, home)
    np.testing.assert_array_equal(lockstep.target_rad, home)
    assert lockstep.status(0).commands == 1


def test_failed_hold_keeps_the_target_in_force_and_the_counts(realtime, contract, home) -> None:
    """Once it put the target of before the last command back, though that one had been sent."""
    realtime.measured(FIRST, home, 0)
    realtime.command(FIRST, contract.joint_names, home + 0.05, 0)
    answer = realtime.failed(realtime.watch(251 * MS))
    assert answer.executed.reasons == Reason.WATCHDOG | Reason.CLIENT_ERROR
    np.testing.assert_array_equal(answer.executed.action_rad, home + 0.05)
    np.testing.assert_array_equal(realtime.target_rad, home + 0.05)
    status = realtime.status(251 * MS)
    assert (status.commands, status.refused, status.holds) == (1, 0, 1)


def test_inactive_driver_answers_and_may_be_asked_again(lockstep, contract, home) -> None:
    lockstep.measured(FIRST, home, 0)
    executed, send = lockstep.refuse(FIRST, Reason.NOT_ACTIVE)
    assert not send
    assert executed.reasons == Reason.NOT_ACTIVE
    assert len(executed.action_rad) == 0  # nothing was ever sent
    assert lockstep.command(FIRST, contract.joint_names, home, 0).executed.reasons == 0


# --- real time -----------------------------------------------------------------------------------


def test_no_joint_state_no_command(realtime, contract, home) -> None:
    executed, send = realtime.command(FIRST, contract.joint_names, home, 0)
    assert not send
    assert executed.reasons == Reason.STALE_STATE


def test_old_joint_state_is_refused_on_the_steady_clock(realtime, contract, home) -> None:
    realtime.measured(FIRST, home, 0)
    assert realtime.command(FIRST, contract.joint_names, home, 100 * MS).executed.reasons == 0
    later = realtime.command(FIRST + T, contract.joint_names, home + 0.01, 101 * MS)
    assert later.executed.reasons == Reason.STALE_STATE
    np.testing.assert_array_equal(later.executed.action_rad, home)


def test_old_command_is_refused_and_not_sent(realtime, contract, home) -> None:
    realtime.measured(FIRST + 300 * MS, home, 0)
    # Its observation is 300 ms older than the newest joint state; 250 are allowed.
    executed, send = realtime.command(FIRST, contract.joint_names, home, 0)
    assert executed.reasons == Reason.STALE_COMMAND
    assert not send
    # 240 ms by stamps and 20 ms since that state was heard.
    late = realtime.command(FIRST + 60 * MS, contract.joint_names, home, 20 * MS)
    assert late.executed.reasons == Reason.STALE_COMMAND
    good = realtime.command(FIRST + 60 * MS + 1, contract.joint_names, home, 9 * MS)
    assert good.executed.reasons == 0


def test_commands_out_of_order_never_turn_the_robot_back(realtime, contract, home) -> None:
    realtime.measured(FIRST + T, home, 0)
    realtime.command(FIRST + T, contract.joint_names, home, 0)
    executed, send = realtime.command(FIRST, contract.joint_names, home + 0.05, 0)
    assert (executed.reasons, send) == (Reason.STALE_COMMAND, False)


def test_repeated_tick_is_answered_but_not_sent_again(realtime, contract, home) -> None:
    realtime.measured(FIRST, home, 0)
    first = realtime.command(FIRST, contract.joint_names, home + 0.01, 0)
    again = realtime.command(FIRST, contract.joint_names, home + 0.01, 0)
    assert same(first, again)
    assert (first.send, again.send) == (True, False)


def test_silence_holds_once_and_a_command_ends_it(realtime, contract, home) -> None:
    realtime.measured(FIRST, home, 0)
    assert realtime.watch(10**12) is None  # nothing was commanded yet
    realtime.command(FIRST, contract.joint_names, home + 0.05, 0)
    realtime.measured(FIRST + 240 * MS, home, 240 * MS)
    assert realtime.watch(250 * MS) is None
    executed, send = realtime.watch(251 * MS)
    assert send
    assert (executed.source, executed.reasons) == (Source.HOLD, Reason.WATCHDOG)
    np.testing.assert_array_equal(executed.action_rad, home + 0.05)
    assert realtime.watch(300 * MS) is None
    status = realtime.status(300 * MS)
    assert (status.holding, status.holds, status.command_age_s) == (True, 1, 0.3)
    # The arm has sagged meanwhile: the next command starts from where it stands.
    sagged = home - 0.2
    realtime.measured(FIRST + 400 * MS, sagged, 400 * MS)
    answer = realtime.command(FIRST + 400 * MS, contract.joint_names, sagged, 400 * MS)
    assert answer.executed.reasons == 0
    assert not realtime.status(400 * MS).holding


def test_silent_joint_states_hold_before_the_next_command(realtime, contract, home) -> None:
    realtime.measured(FIRST, home, 0)
    realtime.command(FIRST, contract.joint_names, home + 0.05, 0)
    assert realtime.watch(100 * MS) is None
    executed, send = realtime.watch(101 * MS)
    assert send
    assert executed.reasons == Reason.STALE_STATE | Reason.WATCHDOG  # no tick's answer
    np.testing.assert_array_equal(executed.action_rad, home + 0.05)
    assert realtime.watch(110 * MS) is None
    assert realtime.watch(251 * MS).executed.reasons == Reason.WATCHDOG


def test_refused_commands_do_not_feed_the_watchdog(realtime, contract, home) -> None:
    realtime.measured(FIRST, home, 0)
    realtime.command(FIRST, contract.joint_names, home, 0)
    for k in range(1, 6):
        realtime.measured(FIRST + k * T, home, k * T)
        realtime.command(FIRST + k * T, contract.joint_names, np.full(29, np.nan), k * T)
    assert realtime.watch(251 * MS) is not None


def test_after_a_gap_nothing_moves_before_the_robot_was_measured(realtime, contract, home) -> None:
    """The first command after a gap met a silent robot; then the old target counted as its own."""
    realtime.measured(FIRST, home, 0)
    realtime.command(FIRST, contract.joint_names, home, 0)
    late, names = FIRST + 1000 * MS, contract.joint_names
    executed, send = realtime.command(late, names, home, 1000 * MS)
    assert (executed.reasons, send) == (Reason.STALE_STATE, False)
    moved = home - 0.2
    realtime.measured(late + T, moved, 1050 * MS)
    executed, send = realtime.command(late + T, names, moved, 1050 * MS)
    assert (executed.reasons, send) == (0, True)
    np.testing.assert_array_equal(executed.action_rad, moved)
