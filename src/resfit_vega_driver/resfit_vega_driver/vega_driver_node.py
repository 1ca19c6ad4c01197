"""Node `vega_driver`: the only publisher of `joint_command`, the authoritative safety filter."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from resfit_core.base.action_space import load_action_space
from resfit_core.contract import ActionSpace
from resfit_core.control.answers import Answer
from resfit_core.control.driver import DriverCore
from resfit_core.control.press import Press
from resfit_core.control.records import Source
from resfit_core.control.safety import Reason
from resfit_interfaces.msg import ExecutedCommand, OperatorEvent
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.lifecycle import LifecycleNode
from resfit_ros.node import run_process
from resfit_ros.parameters import declare
from resfit_vega_driver.client import ClientError, Ears, RobotClient
from resfit_vega_driver.clients import NAMES, make_client
from resfit_vega_driver.command_times import CommandTimes
from resfit_vega_driver.person import PersonSettings, PersonTopics
from resfit_vega_driver.state_voice import StateVoice

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
        # An operator's stop: whoever presses it, and however often.
        self._presses = self.create_subscription(
            OperatorEvent, "operator_event", self._on_press, qos.reliable(100)
        )
        self._events = self.create_publisher(OperatorEvent, "operator_event", qos.reliable(100))
        self._loop = CommandTimes(self, self._contract, self._clock_kind)
        self._rearm = self.create_service(Trigger, "~/rearm", self._on_rearm)
        self._tell: list[Any] = []
        if self._client.publishes:
            quality = qos.sensor(self._clock_kind)
            self._tell = [
                self.create_publisher(JointState, "joint_states", quality),
                *(
                    self.create_publisher(WrenchStamped, f"{name}/wrench", quality)
                    for name in self._contract.wrenches
                ),
            ]
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
        for publisher in self.__dict__.pop("_tell", []):
            self.destroy_publisher(publisher)
        for name in ("_loop", "_voice", "_person"):
            talker = self.__dict__.pop(name, None)
            if talker is not None:
                talker.close()
        for name, destroy in (
            ("_rearm", self.destroy_service),
            ("_presses", self.destroy_subscription),
            ("_commands", self.destroy_subscription),
            ("_events", self.destroy_publisher),
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
        if self._tell:
            names = self._contract.joint_names
            self._tell[0].publish(
                conversions.joint_state_to_msg(stamp_ns, names, position_rad, velocity)
            )
        self._carry_out(self._core.measured(stamp_ns, position_rad, time.monotonic_ns()))

    def _on_wrench(self, stream: int, stamp_ns: int, values: np.ndarray) -> None:
        if self._tell:
            name = self._contract.wrenches[stream]
            self._tell[1 + stream].publish(conversions.wrench_to_msg(stamp_ns, values, name))
        self._carry_out(self._core.wrench(stream, stamp_ns, values, time.monotonic_ns()))

    def _on_estop(self, pressed: bool) -> None:
        words = "is pressed" if pressed else "is released; re-arm when the robot may move"
        self.get_logger().warning(f"the robot's emergency stop {words}")
        self._carry_out(self._core.estop(pressed))
        if pressed:
            # The episode cannot go on either: the manager aborts it and pauses the run.
            event = OperatorEvent(
                kind=int(Press.ESTOP),
                source=self.get_name(),
                reason="the robot's emergency stop is pressed",
            )
            self._events.publish(event)
        self._say_state()

    def _on_press(self, msg: OperatorEvent) -> None:
        if msg.kind == Press.ESTOP:
            if not self._core.stopped:
                self.get_logger().warning(f"emergency stop, pressed by {msg.source or 'nobody'}")
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
            self.get_logger().warning(f"not re-armed, as {who} asked: {why_not}")
        else:
            self.get_logger().warning(f"re-armed by {who}; starts from the measured pose")
        self._say_state()
        return why_not

    def _on_command(self, msg: JointTrajectory) -> None:
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
    run_process(VegaDriverNode, urgent=True)


if __name__ == "__main__":
    main()
