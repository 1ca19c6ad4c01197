"""Emergency stop and re-arming: the operator's presses, the service, the robot's own button."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Trigger

from resfit_core.control.answers import Answer
from resfit_core.control.driver import DriverCore
from resfit_core.control.press import Press
from resfit_interfaces.msg import OperatorEvent
from resfit_ros import qos


class StopTopics:
    """Hears who stops and who re-arms; tells the episode manager of the robot's own stop."""

    def __init__(
        self,
        node: Node,
        core: DriverCore,
        carry_out: Callable[[Answer | None], None],
        say_state: Callable[[], None],
    ) -> None:
        """Open topics and service.

        Args:
            node: Owns them.
            core: Latches and re-arms.
            carry_out: Called with the hold.
            say_state: Called where the latch may have changed.
        """
        self._node, self._core = node, core
        self._carry_out, self._say_state = carry_out, say_state
        # An operator's stop: whoever presses it, and however often.
        self._presses = node.create_subscription(
            OperatorEvent, "operator_event", self._on_press, qos.reliable(100)
        )
        self._events = node.create_publisher(OperatorEvent, "operator_event", qos.reliable(100))
        self._rearm = node.create_service(Trigger, "~/rearm", self._on_rearm)

    def robots_own(self, pressed: bool) -> None:
        """Take the state of the robot's emergency stop."""
        words = "is pressed" if pressed else "is released; re-arm when the robot may move"
        self._node.get_logger().warning(f"the robot's emergency stop {words}")
        self._carry_out(self._core.estop(pressed))
        if pressed:
            # The episode cannot go on either: the manager aborts it and pauses the run.
            event = OperatorEvent(kind=int(Press.ESTOP), source=self._node.get_name())
            event.reason = "the robot's emergency stop is pressed"
            self._events.publish(event)
        self._say_state()

    def close(self) -> None:
        """Close topics and service."""
        self._node.destroy_service(self._rearm)
        self._node.destroy_subscription(self._presses)
        self._node.destroy_publisher(self._events)

    def _on_press(self, msg: OperatorEvent) -> None:
        if msg.kind == Press.ESTOP:
            if not self._core.stopped:
                who = msg.source or "nobody"
                self._node.get_logger().warning(f"emergency stop, pressed by {who}")
            self._carry_out(self._core.press_estop())
            self._say_state()
        elif msg.kind == Press.REARM:
            self._take_off(msg.source)

    def _on_rearm(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        why_not = self._take_off("~/rearm")
        response.success, response.message = not why_not, why_not or "re-armed"
        return response

    def _take_off(self, who: str) -> str:
        why_not = self._core.rearm(time.monotonic_ns())
        if why_not:
            self._node.get_logger().warning(f"not re-armed, as {who} asked: {why_not}")
        else:
            self._node.get_logger().warning(f"re-armed by {who}; starts from the measured pose")
        self._say_state()
        return why_not
