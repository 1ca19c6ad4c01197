"""Node `teleop`: a person drives the robot by gamepad or keyboard while they hold the switch."""

from __future__ import annotations

import sys
import time
from typing import Any, NoReturn

import numpy as np
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from resfit_core.control.jog import Jog, load_jog
from resfit_core.control.safety import Reason
from resfit_interfaces import msg as ours
from resfit_reward.keyboard import Keyboard
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.dds import use_profile
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import ParameterError, declare

_JOY_SILENT_S = 0.5
_RELEASES = 3  # the word that the switch is open is said so often


class TeleopNode(Node):
    """Publishes `teleop_deadman` and, while it is held, `teleop_command`.

    What a control moves decides `Jog`; whether the robot obeys, the driver. Other devices, leader
    arms for example, publish the two topics themselves.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Open the inputs."""
        super().__init__("teleop", **kwargs)
        contract = contract_from_parameters(self)
        clock = declare(
            self, "clock", "lockstep", "lockstep: commands count as they come; realtime: stamped",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        mapping = declare(self, "teleop_mapping", "", "YAML of what controls move; required")
        keyboard = declare(self, "keyboard", True, "keys of this terminal drive, too")
        if not mapping:
            raise ParameterError(
                "parameter 'teleop_mapping' is empty; give config/operator/teleop.yaml or a copy"
            )
        self._settings = load_jog(mapping, contract)
        self._jog = Jog(self._settings, contract)
        self._names, self._period_s = contract.joint_names, contract.period_s
        self._lockstep = clock == "lockstep"
        self._in_force: np.ndarray | None = None
        self._joy, self._joy_s = Joy(), -1.0
        self._key, self._key_s = "", -1.0
        self._releases = 0
        self._hand = self.create_publisher(Bool, "teleop_deadman", qos.reliable(10))
        self._commands = self.create_publisher(JointTrajectory, "teleop_command", qos.reliable(10))
        self.create_subscription(Joy, "joy", self._on_joy, qos.sensor("realtime"))
        self.create_subscription(
            ours.ExecutedCommand, "executed_command", self._on_executed, qos.reliable(10)
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(contract.period_s, self._tick, clock=steady)
        self._keyboard: Keyboard | None = None
        if keyboard:
            self._keyboard = Keyboard(
                sys.stdin.fileno(), lambda key: self.call_soon(lambda: self._on_key(key))
            )

    def start(self) -> None:
        """Take the keyboard, once the executor is there."""
        if self._keyboard is not None:
            why_not = self._keyboard.start()
            keys = " ".join(str(c) for device, c in self._settings.moves if device == "keys")
            words = f"no keyboard: {why_not}" if why_not else f"hold a key to drive: {keys}"
            self.get_logger().info(f"{words}; gamepad: hold button {self._settings.deadman}")

    def stop(self) -> None:
        """Give the terminal back, and the robot."""
        if self._keyboard is not None:
            self._keyboard.stop()
        self._hand.publish(Bool(data=False))

    def _on_executed(self, msg: ours.ExecutedCommand) -> None:
        target = np.array(msg.action_rad, np.float64)
        known = len(target) == len(self._names) and np.isfinite(target).all()
        if known and not msg.reasons & Reason.NOT_ACTIVE:
            self._in_force = target

    def _on_joy(self, msg: Joy) -> None:
        self._joy, self._joy_s = msg, time.monotonic()

    def _on_key(self, key: str) -> None:
        if ("keys", key) in self._settings.moves:
            self._key, self._key_s = key, time.monotonic()

    def _tick(self) -> None:
        now_s = time.monotonic()
        by_key = now_s - self._key_s < self._settings.key_hold_s
        heard = now_s - self._joy_s < _JOY_SILENT_S
        button = self._settings.deadman
        by_pad = len(self._joy.buttons) > button and bool(self._joy.buttons[button])
        if by_pad and not heard:
            return  # a gamepad that fell silent while it was held: so does this, the driver holds
        if not by_key and not by_pad:
            self._let_go()
            return
        self._releases = _RELEASES
        self._hand.publish(Bool(data=True))
        if self._in_force is None:
            self.get_logger().info("waits for the driver's first word", throttle_duration_sec=2.0)
            return
        deflections = {("keys", self._key): 1.0} if by_key else {}
        if by_pad:
            deflections |= {("axes", i): value for i, value in enumerate(self._joy.axes)}
            deflections |= {("buttons", i): float(v) for i, v in enumerate(self._joy.buttons)}
        target = self._jog.step(self._in_force, deflections, self._period_s)
        stamp_ns = 0 if self._lockstep else self.get_clock().now().nanoseconds
        self._commands.publish(conversions.trajectory_to_msg(stamp_ns, self._names, target))

    def _let_go(self) -> None:
        self._jog.release()
        if self._releases:
            self._releases -= 1
            self._hand.publish(Bool(data=False))


def main() -> NoReturn:
    """Run the node."""
    use_profile("safe")
    run_process(TeleopNode)


if __name__ == "__main__":
    main()
