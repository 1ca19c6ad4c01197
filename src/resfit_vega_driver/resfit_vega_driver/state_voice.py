"""What the driver says of itself on `driver_state`."""

from __future__ import annotations

import time

from rclpy.node import Node

from resfit_core.control.driver import DriverCore
from resfit_core.control.safety import reason_words
from resfit_interfaces.msg import DriverState
from resfit_ros import conversions, qos


class StateVoice:
    """Tells mode, reasons and counts; warns once where the robot begins to be held."""

    def __init__(self, node: Node, core: DriverCore) -> None:
        """Open the topic."""
        self._node, self._core = node, core
        self._mode = DriverState.INACTIVE
        self._said: tuple[int, ...] = ()
        self._out = node.create_publisher(DriverState, "driver_state", qos.reliable(10))

    def say_change(self, active: bool) -> None:
        """Publish if mode, who commands, or the start pose are others than last said."""
        if self._gist(active) != self._said:
            self.say(active)

    def say(self, active: bool) -> None:
        """Publish; `active` as the node is."""
        status, mode = self._core.status(time.monotonic_ns()), self._mode_now(active)
        words = reason_words(status.reasons)
        if mode != self._mode and mode in (DriverState.HOLDING, DriverState.ESTOPPED):
            self._node.get_logger().warning(f"holds: {words}", throttle_duration_sec=5.0)
        self._mode, self._said = mode, self._gist(active)
        now_ns = self._node.get_clock().now().nanoseconds
        self._out.publish(conversions.driver_status_to_msg(now_ns, mode, words, status))

    def close(self) -> None:
        """Close the topic."""
        self._node.destroy_publisher(self._out)

    def _gist(self, active: bool) -> tuple[int, ...]:
        return self._mode_now(active), self._core.source, self._core.arbiter.at_start

    def _mode_now(self, active: bool) -> int:
        if not active:
            return DriverState.INACTIVE
        if self._core.stopped:
            return DriverState.ESTOPPED
        return DriverState.HOLDING if self._core.holding else DriverState.ACTIVE
