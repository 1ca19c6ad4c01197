"""Every way to press the button, over DDS."""

import os
import struct

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from sensor_msgs.msg import Joy

from resfit_interfaces.msg import EpisodeState, OperatorEvent
from resfit_reward.reward_button_node import RewardButtonNode
from resfit_ros import qos


class Bench:
    def __init__(self, ros, **parameters):
        self.ros = ros
        self.button = ros.add(RewardButtonNode, {"keyboard": False, **parameters})
        self.probe = ros.probe()
        self.heard = []
        self.probe.create_subscription(
            OperatorEvent, "operator_event", self.heard.append, qos.reliable(100)
        )
        self.oracle, self.topic = (
            self.probe.create_publisher(OperatorEvent, name, qos.reliable(10))
            for name in ("oracle", "button")
        )
        self.states = self.probe.create_publisher(EpisodeState, "episode_state", qos.LATCHED)
        assert ros.connected(self.probe, "operator_event", "oracle", "button", "episode_state")

    def next(self):
        known = len(self.heard)
        assert self.ros.spin_until(lambda: len(self.heard) > known)
        return self.heard[-1]


def press(kind, stamp_s=0, source="", episode=0):
    event = OperatorEvent(kind=kind, source=source, episode=episode, reason="r")
    event.header.stamp.sec = stamp_s
    return event


def test_oracle_is_forwarded_word_for_word(ros):
    bench = Bench(ros)
    bench.oracle.publish(press(OperatorEvent.TIMEOUT, stamp_s=12, episode=3))
    heard = bench.next()
    assert (heard.kind, heard.source, heard.reason) == (OperatorEvent.TIMEOUT, "oracle", "r")
    assert (heard.header.stamp.sec, heard.episode) == (12, 3)


def test_topic_cannot_pretend_to_be_the_oracle(ros):
    bench = Bench(ros)
    bench.topic.publish(press(OperatorEvent.SUCCESS, source="oracle"))
    heard = bench.next()
    assert heard.source == "topic"
    assert heard.header.stamp.sec == 0  # lock-step: the manager knows what time it is


def test_real_time_press_gets_its_stamp(ros):
    bench = Bench(ros, clock="realtime")
    bench.topic.publish(press(OperatorEvent.FAILURE))
    now = bench.button.get_clock().now().nanoseconds
    stamp = bench.next().header.stamp
    assert abs(stamp.sec * 10**9 + stamp.nanosec - now) < 10 * 10**9


def test_unknown_kind_is_dropped(ros):
    bench = Bench(ros)
    for kind in (0, 77, OperatorEvent.ABORT):
        bench.topic.publish(press(kind))
    assert bench.next().kind == OperatorEvent.ABORT
    assert len(bench.heard) == 1


def test_keys_mean_what_the_help_says(ros):
    bench = Bench(ros)
    for key, kind in (("s", OperatorEvent.SUCCESS), ("Q", OperatorEvent.STOP), ("?", None)):
        bench.button._on_key(key)
        if kind is not None:
            heard = bench.next()
            assert (heard.kind, heard.source) == (kind, "keyboard")
    bench.button._on_key("r")
    assert bench.next().kind == OperatorEvent.RESET_DONE
    bench.states.publish(EpisodeState(phase=EpisodeState.PAUSED))
    assert ros.spin_until(lambda: bench.button._idle)
    bench.button._on_key("r")
    assert bench.next().kind == OperatorEvent.START


def test_gamepad_presses_with_the_stamp_of_its_driver(ros):
    bench = Bench(ros, clock="realtime")
    joy = bench.probe.create_publisher(Joy, "joy", qos.sensor("realtime"))
    assert ros.spin_until(lambda: joy.get_subscription_count() > 0)
    for buttons in ([0, 0], [0, 1], [0, 1]):
        msg = Joy(buttons=buttons)
        msg.header.stamp.sec = 12
        joy.publish(msg)
    heard = bench.next()
    assert (heard.kind, heard.source) == (OperatorEvent.FAILURE, "gamepad")
    assert heard.header.stamp.sec == 12
    bench.topic.publish(press(OperatorEvent.PAUSE))
    assert bench.next().kind == OperatorEvent.PAUSE
    assert len(bench.heard) == 2


def test_pedal_presses_with_the_kernels_stamp(ros, tmp_path):
    path = tmp_path / "event0"
    os.mkfifo(path)
    bench = Bench(ros, clock="realtime", keypad=str(path))
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, struct.pack("llHHi", 12, 500_000, 1, 30, 1))  # KEY_A goes down
    heard = bench.next()
    assert (heard.kind, heard.source) == (OperatorEvent.SUCCESS, "keypad")
    assert (heard.header.stamp.sec, heard.header.stamp.nanosec) == (12, 500_000_000)
    os.close(writer)
