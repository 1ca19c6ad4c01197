"""The driver over DDS: every tick answered, refusals held and named, same stamp same bytes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from geometry_msgs.msg import WrenchStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import load_contract
from resfit_core.control.press import Press
from resfit_core.control.safety import Reason
from resfit_interfaces.msg import DriverState, ExecutedCommand, OperatorEvent
from resfit_ros import conversions, qos
from resfit_vega_driver.client import ClientError
from resfit_vega_driver.vega_driver_node import VegaDriverNode

CONFIG = Path(__file__).parents[3] / "config"
FILES = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
}
MS = 1_000_000
T, FIRST = 50 * MS, 1000 * MS


class Bench:
    """A driver with a robot and a policy on the other side of its topics."""

    def __init__(self, ros, **parameters):
        self.contract = load_contract(*FILES.values())
        self.names = self.contract.joint_names
        self.home = (self.contract.lower + self.contract.upper) / 2
        self.ros = ros
        self.driver = ros.add(VegaDriverNode, {**FILES, **parameters})
        self.probe = ros.probe()
        self.executed, self.commands, self.states = [], [], []
        sensor = qos.sensor(parameters.get("clock", "lockstep"))
        self.joints = self.probe.create_publisher(JointState, "joint_states", sensor)
        self.wrists = [
            self.probe.create_publisher(WrenchStamped, f"{name}/wrench", sensor)
            for name in self.contract.wrenches
        ]
        self.button = self.probe.create_publisher(
            OperatorEvent, "operator_event", qos.reliable(10)
        )
        self.policy = self.probe.create_publisher(
            JointTrajectory, "policy_command", qos.reliable(10)
        )
        for kind, topic, into in (
            (ExecutedCommand, "executed_command", self.executed),
            (JointTrajectory, "joint_command", self.commands),
            (DriverState, "driver_state", self.states),
        ):
            self.probe.create_subscription(kind, topic, into.append, qos.reliable(100))
        topics, wrists = ["policy_command", "executed_command"], []
        if parameters.get("client") != "fake":  # that one speaks by itself
            topics += ["joint_states", "joint_command"]
            wrists = [f"{name}/wrench" for name in self.contract.wrenches]
        assert ros.connected(self.probe, *topics, *wrists, "operator_event")

    def state(self, stamp, position=None):
        at = self.home if position is None else position
        for wrist in self.wrists:
            wrist.publish(conversions.wrench_to_msg(stamp, np.zeros(6)))
        self.joints.publish(conversions.joint_state_to_msg(stamp, self.names, at, 0 * at))

    def tick(self, stamp, target, names=None):
        """Send state and command of one stamp; return the driver's answer."""
        known = len(self.executed)
        self.state(stamp)
        self.policy.publish(conversions.trajectory_to_msg(stamp, names or self.names, target))
        assert self.ros.spin_until(lambda: len(self.executed) > known)
        return self.executed[-1]


@pytest.fixture
def bench(ros):
    return Bench(ros)


def sent(bench):
    """Return the commands sent so far as (stamp, positions)."""
    return [
        (conversions.stamp_from_msg(m.header.stamp), list(m.points[0].positions))
        for m in bench.commands
    ]


def test_every_tick_is_answered_and_sent(bench):
    for k in range(5):
        target = bench.home + 0.01 * k
        answer = bench.tick(FIRST + k * T, target)
        assert (answer.source, answer.reasons, answer.altered) == (
            ExecutedCommand.POLICY,
            0,
            False,
        )
        assert list(answer.action_rad) == list(target)
        assert len(answer.action_norm) == 29
    assert bench.ros.spin_until(lambda: len(bench.commands) == 5)
    assert [s for s, _ in sent(bench)] == [FIRST + k * T for k in range(5)]
    assert bench.commands[0].joint_names == list(bench.names)


def test_limits_are_kept_and_named(bench):
    bench.tick(FIRST, bench.home)
    answer = bench.tick(FIRST + T, bench.home + 5.0)
    assert answer.altered
    limits = Reason.POSITION_LIMIT | Reason.VELOCITY_LIMIT | Reason.ACCELERATION_LIMIT
    assert answer.reasons & ~(Reason.SELF_COLLISION | Reason.OBSTACLE) == limits
    assert answer.action_rad[0] == pytest.approx(bench.home[0] + 40 / 20**2)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda names, target: (names, target * np.nan), ExecutedCommand.NOT_FINITE),
        (lambda names, target: (names[:-1], target[:-1]), ExecutedCommand.WRONG_LENGTH),
        (lambda names, target: (names[::-1], target), ExecutedCommand.WRONG_ORDER),
    ],
)
def test_what_is_refused_is_said_and_held(bench, spoil, reason):
    good = bench.tick(FIRST, bench.home + 0.01)
    names, target = spoil(bench.names, bench.home)
    answer = bench.tick(FIRST + T, target, names)
    assert (answer.source, answer.reasons, answer.altered) == (ExecutedCommand.HOLD, reason, True)
    assert answer.action_rad == good.action_rad
    # The twin waits for this stamp: it gets the hold.
    assert bench.ros.spin_until(lambda: len(bench.commands) == 2)
    assert sent(bench)[1] == (FIRST + T, list(good.action_rad))
    assert bench.ros.spin_until(
        lambda: any(s.mode == DriverState.HOLDING and s.reasons == reason for s in bench.states)
    )
    assert bench.tick(FIRST + 2 * T, bench.home).reasons == 0


def test_two_points_are_refused(bench):
    bench.tick(FIRST, bench.home)
    message = conversions.trajectory_to_msg(FIRST + T, bench.names, bench.home)
    message.points = message.points * 2
    bench.state(FIRST + T)
    bench.policy.publish(message)
    assert bench.ros.spin_until(lambda: len(bench.executed) == 2)
    assert bench.executed[1].reasons == ExecutedCommand.WRONG_LENGTH


def test_same_stamp_gets_the_same_bytes(bench):
    first = bench.tick(FIRST, bench.home + 0.01)
    again = bench.tick(FIRST, bench.home - 0.01)
    assert serialize_message(first) == serialize_message(again)
    assert bench.ros.spin_until(lambda: len(bench.commands) == 2)
    assert serialize_message(bench.commands[0]) == serialize_message(bench.commands[1])


def test_command_may_overtake_its_joint_state(bench):
    bench.tick(FIRST, bench.home)
    bench.policy.publish(conversions.trajectory_to_msg(FIRST + T, bench.names, bench.home))
    bench.policy.publish(conversions.trajectory_to_msg(FIRST, bench.names, bench.home))
    assert bench.ros.spin_until(lambda: len(bench.executed) == 2)  # only the repeated one
    bench.state(FIRST + T)
    assert bench.ros.spin_until(lambda: len(bench.executed) == 3)
    assert conversions.stamp_from_msg(bench.executed[2].header.stamp) == FIRST + T


def test_inactive_driver_sends_nothing(bench):
    bench.tick(FIRST, bench.home)
    bench.driver.trigger_deactivate()
    answer = bench.tick(FIRST + T, bench.home + 0.1)
    assert (answer.source, answer.reasons) == (ExecutedCommand.HOLD, ExecutedCommand.NOT_ACTIVE)
    bench.driver.trigger_activate()
    assert bench.tick(FIRST + T, bench.home).reasons == 0
    assert bench.ros.spin_until(lambda: len(bench.commands) == 2)
    assert [s for s, _ in sent(bench)] == [FIRST, FIRST + T]


def test_failing_client_is_said_and_nothing_is_in_force(bench):
    good = bench.tick(FIRST, bench.home)

    def refuse(stamp_ns, target_rad):
        raise ClientError("joint 4: brake is closed")

    bench.driver._client.send = refuse
    answer = bench.tick(FIRST + T, bench.home + 0.01)
    assert answer.reasons == ExecutedCommand.CLIENT_ERROR
    assert answer.action_rad == good.action_rad


def test_silence_holds_in_real_time(ros):
    """Regression: a command that overtook its joint state was refused; no hold came."""
    bench = Bench(ros, clock="realtime")
    # Two topics: in real time a command may arrive before the state that was sent first.
    tries = (bench.tick(FIRST + k * T, bench.home + 0.01) for k in range(20))
    accepted = next(answer for answer in tries if answer.source == ExecutedCommand.POLICY)
    bench.state(FIRST + 20 * T)
    assert ros.spin_until(lambda: bench.executed[-1].reasons == ExecutedCommand.WATCHDOG)
    hold = bench.executed[-1]
    assert hold.source == ExecutedCommand.HOLD
    assert hold.action_rad == accepted.action_rad
    assert ros.spin_until(lambda: any(s.holds >= 1 for s in bench.states))
    # Joint states fell silent too, and before: whatever held, held the same.
    held = [list(c.points[0].positions) for c in bench.commands[1:]]
    assert held and all(positions == list(accepted.action_rad) for positions in held)


def test_a_malformed_joint_state_is_dropped_and_nothing_ends(bench):
    """It once ended the driver: a wrong name in a message left the robot to itself."""
    bench.tick(FIRST, bench.home)
    for names, position in (
        (("elbow", *bench.names[1:]), bench.home),
        (bench.names[:5], bench.home[:5]),
        (bench.names, bench.home[:5]),
        ((), bench.home),
    ):
        bench.joints.publish(conversions.joint_state_to_msg(FIRST + T, names, position, position))
    assert bench.tick(FIRST + T, bench.home).reasons == 0


def test_operators_stop_latches_over_the_topic_and_the_service_takes_it_off(bench):
    bench.tick(FIRST, bench.home)
    bench.button.publish(OperatorEvent(kind=int(Press.ESTOP), source="test"))
    stopped = lambda: any(s.mode == DriverState.ESTOPPED for s in bench.states)  # noqa: E731
    assert bench.ros.spin_until(stopped)
    answer = bench.tick(FIRST + T, bench.home + 0.01)
    assert (answer.source, answer.reasons) == (ExecutedCommand.HOLD, ExecutedCommand.ESTOP)
    client = bench.probe.create_client(Trigger, "vega_driver/rearm")
    assert bench.ros.spin_until(client.service_is_ready)
    asked = client.call_async(Trigger.Request())
    assert bench.ros.spin_until(asked.done)
    assert asked.result().success, asked.result().message
    assert bench.tick(FIRST + 2 * T, bench.home).reasons == 0
    again = client.call_async(Trigger.Request())
    assert bench.ros.spin_until(again.done)
    assert not again.result().success
    assert "no emergency stop" in again.result().message


def test_an_overloaded_wrist_holds_in_lockstep_too(bench):
    bench.tick(FIRST, bench.home)
    heavy = np.array([100.0, 0, 0, 0, 0, 0])
    known = len(bench.executed)
    bench.joints.publish(
        conversions.joint_state_to_msg(FIRST + T, bench.names, bench.home, 0 * bench.home)
    )
    bench.policy.publish(conversions.trajectory_to_msg(FIRST + T, bench.names, bench.home))
    bench.wrists[0].publish(conversions.wrench_to_msg(FIRST + T, np.zeros(6)))
    bench.wrists[1].publish(conversions.wrench_to_msg(FIRST + T, heavy))
    assert bench.ros.spin_until(lambda: len(bench.executed) > known)
    assert bench.executed[-1].reasons == Reason.FORCE_LIMIT


def test_leaving_sends_the_target_in_force_last(ros):
    bench = Bench(ros, clock="realtime")
    answers = (bench.tick(FIRST + k * T, bench.home + 0.01) for k in range(20))
    accepted = next(answer for answer in answers if answer.source == ExecutedCommand.POLICY)
    known = len(bench.commands)
    bench.driver.stop()
    assert ros.spin_until(lambda: len(bench.commands) > known)
    assert list(bench.commands[-1].points[0].positions) == list(accepted.action_rad)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"client": "fake"}, "use clock:=realtime"),
        ({"client": "vega"}, "expected one of"),
    ],
)
def test_a_client_that_cannot_work_is_refused_in_words(ros, parameters, message):
    with pytest.raises(ValueError, match=message):
        ros.add(VegaDriverNode, {**FILES, **parameters})


def test_a_robot_that_cannot_be_reached_fails_configure_with_its_reason(ros, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "dexcontrol", None)
    with pytest.raises(ClientError, match="pip install dexcontrol"):
        ros.add(VegaDriverNode, {**FILES, "clock": "realtime", "client": "dexcontrol"})
