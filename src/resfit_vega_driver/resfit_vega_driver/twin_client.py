"""Client of everything that listens to `joint_command`: the twin, or a ros2_control robot."""

from __future__ import annotations

import contextlib

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import Contract
from resfit_core.control.observe import JointOrder
from resfit_ros import conversions, qos
from resfit_vega_driver.client import OnState


class TwinClient:
    """Reads `joint_states`, publishes `joint_command` with the stamp of the observation."""

    def __init__(self, node: Node, contract: Contract, clock: str) -> None:
        """Prepare; nothing is opened before `open`.

        Args:
            node: Owns publisher and subscription.
            contract: Joint order.
            clock: `lockstep` or `realtime`.
        """
        self._node, self._clock = node, clock
        self._names = contract.joint_names
        self._order = JointOrder(contract.joint_names)
        self._newest_ns = 0
        self._command = self._states = None

    def open(self, on_state: OnState) -> None:
        """Open both topics; see `RobotClient`."""
        self._command = self._node.create_publisher(
            JointTrajectory, "joint_command", qos.reliable(10)
        )

        def take(msg: JointState) -> None:
            self._newest_ns = conversions.stamp_from_msg(msg.header.stamp)
            position = self._order.sort(tuple(msg.name), np.array(msg.position, np.float64))
            on_state(self._newest_ns, position)

        self._states = self._node.create_subscription(
            JointState, "joint_states", take, qos.sensor(self._clock)
        )

    def send(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Publish the targets; a message holds all or none by nature."""
        self._command.publish(conversions.trajectory_to_msg(stamp_ns, self._names, target_rad))

    def stop(self, target_rad: np.ndarray | None) -> None:
        """Command the target in force once more; in lock-step the twin stands still by itself."""
        if target_rad is not None and self._command is not None and self._clock == "realtime":
            self.send(self._newest_ns, target_rad)

    def close(self) -> None:
        """Close both topics."""
        for entity, destroy in (
            (self._states, self._node.destroy_subscription),
            (self._command, self._node.destroy_publisher),
        ):
            with contextlib.suppress(TypeError, ValueError):
                if entity is not None:
                    destroy(entity)
        self._command = self._states = None
