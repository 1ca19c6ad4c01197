"""Every way in which the driver stops, and how it goes on; without ROS."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from resfit_core.action_space import ActionSpace
from resfit_core.contract import Contract, load_contract
from resfit_core.control.driver import DriverCore
from resfit_core.control.driver_clock import Heard, StampClock
from resfit_core.control.records import Source
from resfit_core.control.safety import Reason
from resfit_core.data.bag_reader import read_episodes

CONFIG = Path(__file__).parents[3] / "config"
MS = 1_000_000
T = 50 * MS
FIRST = 1_700_000_000_000 * MS  # stamps are wall time, far from the steady clock's zero
QUIET = np.zeros(6)
HEAD = 26


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml")


@pytest.fixture(scope="module")
def start() -> np.ndarray:
    return read_episodes(CONFIG / "shipped/woolly_ball_pnp/demos")[0].action_rad[0]


class Robot:
    """A driver in real time with a robot that follows at once; time passes by `tick`."""

    def __init__(self, contract: Contract, start: np.ndarray) -> None:
        self.core = DriverCore(contract, ActionSpace.from_limits(contract), exact=False)
        self.names, self.position = contract.joint_names, start.copy()
        self.now, self.set_back, self.noise = 0, 0, 0.0

    @property
    def stamp(self) -> int:
        return FIRST + self.now - self.set_back

    def sense(self, late: int = 0, wrench: np.ndarray | None = QUIET) -> None:
        """Measure now; it arrives `late`."""
        stamp, self.noise = self.stamp, 1e-6 - self.noise
        for stream in (0, 1):
            if wrench is not None:
                self.core.wrench(stream, stamp, wrench, self.now + late)
        self.core.measured(stamp, self.position + self.noise, self.now + late)

    def order(self, target=None, stamp=None, late: int = 0):
        """Command; carry the answer out."""
        wanted = self.position if target is None else target
        at = self.stamp if stamp is None else stamp
        answer = self.core.command(at, self.names, wanted, self.now + late)
        if answer.send:
            self.position = answer.executed.action_rad.copy()
        return answer

    def tick(self, target=None, *, passed: int = T, **sensing):
        """Let time pass, measure, command."""
        self.now += passed
        self.sense(**sensing)
        return self.order(target)

    def nod(self, by: float) -> np.ndarray:
        out = self.position.copy()
        out[HEAD] += by
        return out


@pytest.fixture
def robot(contract: Contract, start: np.ndarray) -> Robot:
    made = Robot(contract, start)
    for _ in range(3):
        assert made.tick().executed.reasons == 0
    return made


# --- time ----------------------------------------------------------------------------------------


def test_age_counts_from_the_promptest_message() -> None:
    clock = StampClock(jump_ns=250 * MS)
    assert clock.age_ns(7, 9) == 0
    assert clock.heard(FIRST, 20 * MS) is Heard.GOOD  # 20 ms under way, nobody can know
    assert clock.heard(FIRST + T, 51 * MS) is Heard.GOOD  # 1 ms under way
    assert clock.age_ns(FIRST + T, 51 * MS) == 0
    # 100 ms later at once, though it came just now.
    assert clock.heard(FIRST + 2 * T, 201 * MS) is Heard.GOOD
    assert clock.age_ns(FIRST + 2 * T, 201 * MS) == pytest.approx(100 * MS, abs=MS)


@pytest.mark.parametrize(
    ("stamp", "now", "verdict"),
    [
        (FIRST + 10_000 * MS, T, Heard.JUMPED),  # set ahead
        (FIRST - 10_000 * MS, T, Heard.JUMPED),  # set back
        (FIRST - 10 * MS, T, Heard.OLDER),  # out of order
        (FIRST + T, 5000 * MS, Heard.GOOD),  # late, no jump
        (FIRST + 290 * MS, T, Heard.GOOD),  # the first one had been slow
    ],
)
def test_a_clock_that_was_set_is_told_from_a_late_message(stamp, now, verdict) -> None:
    clock = StampClock(jump_ns=250 * MS)
    clock.heard(FIRST, 0)
    assert clock.heard(stamp, now) is verdict


def test_drifting_clocks_do_not_age() -> None:
    """A robot's computer that runs slow by 50 in a million looked staler by the hour."""
    clock = StampClock(jump_ns=250 * MS)
    for minute in range(120):
        now = minute * 60_000 * MS
        clock.heard(FIRST + now - now // 20_000, now)
        assert clock.age_ns(FIRST + now - now // 20_000, now) < MS


def test_a_queue_delivered_late_moves_nobody(robot) -> None:
    """The driver itself stood still: states and commands of before came as if they were new."""
    stood = robot.position.copy()
    for _ in range(5):
        robot.now += T
        robot.sense(late=2000 * MS)
        answer = robot.order(robot.nod(0.05), late=2000 * MS)
        assert answer.executed.reasons & (Reason.STALE_COMMAND | Reason.STALE_STATE)
    np.testing.assert_array_equal(robot.position, stood)


@pytest.mark.parametrize("set_back", [10_000 * MS, -10_000 * MS])
def test_a_clock_jump_refuses_one_command_and_starts_from_the_measured_pose(
    robot, set_back
) -> None:
    robot.set_back = set_back
    answer = robot.tick(robot.nod(0.05))
    assert (answer.executed.reasons, answer.send) == (Reason.CLOCK_JUMP, False)
    assert robot.tick(robot.nod(0.01)).executed.reasons == 0


def test_a_stamp_of_the_future_does_not_make_later_commands_look_old(robot) -> None:
    assert robot.order(stamp=robot.stamp + 3600_000 * MS).executed.reasons == Reason.CLOCK_JUMP
    assert robot.tick(robot.nod(0.01)).executed.reasons == 0


def test_joint_states_of_the_past_are_not_measured(robot) -> None:
    robot.core.measured(robot.stamp - 20 * MS, robot.position + 1.0, robot.now)
    assert robot.tick(robot.nod(0.01)).executed.reasons == 0


# --- emergency stop ------------------------------------------------------------------------------


def test_robots_stop_latches_until_it_is_released_and_rearmed(robot) -> None:
    hold = robot.core.estop(True)
    assert (hold.executed.source, hold.send) == (Source.HOLD, False)
    assert hold.executed.reasons == Reason.ESTOP | Reason.WATCHDOG
    stood = robot.position.copy()
    assert robot.tick(robot.nod(0.05)).executed.reasons == Reason.ESTOP
    assert "still pressed" in robot.core.rearm(robot.now)
    robot.core.estop(False)
    for _ in range(3):  # released, but nobody has said that it may go on
        assert robot.tick(robot.nod(0.05)).executed.reasons == Reason.ESTOP
    np.testing.assert_array_equal(robot.position, stood)
    assert robot.core.rearm(robot.now) == ""
    assert robot.tick(robot.nod(0.01)).executed.reasons == 0


def test_after_a_stop_the_robot_starts_from_where_it_was_measured(robot) -> None:
    robot.core.estop(True)
    robot.core.estop(False)
    robot.position = robot.nod(0.4)  # a person turned the head
    robot.tick()
    assert robot.core.rearm(robot.now) == ""
    moved = robot.position.copy()
    answer = robot.tick(robot.nod(-0.4))  # the policy still wants the old place
    assert answer.executed.reasons == Reason.RAMP
    assert abs(robot.position[HEAD] - moved[HEAD]) < 0.1 * 3.2 / 20 + 1e-5


def test_after_a_stop_no_target_is_in_force(robot) -> None:
    """Bug: a driver that left after a stop was released sent the target of before it."""
    robot.tick(robot.nod(0.01))
    assert robot.core.target_rad is not None
    robot.core.estop(True)
    robot.core.estop(False)
    robot.position[HEAD] -= 0.1  # it sagged meanwhile
    robot.now += T
    robot.sense()
    assert robot.core.target_rad is None  # latched
    assert robot.core.rearm(robot.now) == ""
    assert robot.core.target_rad is None  # nothing was commanded from the new pose yet
    answer = robot.tick()
    np.testing.assert_array_equal(robot.core.target_rad, answer.executed.action_rad)


def test_rearming_needs_a_latch_and_a_fresh_joint_state(robot) -> None:
    assert "no emergency stop" in robot.core.rearm(robot.now)
    robot.core.press_estop()
    assert "no fresh joint state" in robot.core.rearm(robot.now + 500 * MS)
    assert robot.core.stopped
    robot.position = robot.position * np.nan
    robot.now += T
    robot.sense()
    assert "no fresh joint state" in robot.core.rearm(robot.now)


def test_operators_stop_holds_at_once_and_once(robot) -> None:
    robot.tick(robot.nod(0.05))
    hold = robot.core.press_estop()
    assert hold.send
    np.testing.assert_array_equal(hold.executed.action_rad, robot.position)
    assert robot.core.press_estop() is None  # presses may be repeated
    assert robot.core.watch(robot.now + 10**12) is None


def test_in_lockstep_the_next_tick_is_answered_with_the_stop(contract, start) -> None:
    core = DriverCore(contract, ActionSpace.from_limits(contract), exact=True)
    core.measured(FIRST, start, 0)
    core.command(FIRST, contract.joint_names, start, 0)
    assert core.press_estop() is None
    core.measured(FIRST + T, start, 0)
    executed, send = core.command(FIRST + T, contract.joint_names, start + 0.01, 0)
    assert (executed.reasons, send) == (Reason.ESTOP, True)  # the twin waits for this stamp
    np.testing.assert_array_equal(executed.action_rad, start)


def test_a_stop_before_the_first_command_is_latched_too(contract, start) -> None:
    robot = Robot(contract, start)
    assert robot.core.press_estop() is None
    assert robot.tick().executed.reasons == Reason.ESTOP


# --- measurements --------------------------------------------------------------------------------


def test_missing_wrenches_hold(robot) -> None:
    assert robot.tick(wrench=None).executed.reasons == 0  # 50 ms old
    assert robot.tick(wrench=None, passed=60 * MS).executed.reasons == Reason.STALE_WRENCH
    assert robot.tick().executed.reasons == 0


def test_overload_holds_and_a_lighter_load_releases(robot) -> None:
    def load(newton: float) -> int:
        return robot.tick(
            robot.nod(0.01), wrench=np.array([newton, 0, 0, 0, 0, 0])
        ).executed.reasons

    assert [load(n) for n in (89, 91, 60, 44)] == [0, Reason.FORCE_LIMIT, Reason.FORCE_LIMIT, 0]


def test_overload_holds_before_the_next_command(robot) -> None:
    robot.tick(robot.nod(0.05))
    robot.now += 10 * MS
    hold = robot.core.wrench(0, robot.stamp, np.array([150.0, 0, 0, 0, 0, 0]), robot.now)
    assert hold.send
    assert hold.executed.reasons == Reason.FORCE_LIMIT | Reason.WATCHDOG  # no tick's answer
    again = robot.core.wrench(0, robot.stamp, np.array([150.0, 0, 0, 0, 0, 0]), robot.now)
    assert again is None


def test_overload_on_joints_that_are_no_numbers_sends_none(robot) -> None:
    """The arm that gives way goes to where it was measured: never to a NaN."""
    robot.tick(robot.nod(0.05))
    robot.now += 10 * MS
    robot.core.measured(robot.stamp, robot.position * np.nan, robot.now)
    heavy = np.array([150.0, 0, 0, 0, 0, 0])
    robot.core.wrench(0, robot.stamp, heavy, robot.now)
    answer = robot.order()
    assert answer.executed.reasons & Reason.STALE_STATE
    assert np.isfinite(answer.executed.action_rad).all()


def test_wrench_of_the_same_stamp_is_waited_for_in_lockstep(contract, start) -> None:
    core = DriverCore(contract, ActionSpace.from_limits(contract), exact=True)
    heavy = np.array([150.0, 0, 0, 0, 0, 0])
    core.measured(FIRST, start, 0)
    assert core.command(FIRST, contract.joint_names, start, 0) is not None  # none was ever heard
    for stream in (0, 1):
        core.wrench(stream, FIRST, QUIET, 0)
    core.measured(FIRST + T, start, 0)
    assert core.command(FIRST + T, contract.joint_names, start, 0) is None
    assert core.wrench(0, FIRST + T, QUIET, 0) is None
    answer = core.wrench(1, FIRST + T, heavy, 0)
    assert answer.executed.reasons == Reason.FORCE_LIMIT


def test_frozen_joints_hold_and_a_living_one_releases(robot) -> None:
    """Fresh stamps on old positions: the policy would drive on blindly."""
    dead = robot.position.copy()
    seen = []
    for _ in range(14):
        robot.now += T
        for stream in (0, 1):
            robot.core.wrench(stream, robot.stamp, QUIET, robot.now)
        robot.core.measured(robot.stamp, dead, robot.now)
        seen.append(robot.order(robot.nod(0.02)).executed.reasons)
    assert seen[0] == 0
    assert seen[-1] == Reason.FROZEN_STATE
    assert seen.index(Reason.FROZEN_STATE) <= 11  # .5 s
    robot.position = dead + 1e-4
    assert robot.tick().executed.source == Source.POLICY


def test_a_robot_that_is_told_to_stand_may_stand(robot) -> None:
    for _ in range(40):
        robot.now += T
        for stream in (0, 1):
            robot.core.wrench(stream, robot.stamp, QUIET, robot.now)
        robot.core.measured(robot.stamp, robot.position, robot.now)
        assert robot.order().executed.reasons == 0


# --- takeover ------------------------------------------------------------------------------------


def test_a_far_first_target_is_approached_slowly_then_at_full_speed(contract, start) -> None:
    robot = Robot(contract, start)
    robot.now += T
    robot.sense()
    goal = robot.nod(1.2)
    steps = []
    for _ in range(60):
        before = robot.position[HEAD]
        reasons = robot.tick(goal).executed.reasons
        steps.append((abs(robot.position[HEAD] - before), reasons))
    limit = 3.2 / 20
    assert steps[0][0] <= 0.1 * limit + 1e-5 and steps[0][1] == Reason.RAMP
    speeds = [moved for moved, _ in steps]
    gains = [later - sooner for sooner, later in itertools.pairwise(speeds)]
    assert max(gains) < 0.03 * limit
    assert steps[-1][1] == 0
    assert robot.position[HEAD] == goal[HEAD]


def test_a_near_first_target_is_carried_out_unaltered(contract, start) -> None:
    robot = Robot(contract, start)
    for _ in range(10):
        assert robot.tick(robot.nod(0.04)).executed.reasons == 0


def test_after_silence_the_next_command_takes_over(robot) -> None:
    robot.now += 300 * MS
    assert robot.core.watch(robot.now).executed.reasons == Reason.WATCHDOG
    assert robot.tick(robot.nod(0.3)).executed.reasons == Reason.RAMP


def test_lockstep_knows_no_takeover(contract, start) -> None:
    core = DriverCore(contract, ActionSpace.from_limits(contract), exact=True)
    core.measured(FIRST, start, 0)
    target = start.copy()
    target[HEAD] += 0.09
    assert core.command(FIRST, contract.joint_names, target, 0).executed.reasons == 0
