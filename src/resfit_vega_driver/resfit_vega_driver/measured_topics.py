"""What a robot without topics of its own measures, told on the topics."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState

from resfit_core.contract import Contract
from resfit_ros import conversions, qos


class MeasuredTopics:
    """Publishes `joint_states` and the wrists' wrenches."""

    def __init__(self, node: Node, contract: Contract, clock: str) -> None:
        """Open the topics; `clock` is `lockstep` or `realtime`."""
        self._node, self._names, self._streams = node, contract.joint_names, contract.wrenches
        quality = qos.sensor(clock)
        self._joints = node.create_publisher(JointState, "joint_states", quality)
        self._wrists = [
            node.create_publisher(WrenchStamped, f"{name}/wrench", quality)
            for name in self._streams
        ]

    def state(self, stamp_ns: int, position_rad: np.ndarray, velocity: np.ndarray) -> None:
        """Tell joint positions [rad] and velocities [rad/s]; contract order."""
        self._joints.publish(
            conversions.joint_state_to_msg(stamp_ns, self._names, position_rad, velocity)
        )

    def wrench(self, stream: int, stamp_ns: int, values: np.ndarray) -> None:
        """Tell force [N] and torque [Nm] of the contract's stream of this number."""
        name = self._streams[stream]
        self._wrists[stream].publish(conversions.wrench_to_msg(stamp_ns, values, name))

    def close(self) -> None:
        """Close the topics."""
        for publisher in (self._joints, *self._wrists):
            self._node.destroy_publisher(publisher)
