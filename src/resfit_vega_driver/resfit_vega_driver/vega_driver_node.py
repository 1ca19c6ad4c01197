"""Node `vega_driver`: the only publisher of `joint_command`, the authoritative safety filter."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import numpy as np
from rclpy.clock import Clock, ClockType
from trajectory_msgs.msg import JointTrajectory

from resfit_core.base.action_space import load_action_space
from resfit_core.contract import ActionSpace
from resfit_core.control.driver import Answer, DriverCore
from resfit_core.control.safety import Reason, reason_words
from resfit_interfaces.msg import DriverState, ExecutedCommand
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.lifecycle import LifecycleNode
from resfit_ros.node import run_process
from resfit_ros.parameters import declare
from resfit_vega_driver.client import ClientError, RobotClient
from resfit_vega_driver.twin_client import TwinClient

_STATE_PERIOD_S = 0.2
_CLIENTS = {"twin": TwinClient}


class VegaDriverNode(LifecycleNode):
    """Answers every tick with `executed_command`, whatever became of it.

    What is sent, refused or held decides `DriverCore`; how it reaches the robot, the client.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare the parameters; refuse in words what does not fit."""
        super().__init__("vega_driver", **kwargs)
        self._contract = contract_from_parameters(self)
        self._clock_kind = declare(
            self, "clock", "lockstep", "lockstep: the twin waits for every answer; realtime: not",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        base = declare(
            self, "base", "", "base policy whose normalised action space the answers are told in; "
            "package.module:Class or empty: the joints' ranges",
        )  # fmt: skip
        client = declare(self, "client", "twin", "the robot behind", choices=tuple(_CLIENTS))
        # Before a base exists, and for experts without one, the ranges of the joints will do.
        self._space = (
            load_action_space(base, self._contract)
            if base
            else ActionSpace.from_limits(self._contract)
        )
        self._client: RobotClient = _CLIENTS[client](self, self._contract, self._clock_kind)
        self._core: DriverCore | None = None
        self._timers_of_mine: list[Any] = []
        self._mode = DriverState.INACTIVE

    def _setup(self) -> None:
        lockstep = self._clock_kind == "lockstep"
        self._core = DriverCore(self._contract, self._space, exact=lockstep)
        self._executed = self.create_publisher(
            ExecutedCommand, "executed_command", qos.reliable(400)
        )
        self._states = self.create_publisher(DriverState, "driver_state", qos.reliable(10))
        self._commands = self.create_subscription(
            JointTrajectory, "policy_command", self._on_command, qos.reliable(10)
        )
        self._client.open(self._on_state)
        # Neither a stopped simulation nor a stepped wall clock may keep the robot from holding.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timers = [(_STATE_PERIOD_S, self._say_state)]
        if not lockstep:
            timers.append((self._contract.command_timeout_s / 5, self._watch))
        self._timers_of_mine = [self.create_timer(s, f, clock=steady) for s, f in timers]

    def _deactivate(self) -> None:
        self._say_state()

    def _secure(self) -> None:
        if self._core is not None:
            self._client.stop(self._core.target_rad)

    def _teardown(self) -> None:
        for timer in self._timers_of_mine:
            self.destroy_timer(timer)
        self._timers_of_mine = []
        self._client.close()
        for name, destroy in (
            ("_commands", self.destroy_subscription),
            ("_executed", self.destroy_publisher),
            ("_states", self.destroy_publisher),
        ):
            entity = self.__dict__.pop(name, None)
            if entity is not None:
                destroy(entity)
        self._core = None

    def _on_state(self, stamp_ns: int, position_rad: np.ndarray) -> None:
        self._carry_out(self._core.measured(stamp_ns, position_rad, time.monotonic_ns()))

    def _on_command(self, msg: JointTrajectory) -> None:
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        if not self.active:
            self._carry_out(self._core.refuse(stamp_ns, Reason.NOT_ACTIVE))
            return
        # Not one point is not one target: the core refuses its length.
        target = msg.points[0].positions if len(msg.points) == 1 else ()
        self._carry_out(
            self._core.command(
                stamp_ns, msg.joint_names, np.array(target, np.float64), time.monotonic_ns()
            )
        )

    def _watch(self) -> None:
        if self.active:
            self._carry_out(self._core.watch(time.monotonic_ns()))

    def _carry_out(self, answer: Answer | None) -> None:
        if answer is None:
            return
        if answer.send and self.active:
            try:
                self._client.send(answer.executed.stamp_ns, answer.executed.action_rad)
            except ClientError as error:
                self.get_logger().error(f"{error}", throttle_duration_sec=5.0)
                answer = self._core.failed(answer)
        self._executed.publish(conversions.executed_to_msg(answer.executed))
        if self._mode_now() != self._mode:
            self._say_state()

    def _mode_now(self) -> int:
        if not self.active:
            return DriverState.INACTIVE
        return DriverState.HOLDING if self._core.holding else DriverState.ACTIVE

    def _say_state(self) -> None:
        status, mode = self._core.status(time.monotonic_ns()), self._mode_now()
        words = reason_words(status.reasons)
        if mode != self._mode and mode == DriverState.HOLDING:
            self.get_logger().warning(f"holds: {words}", throttle_duration_sec=5.0)
        self._mode = mode
        state = DriverState(
            mode=mode,
            reasons=status.reasons,
            reason=words,
            commands=status.commands,
            altered=status.altered,
            refused=status.refused,
            holds=status.holds,
            command_age_s=status.command_age_s,
        )
        state.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(state)


def main() -> NoReturn:
    """Run the node."""
    run_process(VegaDriverNode)


if __name__ == "__main__":
    main()
