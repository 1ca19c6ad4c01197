"""The twin over DDS: set, answer, the same set again, oracle, and the end with its reason."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from geometry_msgs.msg import PoseArray, WrenchStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import load_contract
from resfit_core.control.records import EpisodeState, Phase
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import ResetScene
from resfit_ros import conversions, qos
from resfit_ros.testing import graph
from resfit_sim.errors import InvalidTarget
from resfit_sim.factory import twin_for
from resfit_sim.lockstep import LockStepError
from resfit_sim.twin_node import TwinNode

CONFIG = Path(__file__).parents[3] / "config"
FILES = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
}
T = 50_000_000


@pytest.fixture
def ros():
    with graph() as made:
        yield made


class Bench:
    """A twin node with a driver and an episode manager of paper on the other side."""

    def __init__(self, ros, **parameters):
        self.ros, self.contract = ros, load_contract(*FILES.values())
        self.probe = ros.probe()
        self.joints, self.wrenches, self.poses, self.pressed = [], [], [], []
        sensor = qos.sensor(parameters.get("clock", "lockstep"))
        for kind, topic, into in (
            (JointState, "joint_states", self.joints),
            (WrenchStamped, "left_wrist/wrench", self.wrenches),
            (WrenchStamped, "right_wrist/wrench", self.wrenches),
            (PoseArray, "object_poses", self.poses),
        ):
            self.probe.create_subscription(kind, topic, into.append, sensor)
        self.probe.create_subscription(
            ours.OperatorEvent, "oracle", self.pressed.append, qos.reliable(10)
        )
        self.commands = self.probe.create_publisher(
            JointTrajectory, "joint_command", qos.reliable(10)
        )
        self.states = self.probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.scene = self.probe.create_client(ResetScene, "twin/reset_scene")
        self.twin = ros.add(TwinNode, {**FILES, **parameters})
        assert ros.connected(
            self.probe, "joint_states", "object_poses", "oracle", "joint_command", "episode_state"
        )
        assert ros.spin_until(self.scene.service_is_ready)

    def begin(self, episode=1, seed=7):
        """Reset and run an episode; return its first stamp."""
        future = self.scene.call_async(ResetScene.Request(seed=seed, episode=episode))
        assert self.ros.spin_until(future.done)
        assert future.result().success
        first = conversions.stamp_from_msg(future.result().first_stamp)
        self.say(Phase.RUNNING, episode, start_ns=first)
        return first

    def say(self, phase, episode, **fields):
        state = EpisodeState(phase, episode=episode, reason="test", run_id="r", **fields)
        self.states.publish(conversions.episode_state_to_msg(state))

    def command(self, stamp, target, names=None):
        self.commands.publish(
            conversions.trajectory_to_msg(stamp, names or self.contract.joint_names, target)
        )

    def stamps(self):
        return [conversions.stamp_from_msg(m.header.stamp) for m in self.joints]

    def sets(self, count):
        """Wait for so many whole sets."""
        return self.ros.spin_until(
            lambda: (
                len(self.joints) == len(self.poses) == count and len(self.wrenches) == 2 * count
            )
        )


def test_lockstep_gives_the_trajectory_of_the_plain_twin(ros):
    bench = Bench(ros)
    first = bench.begin(seed=7)
    twin = twin_for(bench.contract)
    twin.reset(7)
    for k in range(5):
        assert bench.sets(k + 1)
        message, sensors = bench.joints[k], twin.sensors()
        assert message.name == list(bench.contract.joint_names)
        assert list(message.position) == sensors.joint_position.tolist()
        np.testing.assert_array_equal(
            conversions.poses_from_msg(bench.poses[k])[1], sensors.object_poses
        )
        # The order of two topics is not given.
        pair = bench.wrenches[2 * k : 2 * k + 2]
        forces = sorted(conversions.wrench_from_msg(m)[1][0] for m in pair)
        assert forces == sorted([sensors.wrench_left[0], sensors.wrench_right[0]])
        target = sensors.joint_position + 0.01
        bench.command(first + k * T, target)
        twin.step(target)
    assert bench.sets(6)
    assert bench.stamps() == [first + k * T for k in range(6)]


def test_unanswered_set_comes_again_with_the_same_bytes(ros):
    bench = Bench(ros, lockstep_timeout_s=0.1)
    first = bench.begin()
    assert ros.spin_until(lambda: len(bench.joints) >= 3 and len(bench.poses) >= 3)
    assert len({serialize_message(m) for m in bench.joints}) == 1
    assert len({serialize_message(m) for m in bench.poses}) == 1
    bench.command(first, np.array(bench.joints[0].position))
    assert ros.spin_until(lambda: bench.stamps()[-1] == first + T)


def test_nobody_answers_and_the_twin_leaves_with_its_reason(ros):
    bench = Bench(ros, lockstep_timeout_s=0.02, lockstep_retries=2)
    bench.begin()
    with pytest.raises(LockStepError, match="base_policy"):
        ros.spin_until(lambda: False, timeout_s=5.0)


def test_oracle_calls_the_time_and_shows_the_last_set_after_ended(ros):
    bench = Bench(ros)
    bench.twin._machine._horizon = 2
    first = bench.begin(episode=3)
    for k in range(2):
        assert bench.sets(k + 1)
        bench.command(first + k * T, np.array(bench.joints[0].position))
    assert ros.spin_until(lambda: bench.pressed)
    event = bench.pressed[0]
    assert (event.kind, event.episode, event.source) == (ours.OperatorEvent.TIMEOUT, 3, "oracle")
    assert conversions.stamp_from_msg(event.header.stamp) == first + 2 * T
    assert len(bench.joints) == 2
    bench.say(Phase.ENDED, 3, end_ns=first + 2 * T)
    assert bench.sets(3)
    assert bench.stamps()[-1] == first + 2 * T
    assert bench.begin(episode=4) > first + 2 * T


def test_joints_of_another_robot_are_refused(ros):
    bench = Bench(ros)
    first = bench.begin()
    assert bench.sets(1)
    bench.command(first, np.zeros(29), bench.contract.joint_names[::-1])
    with pytest.raises(InvalidTarget, match="robot:="):
        ros.spin_until(lambda: False, timeout_s=5.0)


def test_real_time_runs_without_being_asked(ros):
    bench = Bench(ros, clock="realtime", sensor_rate_hz=50.0)
    assert ros.spin_until(lambda: len(bench.joints) >= 3)
    assert sorted(set(bench.stamps())) == bench.stamps()
    start = np.array(bench.joints[-1].position)
    goal = start.copy()
    goal[0] += 0.3
    bench.command(bench.stamps()[-1], goal)
    assert ros.spin_until(lambda: abs(bench.joints[-1].position[0] - start[0]) > 0.05)
