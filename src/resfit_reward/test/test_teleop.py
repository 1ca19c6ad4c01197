"""The gamepad's way to the driver: switch and targets, release, silence."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from sensor_msgs.msg import Joy
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import load_contract
from resfit_core.control.records import ExecutedCommand, Source
from resfit_interfaces import msg as ours
from resfit_reward import teleop_node
from resfit_ros import conversions, qos

CONFIG = Path(__file__).parents[3] / "config"
FILES = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
}
DEADMAN = 10


def test_held_button_drives_from_the_targets_in_force(ros, monkeypatch):
    monkeypatch.setattr(teleop_node, "_JOY_SILENT_S", 60.0)  # a busy machine is no silent gamepad
    contract = load_contract(*FILES.values())
    ros.add(
        teleop_node.TeleopNode,
        {
            **FILES,
            "teleop_mapping": str(CONFIG / "operator/teleop.yaml"),
            "keyboard": False,
            "clock": "realtime",
        },
    )
    probe, hand, commands = ros.probe(), [], []
    pad = probe.create_publisher(Joy, "joy", qos.reliable(10))
    driver = probe.create_publisher(ours.ExecutedCommand, "executed_command", qos.reliable(10))
    probe.create_subscription(Bool, "teleop_deadman", hand.append, qos.reliable(100))
    probe.create_subscription(
        JointTrajectory, "teleop_command", commands.append, qos.reliable(100)
    )
    assert ros.connected(probe, "joy", "executed_command", "teleop_deadman", "teleop_command")
    middle = (contract.lower + contract.upper) / 2
    done = ExecutedCommand(5, Source.POLICY, middle, np.zeros(29, np.float32))
    driver.publish(conversions.executed_to_msg(done))
    senseless = ExecutedCommand(6, Source.POLICY, middle * np.nan, np.zeros(29, np.float32))
    driver.publish(conversions.executed_to_msg(senseless))  # no targets to start from

    def joy(held, axes=(0.0,) * 6):
        pad.publish(Joy(axes=list(axes), buttons=[int(held and i == DEADMAN) for i in range(15)]))

    joy(False, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    ros.spin_until(lambda: False, 0.2)
    assert (hand, commands) == ([], [])  # without the button a stick says nothing
    joy(True)
    assert ros.spin_until(lambda: commands)
    _, names, target = conversions.trajectory_from_msg(commands[0])
    assert names == contract.joint_names
    np.testing.assert_allclose(target, middle)
    assert hand[0].data
    assert conversions.stamp_from_msg(commands[0].header.stamp) > 0
    joy(True, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    assert ros.spin_until(
        lambda: np.max(np.abs(np.array(commands[-1].points[0].positions) - middle)) > 1e-3
    )
    joy(False)
    assert ros.spin_until(lambda: not hand[-1].data)
    # A gamepad that falls silent while its button is down says no more: the driver then holds.
    joy(True)
    assert ros.spin_until(lambda: hand[-1].data)
    monkeypatch.setattr(teleop_node, "_JOY_SILENT_S", 0.0)
    ros.spin_until(lambda: False, 0.2)
    known = len(hand)
    ros.spin_until(lambda: False, 0.3)
    assert len(hand) == known
