"""Taking over and the way back over DDS: what the topics say, in both clocks."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from std_msgs.msg import Bool
from test_vega_driver import FILES, FIRST, Bench, T
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import ContractError
from resfit_core.control.records import EpisodeState, Phase, Source
from resfit_core.control.reset_motion import load_start
from resfit_core.control.safety import Reason
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_vega_driver.vega_driver_node import VegaDriverNode


class PersonBench(Bench):
    """With a person's topics and the run's state."""

    def __init__(self, ros, **parameters):
        super().__init__(ros, **parameters)
        self.home = load_start(FILES["task_file"], self.contract).poses[-1]
        self.hand = self.probe.create_publisher(Bool, "teleop_deadman", qos.reliable(10))
        self.leader = self.probe.create_publisher(
            JointTrajectory, "teleop_command", qos.reliable(10)
        )
        self.run = self.probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        assert ros.connected(self.probe, "teleop_deadman", "teleop_command", "episode_state")

    def person(self, target, stamp=0, held=True):
        self.hand.publish(Bool(data=held))
        self.leader.publish(conversions.trajectory_to_msg(stamp, self.names, target))

    def say(self, phase, episode):
        state = EpisodeState(phase, episode=episode, run_id="run", reason="test")
        self.run.publish(conversions.episode_state_to_msg(state))


def test_person_drives_in_lockstep_and_every_stamp_is_answered(ros):
    bench = PersonBench(ros, deadman_timeout_s=5.0)
    elbow = bench.names.index("R_arm_j4")
    bench.tick(FIRST, bench.home)
    for k in range(1, 6):
        known, stamp = len(bench.executed), FIRST + k * T
        bench.person(bench.home + 0.02 * (np.arange(29) == elbow), stamp)
        bench.state(stamp)
        bench.policy.publish(conversions.trajectory_to_msg(stamp, bench.names, bench.home))
        assert ros.spin_until(lambda known=known: len(bench.executed) > known)
    # The first may overtake the person's word; from then on each waits for it.
    sources = [m.source for m in bench.executed]
    assert sources[0] == Source.POLICY
    assert set(sources[2:]) == {Source.TELEOP}
    assert bench.executed[-1].action_rad[elbow] == pytest.approx(bench.home[elbow] + 0.02)
    assert ros.spin_until(lambda: any(s.source == Source.TELEOP for s in bench.states))
    bench.hand.publish(Bool(data=False))
    assert ros.spin_until(lambda: bench.driver._core.arbiter._word is None)
    answer = bench.tick(FIRST + 6 * T, bench.home)
    assert answer.source == Source.POLICY
    stamps = [conversions.stamp_from_msg(m.header.stamp) for m in bench.commands]
    assert stamps == [FIRST + k * T for k in range(7)]


def test_robot_returns_to_its_start_pose_and_a_person_may_step_in(ros, tmp_path):
    """Fake client, real time: RESETTING moves the arms, the switch stops that, release goes on."""
    bench = PersonBench(ros, client="fake", clock="realtime", auto_reset=True)
    away = bench.home + 0.4 * (np.arange(29) == bench.names.index("R_arm_j1"))
    client = bench.driver._client
    client.position[:], client._target[:] = away, away
    bench.say(Phase.RESETTING, 3)
    assert ros.spin_until(lambda: any(m.source == Source.RESET for m in bench.executed))
    assert all(m.reasons & Reason.WATCHDOG for m in bench.executed)
    assert not any(s.start_pose_episode for s in bench.states)

    end, known = time.monotonic() + 20, len(bench.executed)
    while not any(m.source == Source.TELEOP for m in bench.executed[known:]):
        assert time.monotonic() < end
        bench.person(away)
        ros.spin_until(lambda: False, 0.05)
    bench.hand.publish(Bool(data=False))
    assert ros.spin_until(lambda: bench.states[-1].start_pose_episode == 3, 20.0)
    np.testing.assert_allclose(client.position, bench.home, atol=0.1)
    steps = np.diff([np.array(m.action_rad) for m in bench.executed], axis=0)
    limit = bench.contract.velocity * bench.contract.period_s
    assert np.all(np.abs(steps) <= limit * (1 + 1e-6))


def test_auto_reset_needs_a_clock_that_goes_on(ros):
    with pytest.raises(ContractError, match="auto_reset needs clock:=realtime"):
        ros.add(VegaDriverNode, {**FILES, "auto_reset": True})
