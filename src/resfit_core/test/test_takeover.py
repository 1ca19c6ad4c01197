"""A person takes over and hands back, in both clocks, without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resfit_core.action_space import ActionSpace
from resfit_core.contract import Contract, load_contract
from resfit_core.control.arbiter import Arbiter, Command
from resfit_core.control.driver import DriverCore
from resfit_core.control.records import EpisodeState, Phase, Source
from resfit_core.control.reset_motion import StartPose, load_start
from resfit_core.control.safety import Reason
from resfit_core.strict_yaml import ContractError

CONFIG = Path(__file__).parents[3] / "config"
TASK = CONFIG / "task/woolly_ball_pnp.yaml"
MS = 1_000_000
T, FIRST = 50 * MS, 10_000 * MS
TIMEOUT_S = 0.3


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONFIG / "robot/vega_1.yaml", TASK)


class Desk:
    """A driver, a robot that stands where it is told, a policy, and a person."""

    def __init__(self, contract: Contract, *, exact: bool, start: StartPose | None = None) -> None:
        self.contract, self.exact = contract, exact
        self.names = contract.joint_names
        self.core = DriverCore(
            contract, ActionSpace.from_limits(contract), exact=exact,
            deadman_timeout_s=TIMEOUT_S, start=start,
        )  # fmt: skip
        self.home = load_start(TASK, contract).poses[-1]
        self.at = self.home.copy()
        self.now = self.stamp = FIRST
        self.most = 0.0  # largest step of a target, in shares of velocity limit x period
        self.holds: list = []
        self._measure()

    def pass_time(self, ns: int = T) -> None:
        """Let time pass; the driver looks for silence as its timers do."""
        for _ in range(ns // (10 * MS)):
            self.now += 10 * MS
            if not self.exact:
                self.stamp += 10 * MS
                self._measure()
            answer = self.core.watch(self.now)
            if answer is not None:
                self.holds.append(answer.executed)
                self._obey(answer)
        if self.exact:
            self.stamp += T
            self._measure()

    def tick(self, target: np.ndarray):
        """One tick of the policy; None: it waits for the person."""
        self.pass_time()
        answer = self.core.command(self.stamp, self.names, target, self.now)
        return None if answer is None else self._obey(answer)

    def own_tick(self):
        self.pass_time()
        answer = self.core.drive(self.now)
        return None if answer is None else self._obey(answer)

    def person(self, target: np.ndarray, *, held: bool = True, stamp: int = 0, names=None):
        self.core.deadman(held, self.now)
        answer = self.core.teleop(stamp, names or self.names, target, self.now)
        return None if answer is None else self._obey(answer)

    def _measure(self) -> None:
        for stream in range(len(self.contract.wrenches)):
            self.core.wrench(stream, self.stamp, np.zeros(6), self.now)
        # No encoder is still to the last bit.
        noise = 1e-9 * np.sin(self.now / MS)
        self.core.measured(self.stamp, self.at + noise, self.now)

    def _obey(self, answer):
        executed, send = answer
        if send:
            limit = self.contract.velocity * self.contract.period_s
            self.most = max(
                self.most, float(np.max(np.abs(executed.action_rad - self.at) / limit))
            )
            self.at = executed.action_rad.copy()
        return executed


@pytest.fixture(params=[True, False], ids=["lockstep", "realtime"])
def desk(request, contract) -> Desk:
    return Desk(contract, exact=request.param)


def lifted(desk: Desk, rad: float = 0.3) -> np.ndarray:
    """Return the start pose with the right elbow elsewhere."""
    out = desk.home.copy()
    out[desk.names.index("R_arm_j4")] += rad
    return out


def test_person_takes_over_and_hands_back_without_a_jump(desk: Desk) -> None:
    """Targets 0.3 rad apart: each change of hands is a ramp from the target in force."""
    policy, person = desk.home, lifted(desk)
    assert desk.tick(policy).source == Source.POLICY
    joint = desk.names.index("R_arm_j4")
    way = []
    for _ in range(40):
        desk.person(person)
        executed = desk.tick(policy)
        assert executed.source == Source.TELEOP
        way.append(executed.action_rad[joint])
    # The ramp: a tenth of the limit at first, then faster, and in the end it is there.
    steps = np.diff([policy[joint], *way])
    limit = desk.contract.velocity[joint] * desk.contract.period_s
    assert 0 < steps[0] <= 0.11 * limit
    assert np.all(steps <= limit * (1 + 1e-9))
    assert way[-1] == pytest.approx(person[joint])
    desk.core.deadman(False, desk.now)
    back = [desk.tick(policy) for _ in range(40)]
    assert {b.source for b in back} == {Source.POLICY}
    assert 0 < way[-1] - back[0].action_rad[joint] <= 0.11 * limit
    assert back[0].reasons & Reason.RAMP
    assert back[-1].action_rad[joint] == pytest.approx(policy[joint])
    assert desk.most <= 1 + 1e-9


def test_without_the_switch_a_command_moves_nothing(desk: Desk) -> None:
    desk.core.teleop(0, desk.names, lifted(desk), desk.now)
    assert desk.tick(desk.home).source == Source.POLICY
    desk.person(lifted(desk), held=False)
    executed = desk.tick(desk.home)
    assert executed.source == Source.POLICY
    np.testing.assert_allclose(executed.action_rad, desk.home, atol=1e-6)


def test_switch_without_a_command_leaves_the_policy_in_charge(desk: Desk) -> None:
    desk.core.deadman(True, desk.now)
    assert desk.tick(desk.home).source == Source.POLICY


@pytest.mark.parametrize("lost", ["switch", "command"])
def test_silence_of_a_driving_person_holds_until_they_speak_again(desk: Desk, lost: str) -> None:
    """Nobody knows whether they still mean it: neither their last word nor the policy acts."""
    desk.tick(desk.home)
    desk.person(lifted(desk))
    assert desk.tick(desk.home).source == Source.TELEOP
    in_force = desk.at.copy()
    for _ in range(8):  # more than the time-out
        if lost == "command":
            desk.core.deadman(True, desk.now)
        else:
            desk.core.teleop(0, desk.names, lifted(desk), desk.now)
        executed = desk.tick(desk.home)
    assert (executed.source, executed.reasons) == (Source.HOLD, Reason.TELEOP_SILENT)
    held = executed.action_rad
    assert np.max(np.abs(held - in_force)) < 0.3
    assert np.array_equal(desk.tick(desk.home).action_rad, held)
    assert desk.core.status(desk.now).source == Source.HOLD
    desk.person(lifted(desk))
    assert desk.tick(desk.home).source == Source.TELEOP
    desk.core.deadman(False, desk.now)
    assert desk.tick(desk.home).source == Source.POLICY


def test_next_episode_ends_a_silence(desk: Desk) -> None:
    desk.core.arbiter.episode(EpisodeState(Phase.RUNNING, episode=1))
    desk.tick(desk.home)
    desk.person(lifted(desk))
    for _ in range(9):
        executed = desk.tick(desk.home)
    assert executed.source == Source.HOLD
    desk.core.arbiter.episode(EpisodeState(Phase.RESETTING, episode=2))
    assert desk.tick(desk.home).source == Source.POLICY


def test_some_joints_are_enough(desk: Desk) -> None:
    """Leader arms have no head: what they do not name stays where it is."""
    desk.tick(desk.home)
    elbow = desk.names.index("R_arm_j4")
    for _ in range(3):
        desk.person(np.array([desk.home[elbow] + 0.01]), names=["R_arm_j4"])
        executed = desk.tick(lifted(desk, -0.2))
    expected = desk.home.copy()
    expected[elbow] += 0.01
    assert executed.source == Source.TELEOP
    np.testing.assert_allclose(executed.action_rad, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "target", "reason"),
    [
        (["no_such_joint"], [0.0], Reason.WRONG_ORDER),
        (["R_arm_j4", "R_arm_j4"], [0.0, 0.0], Reason.WRONG_ORDER),
        (["R_arm_j4"], [0.0, 0.1], Reason.WRONG_LENGTH),
        (["R_arm_j4"], [np.nan], Reason.NOT_FINITE),
    ],
)
def test_unsound_command_of_a_person_is_refused_and_held(
    desk: Desk, names, target, reason
) -> None:
    before = desk.tick(desk.home).action_rad
    desk.person(np.array(target), names=names)
    executed = desk.tick(lifted(desk))
    assert (executed.source, executed.reasons) == (Source.HOLD, reason)
    np.testing.assert_array_equal(executed.action_rad, before)


def test_limits_hold_for_a_person_too(desk: Desk) -> None:
    desk.tick(desk.home)
    for _ in range(100):
        desk.person(desk.home + 9.0)
        executed = desk.tick(desk.home)
        assert executed.altered
    assert np.all(executed.action_rad <= desk.contract.upper)
    assert desk.most <= 1 + 1e-9


def test_emergency_stop_beats_a_person(desk: Desk) -> None:
    desk.tick(desk.home)
    desk.person(lifted(desk))
    desk.tick(desk.home)
    desk.core.press_estop()
    before = desk.at.copy()
    desk.person(lifted(desk))
    executed = desk.tick(desk.home)
    assert executed.source == Source.HOLD
    assert executed.reasons & Reason.ESTOP
    np.testing.assert_array_equal(desk.at, before)
    assert desk.core.drive(desk.now) is None


# --- lock-step -----------------------------------------------------------------------------------


def test_tick_waits_for_the_stamped_command_of_a_driving_person(contract) -> None:
    """So that the expert of the twin answers the observation that the policy answers."""
    desk = Desk(contract, exact=True)
    desk.tick(desk.home)
    desk.person(desk.home - 0.001, stamp=desk.stamp)
    assert desk.tick(desk.home) is None
    executed = desk.person(desk.home - 0.002, stamp=desk.stamp)
    assert (executed.stamp_ns, executed.source) == (desk.stamp, Source.TELEOP)
    np.testing.assert_allclose(executed.action_rad, desk.home - 0.002, rtol=1e-6)
    assert desk.tick(desk.home) is None
    released = desk.core.deadman(False, desk.now)
    assert released.executed.source == Source.POLICY


def test_wait_for_a_person_ends(contract) -> None:
    """The twin waits for every answer: a person who says no more must not stop it for ever."""
    desk = Desk(contract, exact=True)
    desk.tick(desk.home)
    desk.person(desk.home, stamp=desk.stamp)
    assert desk.tick(desk.home) is None
    desk.person(desk.home, stamp=desk.stamp)
    assert desk.tick(desk.home) is None
    for _ in range(7):
        desk.core.deadman(True, desk.now)  # the switch is held, no command comes
        desk.pass_time()
    (held,) = desk.holds
    assert (held.source, held.reasons) == (Source.HOLD, Reason.TELEOP_SILENT)


def test_lockstep_without_a_person_is_not_touched(contract) -> None:
    """Not one bit: an episode's trajectory must be the same with and without this."""
    desk, rng = Desk(contract, exact=True), np.random.default_rng(0)
    for _ in range(20):
        target = desk.at + rng.uniform(-0.02, 0.02, len(desk.at))
        executed = desk.tick(np.clip(target, contract.lower, contract.upper))
        assert executed.source == Source.POLICY
        assert not executed.reasons & Reason.RAMP


# --- real time: the driver's own ticks -----------------------------------------------------------


def test_person_drives_between_episodes_too(contract) -> None:
    """No policy ticks then; the answers carry WATCHDOG, so nobody takes them for steps."""
    desk = Desk(contract, exact=False)
    desk.tick(desk.home)
    desk.person(lifted(desk))
    assert desk.own_tick() is None  # the policy may only be late
    for _ in range(60):
        desk.person(lifted(desk))
        executed = desk.own_tick()
    assert executed.source == Source.TELEOP
    assert executed.reasons & Reason.WATCHDOG
    assert not desk.core.holding
    joint = desk.names.index("R_arm_j4")
    assert executed.action_rad[joint] == pytest.approx(lifted(desk)[joint])
    assert desk.most <= 1 + 1e-9
    desk.core.deadman(False, desk.now)
    assert desk.own_tick() is None


def test_policy_that_ticks_again_takes_over_from_the_own_ticks(contract) -> None:
    """Two filter calls within one period may not move the robot by two periods' way."""
    desk = Desk(contract, exact=False)
    desk.tick(desk.home)
    for _ in range(10):
        desk.person(lifted(desk, 2.0))
        desk.own_tick()
    desk.pass_time(10 * MS)
    before = desk.at.copy()
    desk.person(lifted(desk, 2.0))
    executed = desk._obey(desk.core.command(desk.stamp, desk.names, desk.home, desk.now))
    assert executed.source == Source.TELEOP
    limit = contract.velocity * contract.period_s
    assert np.all(np.abs(executed.action_rad - before) <= 0.2 * limit + 1e-9)


# --- the way back to the start pose --------------------------------------------------------------


def start_of(contract: Contract) -> StartPose:
    return load_start(TASK, contract)


def test_robot_goes_back_to_its_start_pose_between_episodes(contract) -> None:
    desk = Desk(contract, exact=False, start=start_of(contract))
    desk.at = lifted(desk, 0.5)
    for _ in range(3):
        desk.tick(lifted(desk, 0.5))
    desk.core.arbiter.episode(EpisodeState(Phase.ENDED, episode=1))
    for _ in range(20):
        assert desk.own_tick() is None  # not before the last observation is safe
    desk.core.arbiter.episode(EpisodeState(Phase.RESETTING, episode=2))
    sources = set()
    for _ in range(100):
        executed = desk.own_tick()
        if executed is None:
            break
        sources.add(executed.source)
        assert executed.reasons & Reason.WATCHDOG
        assert desk.core.status(desk.now).start_pose_episode == 0
    assert sources == {Source.RESET}
    np.testing.assert_allclose(desk.at, desk.home, atol=1e-6)
    assert desk.core.status(desk.now).start_pose_episode == 2
    assert desk.most <= start_of(contract).speed * (1 + 1e-6)


def test_reset_stands_while_the_stop_is_latched(contract) -> None:
    desk = Desk(contract, exact=False, start=start_of(contract))
    desk.at = lifted(desk, 0.5)
    desk.tick(desk.at)
    desk.core.arbiter.episode(EpisodeState(Phase.RESETTING, episode=2))
    for _ in range(8):
        desk.own_tick()
    desk.core.press_estop()
    before = desk.at.copy()
    for _ in range(10):
        assert desk.own_tick() is None
    np.testing.assert_array_equal(desk.at, before)
    # The manager pauses on an emergency stop: re-armed, nothing moves by itself.
    desk.core.arbiter.episode(EpisodeState(Phase.PAUSED, episode=1))
    assert desk.core.rearm(desk.now) == ""
    assert desk.own_tick() is None


def test_person_may_lead_the_robot_away_and_it_goes_back(contract) -> None:
    desk = Desk(contract, exact=False, start=start_of(contract))
    desk.tick(desk.home)
    desk.core.arbiter.episode(EpisodeState(Phase.RESETTING, episode=2))
    while not desk.core.status(desk.now).start_pose_episode:
        desk.own_tick()
    for _ in range(60):
        desk.person(lifted(desk))
        assert desk.own_tick().source == Source.TELEOP
    assert desk.core.status(desk.now).start_pose_episode == 0
    desk.core.deadman(False, desk.now)
    for _ in range(100):
        desk.own_tick()
    assert desk.core.status(desk.now).start_pose_episode == 2
    assert desk.most <= 1 + 1e-9


def test_poses_of_the_way_are_passed_in_order(contract) -> None:
    home = start_of(contract).poses[-1]
    over = home.copy()
    over[contract.joint_names.index("R_arm_j1")] -= 0.4
    desk = Desk(contract, exact=False, start=StartPose(np.stack([over, home]), 0.5, 0.1))
    desk.tick(desk.home)
    desk.core.arbiter.episode(EpisodeState(Phase.RESETTING, episode=1))
    joint, farthest = contract.joint_names.index("R_arm_j1"), 0.0
    while not desk.core.status(desk.now).start_pose_episode:
        desk.own_tick()
        farthest = min(farthest, desk.at[joint] - home[joint])
    assert farthest == pytest.approx(-0.4)
    np.testing.assert_allclose(desk.at, home, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"speed": 1.5}, "'speed' is 1.5, above 0 up to 1"),
        ({"poses": []}, "'poses' is \\[\\]"),
        ({"more": 1}, "more"),
        ({"poses": [{"R_arm_j1": 0.0}]}, "pose 0"),
    ],
)
def test_unsound_start_file_is_refused_in_words(tmp_path, contract, change, said) -> None:
    import yaml

    data = yaml.safe_load(TASK.with_name("woolly_ball_pnp.start.yaml").read_text())
    (tmp_path / "task.start.yaml").write_text(yaml.safe_dump(data | change))
    with pytest.raises(ContractError, match=said):
        load_start(tmp_path / "task.yaml", contract)
    assert load_start(tmp_path / "other.yaml", contract) is None


def test_older_word_does_not_replace_a_newer_one(contract) -> None:
    arbiter = Arbiter(contract, exact=False, timeout_ns=10**9)
    arbiter.deadman(True, 0)
    arbiter.word(2, contract.joint_names, np.full(29, 0.2), 0)
    arbiter.word(1, contract.joint_names, np.full(29, 0.1), 0)
    chosen = arbiter.choose(Command(5, contract.joint_names, np.zeros(29)), np.zeros(29), 0)
    assert chosen.target[0] == 0.2
