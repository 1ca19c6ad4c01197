"""Client of everything that listens to `joint_command`: the twin, or a ros2_control robot."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import Contract
from resfit_core.control.observe import JointOrder, ObservationError
from resfit_ros import conversions, qos
from resfit_vega_driver.client import Ears

_ARRIVES = Duration(seconds=0.5)  # a subscriber that is hung keeps nobody for longer


class TwinClient:
    """Reads `joint_states` and wrenches; publishes `joint_command`, stamp of the observation."""

    poll_period_s = 0.0
    publishes = False

    def __init__(self, node: Node, contract: Contract, clock: str) -> None:
        """Prepare; nothing is opened before `open`.

        Args:
            node: Owns publisher and subscriptions.
            contract: Joint order, wrench streams.
            clock: `lockstep` or `realtime`.
        """
        self._node, self._clock = node, clock
        self._names, self._wrenches = contract.joint_names, contract.wrenches
        self._order = JointOrder(contract.joint_names)
        self._newest_ns = 0
        self._command = None
        self._subscriptions: list = []
        self._ears: Ears | None = None

    def open(self, ears: Ears) -> None:
        """Open the topics; see `RobotClient`."""
        self._ears, node, quality = ears, self._node, qos.sensor(self._clock)
        self._command = node.create_publisher(JointTrajectory, "joint_command", qos.reliable(10))
        self._subscriptions = [
            node.create_subscription(
                WrenchStamped,
                f"{name}/wrench",
                functools.partial(self._on_wrench, stream),
                quality,
            )
            for stream, name in enumerate(self._wrenches)
        ]
        self._subscriptions.append(
            node.create_subscription(JointState, "joint_states", self._on_state, quality)
        )

    def poll(self) -> None:
        """Nothing: the topics call."""

    def _on_state(self, msg: JointState) -> None:
        stamp_ns, names, position, velocity = conversions.joint_state_from_msg(msg)
        try:
            position = self._order.sort(names, position)
        except ObservationError as error:
            # As if it had not come: the driver holds once the last sound one is too old.
            self._node.get_logger().error(
                f"joint state dropped: {error}", throttle_duration_sec=5.0
            )
            return
        self._newest_ns = stamp_ns
        self._ears.state(stamp_ns, position, velocity)

    def _on_wrench(self, stream: int, msg: WrenchStamped) -> None:
        self._ears.wrench(stream, *conversions.wrench_from_msg(msg))

    def send(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Publish the targets; a message holds all or none by nature."""
        self._command.publish(conversions.trajectory_to_msg(stamp_ns, self._names, target_rad))

    def stop(self, target_rad: np.ndarray | None) -> None:
        """Command the target in force once more; in lock-step the twin stands still by itself."""
        if target_rad is not None and self._command is not None and self._clock == "realtime":
            self.send(self._newest_ns, target_rad)

    def close(self) -> None:
        """Close all topics."""
        with contextlib.suppress(TypeError, ValueError):
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            if self._command is not None:
                # The last command, the safe one, must have arrived before its publisher goes.
                self._command.wait_for_all_acked(_ARRIVES)
                self._node.destroy_publisher(self._command)
        self._command, self._subscriptions = None, []
