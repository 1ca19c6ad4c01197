"""Node `vega_driver`: the only publisher of `joint_command`, the authoritative safety filter."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NoReturn

import numpy as np
from rclpy.clock import Clock, ClockType
from trajectory_msgs.msg import JointTrajectory

from resfit_core.action_space import ActionSpace
from resfit_core.base.action_space import load_action_space
from resfit_core.control.answers import Answer
from resfit_core.control.driver import DriverCore
from resfit_core.control.records import Source
from resfit_core.control.safety import Reason
from resfit_interfaces.msg import ExecutedCommand
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.dds import use_profile
from resfit_ros.lifecycle import LifecycleNode
from resfit_ros.node import run_process
from resfit_ros.parameters import declare
from resfit_vega_driver.client import ClientError, Ears, RobotClient
from resfit_vega_driver.clients import NAMES, make_client
from resfit_vega_driver.command_times import CommandTimes
from resfit_vega_driver.measured_topics import MeasuredTopics
from resfit_vega_driver.person import PersonSettings, PersonTopics
from resfit_vega_driver.state_voice import StateVoice
from resfit_vega_driver.stop_topics import StopTopics

_STATE_PERIOD_S = 0.2
_TOUCHES = Reason.SELF_COLLISION | Reason.OBSTACLE
_WATCHES_PER_TIMEOUT = 10  # silence is noticed at most a tenth of the timeout late


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
        client = declare(
            self, "client", "", "the robot behind; empty: as <robot>.driver.yaml beside the "
            "robot YAML says, the twin where there is none", choices=("", *NAMES),
        )  # fmt: skip
        self._person_settings = PersonSettings.declared(self, self._contract, self._clock_kind)
        # Before a base exists, and for experts without one, the ranges of the joints will do.
        self._space = (
            load_action_space(base, self._contract)
            if base
            else ActionSpace.from_limits(self._contract)
        )
        robot_file = self.get_parameter("robot_file").value
        self._client: RobotClient = make_client(
            client, robot_file, self, self._contract, self._clock_kind
        )
        self._core: DriverCore | None = None
        self._timers_of_mine: list[Any] = []

    def _setup(self) -> None:
        lockstep = self._clock_kind == "lockstep"
        self._core = DriverCore(
            self._contract, self._space, exact=lockstep, **self._person_settings._asdict()
        )
        self._executed = self.create_publisher(
            ExecutedCommand, "executed_command", qos.reliable(400)
        )
        self._voice = StateVoice(self, self._core)
        self._commands = self.create_subscription(
            JointTrajectory, "policy_command", self._on_command, qos.reliable(10)
        )
        self._person = PersonTopics(self, self._core, self._carry_out, self._say_state)
        self._stops = StopTopics(self, self._core, self._carry_out, self._say_state)
        self._loop = CommandTimes(self, self._contract, self._clock_kind)
        self._tell: MeasuredTopics | None = None
        if self._client.publishes:
            self._tell = MeasuredTopics(self, self._contract, self._clock_kind)
        self._client.open(Ears(self._on_state, self._on_wrench, self._on_estop))
        if self._contract.safety is None:
            self.get_logger().warning(
                f"robot '{self._contract.robot}' has no safety file: force, collisions and "
                "acceleration are not limited"
            )
        # Neither a stopped simulation nor a stepped wall clock may keep the robot from holding.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        watch_s = self._contract.command_timeout_s / _WATCHES_PER_TIMEOUT
        timers = [(_STATE_PERIOD_S, self._say_state), (watch_s, self._watch)]
        if not lockstep:
            timers.append((self._contract.period_s, self._drive))
        if self._client.poll_period_s:
            timers.append((self._client.poll_period_s, self._poll))
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
        for name in ("_tell", "_loop", "_voice", "_person", "_stops"):
            talker = self.__dict__.pop(name, None)
            if talker is not None:
                talker.close()
        for name, destroy in (
            ("_commands", self.destroy_subscription),
            ("_executed", self.destroy_publisher),
        ):
            entity = self.__dict__.pop(name, None)
            if entity is not None:
                destroy(entity)
        self._core = None

    def _poll(self) -> None:
        try:
            self._client.poll()
        except ClientError as error:
            # Nothing new is known: the driver refuses and holds once what it knows is too old.
            self.get_logger().error(f"{error}", throttle_duration_sec=5.0)

    def _on_state(self, stamp_ns: int, position_rad: np.ndarray, velocity: np.ndarray) -> None:
        if self._tell is not None:
            self._tell.state(stamp_ns, position_rad, velocity)
        self._carry_out(self._core.measured(stamp_ns, position_rad, time.monotonic_ns()))

    def _on_wrench(self, stream: int, stamp_ns: int, values: np.ndarray) -> None:
        if self._tell is not None:
            self._tell.wrench(stream, stamp_ns, values)
        self._carry_out(self._core.wrench(stream, stamp_ns, values, time.monotonic_ns()))

    def _on_estop(self, pressed: bool) -> None:
        self._stops.robots_own(pressed)

    def _on_command(self, msg: JointTrajectory) -> None:
        if self._clock_kind == "lockstep":
            self._take_command(msg)
        else:
            # A stop or a wrench that waits in the executor's queue goes first.
            self.call_soon(partial(self._take_command, msg))

    def _take_command(self, msg: JointTrajectory) -> None:
        if self._core is None:
            return  # torn down meanwhile
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        if not self.active:
            self._carry_out(self._core.refuse(stamp_ns, Reason.NOT_ACTIVE))
            return
        # Not one point is not one target: the core refuses its length.
        target = msg.points[0].positions if len(msg.points) == 1 else ()
        taken_ns = time.monotonic_ns()
        answer = self._core.command(
            stamp_ns, msg.joint_names, np.array(target, np.float64), taken_ns
        )
        judged_ns = time.monotonic_ns()
        self._carry_out(answer)
        if answer is not None and answer.send and answer.executed.source != Source.HOLD:
            self._loop.sent(stamp_ns, taken_ns, judged_ns)

    def _watch(self) -> None:
        if self.active:
            self._carry_out(self._core.watch(time.monotonic_ns()))

    def _drive(self) -> None:
        if self.active:
            self._carry_out(self._core.drive(time.monotonic_ns()))

    def _carry_out(self, answer: Answer | None) -> None:
        if answer is None:
            return
        if answer.send and self.active:
            try:
                self._client.send(answer.executed.stamp_ns, answer.executed.action_rad)
            except Exception as error:
                # Whatever it is: nothing was sent, and the robot is held by what was sent before.
                kind = "" if isinstance(error, ClientError) else f"{type(error).__name__}: "
                self.get_logger().error(f"not sent: {kind}{error}", throttle_duration_sec=5.0)
                answer = self._core.failed(answer)
        self._executed.publish(conversions.executed_to_msg(answer.executed))
        if answer.executed.reasons & _TOUCHES:
            pairs = ", ".join(" and ".join(pair) for pair in self._core.touched)
            self.get_logger().warning(f"stopped short of: {pairs}", throttle_duration_sec=2.0)
        self._voice.say_change(self.active)

    def _say_state(self) -> None:
        self._voice.say(self.active)


def main() -> NoReturn:
    """Run the node."""
    use_profile("safe")
    run_process(VegaDriverNode, urgent=True, rank=3)


if __name__ == "__main__":
    main()
