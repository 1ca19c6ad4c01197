"""The scripted expert's node over DDS: sensor messages without sense do not end it."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import load_contract
from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.testing import graph
from resfit_sim.expert_teleop_node import ExpertTeleopNode
from resfit_sim.factory import twin_for
from resfit_sim.joints import JOINT_NAMES

CONFIG = Path(__file__).parents[3] / "config"
FILES = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
}
T = 50_000_000


def test_takes_over_after_joints_and_objects_without_sense():
    contract = load_contract(*FILES.values())
    twin = twin_for(contract)
    twin.reset(seed=1)
    seen = twin.sensors()
    with graph() as ros:
        ros.add(ExpertTeleopNode, {**FILES, "takeover_share": 1.0, "takeover_latest": 2})
        probe, commands = ros.probe(), []
        joints = probe.create_publisher(JointState, "joint_states", qos.sensor("lockstep"))
        objects = probe.create_publisher(PoseArray, "object_poses", qos.sensor("lockstep"))
        states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        probe.create_subscription(
            JointTrajectory, "teleop_command", commands.append, qos.reliable(10)
        )
        probe.create_subscription(Bool, "teleop_deadman", lambda _: None, qos.reliable(10))
        assert ros.connected(probe, "joint_states", "object_poses", "episode_state")
        state = EpisodeState(
            Phase.RUNNING, episode=1, mode=Mode.TRAIN, run_id="r", seed=1, start_ns=T, stamp_ns=T
        )
        states.publish(conversions.episode_state_to_msg(state))
        ros.spin_until(lambda: False, timeout_s=0.3)
        for step, (names, poses) in enumerate(
            (
                ((), seen.object_poses),
                (JOINT_NAMES, seen.object_poses[:0]),
                *[(JOINT_NAMES, seen.object_poses)] * 8,
            )
        ):
            stamp_ns = (step + 1) * T
            position = seen.joint_position[: len(names)]
            joints.publish(
                conversions.joint_state_to_msg(stamp_ns, names, position, np.zeros(len(names)))
            )
            objects.publish(conversions.poses_to_msg(stamp_ns, poses, "base"))
            ros.spin_until(lambda: False, timeout_s=0.1)
        assert ros.spin_until(lambda: commands)
