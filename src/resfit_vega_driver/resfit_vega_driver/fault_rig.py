"""Faults against a living driver: one case, one try, one measured reaction.

The driver node in real time on the fake robot, over DDS, with a policy that commands at the
contract's rate; all on one executor of this process. Tests make one try of each case,
`benchmarks/faults.py` a hundred. Nothing here is part of a run on the robot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import Contract, load_contract
from resfit_core.control.press import Press
from resfit_core.control.safety import LIMITED, Reason
from resfit_interfaces.msg import ExecutedCommand, OperatorEvent
from resfit_ros import conversions, qos
from resfit_vega_driver.client import Ears
from resfit_vega_driver.clients import make_client
from resfit_vega_driver.fake_client import FakeClient
from resfit_vega_driver.vega_driver_node import VegaDriverNode

Order = tuple[Sequence[str], np.ndarray, int]
"""Joint names, target [rad], stamp [ns]."""

_SETTLE_TICKS = 4  # sound ticks in a row before a fault
_NOD_RAD = 0.012  # the policy moves head and one arm by so much per tick
_HEAD, _ARM = 27, 6
_BELOW_THE_TABLE = (-1.30, -0.311, 0.281, -1.596, -0.397, 0.549, 0.542)


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: Key in the matrix.
        reason: What the driver must name.
        what: What happens, for people.
        limit_s: Configured limit: from the last sound command or measurement to the hold.
        spoil: Changes what the policy sends; None from it: nothing is sent.
        start: Does something to robot or driver as the fault begins.
        holds: False: the command is altered and the robot goes on within limits.
    """

    name: str
    reason: Reason
    what: str
    limit_s: float
    spoil: Callable[[Rig, Order], Order | None] | None = None
    start: Callable[[Rig], None] | None = None
    holds: bool = True


@dataclass(frozen=True)
class Try:
    """What one try showed.

    Attributes:
        named: The driver gave the reason.
        to_hold_s: From the last sound command (or the fault's begin) to the first answer with the
            reason [s]; inf: none came.
        late: `to_hold_s` is above the limit and one period.
        moved_on_stale: The robot got another target after limit and period.
        moved_after_hold: The robot got another target after the hold was answered; whatever the
            clock says, so that tests on a busy machine can rest on it.
        outside: Targets outside the contract's limits that reached the robot.
        recovered: Sound commands were carried out again afterwards.
    """

    named: bool
    to_hold_s: float
    late: bool
    moved_on_stale: bool
    moved_after_hold: bool
    outside: int
    recovered: bool


class Rig:
    """Driver, fake robot and policy; time is the machine's."""

    def __init__(self, graph: Any, config: Path, client: str = "fake") -> None:
        """Bring everything up.

        Args:
            graph: A `resfit_ros.testing.Graph`.
            config: The `config` folder.
            client: `fake`; or `twin`: a fake robot behind the twin's topics.
        """
        files = {
            "robot_file": str(config / "robot/vega_1.yaml"),
            "task_file": str(config / "task/woolly_ball_pnp.yaml"),
        }
        self.contract = load_contract(*files.values())
        self.graph = graph
        self.node = graph.add(VegaDriverNode, {**files, "clock": "realtime", "client": client})
        self.node.get_logger().set_level(50)  # hundreds of faults on purpose
        probe = graph.probe()
        self.robot: FakeClient = self.node._client
        if client == "twin":
            self.robot = self._behind_topics(probe, files["robot_file"])
        self.start = self.robot.position.copy()
        self._policy = probe.create_publisher(JointTrajectory, "policy_command", qos.reliable(10))
        self._button = probe.create_publisher(OperatorEvent, "operator_event", qos.reliable(10))
        self.answers: list[tuple[float, ExecutedCommand]] = []
        self._heard = probe.create_subscription(
            ExecutedCommand,
            "executed_command",
            lambda msg: self.answers.append((time.monotonic(), msg)),
            qos.reliable(400),
        )
        self.period_s, self._step, self._next = self.contract.period_s, 0, time.monotonic()
        self._well_s: float | None = None  # when the last sound command of a try was sent
        if not graph.connected(probe, "policy_command", "executed_command", "operator_event"):
            raise RuntimeError("driver and probe do not see each other; is DDS set up?")

    def _behind_topics(self, probe: Any, robot_file: str) -> FakeClient:
        """Return a fake robot that hears and speaks by the twin's topics."""
        robot = make_client("fake", robot_file, probe, self.contract, "realtime")
        names, quality = self.contract.joint_names, qos.sensor("realtime")
        joints = probe.create_publisher(JointState, "joint_states", quality)
        wrists = [
            probe.create_publisher(WrenchStamped, f"{name}/wrench", quality)
            for name in self.contract.wrenches
        ]
        robot.open(
            Ears(
                lambda at, q, v: joints.publish(conversions.joint_state_to_msg(at, names, q, v)),
                lambda k, at, w: wrists[k].publish(conversions.wrench_to_msg(at, w)),
                lambda pressed: None,
            )
        )
        self._timer = probe.create_timer(robot.poll_period_s, robot.poll)
        self._commands = probe.create_subscription(
            JointTrajectory,
            "joint_command",
            lambda msg: robot.send(0, np.array(msg.points[0].positions, np.float64)),
            qos.reliable(10),
        )
        return robot

    def take_outside(self) -> int:
        """Return how many targets outside the limits reached the robot since the last call."""
        outside = self._outside()
        self.robot.sent.clear()
        return outside

    def press(self, kind: Press) -> None:
        """Press the operator's button."""
        self._button.publish(OperatorEvent(kind=int(kind), source="fault_rig"))

    def order(self) -> Order:
        """Return a sound command: a slow nod about the start."""
        self._step += 1
        target = self.start.copy()
        swing = abs(self._step % 40 - 20) - 10  # a triangle of constant slope
        target[[_HEAD, _ARM]] += _NOD_RAD * swing
        jump = self.robot._value("jump") or 0.0
        return self.contract.joint_names, target, time.time_ns() + int(1e9 * jump)

    def send(self, order: Order) -> float:
        """Send a command; return when [s], steady clock."""
        names, target, stamp_ns = order
        self._policy.publish(conversions.trajectory_to_msg(stamp_ns, names, target))
        return time.monotonic()

    def wait(self) -> None:
        """Spin until the policy's next tick."""
        self._next = max(self._next + self.period_s, time.monotonic())
        self.graph.spin_until(lambda: time.monotonic() >= self._next, timeout_s=5.0)

    def settle(self, ticks: int = 200) -> float | None:
        """Command soundly until all is well; return when the last such command was sent [s]."""
        self.robot.mend()
        well = 0
        for _ in range(ticks):
            if self.node._core.stopped:
                self.press(Press.REARM)
            before = len(self.answers)
            sent = self.send(self.order())
            self.wait()
            new = [msg for _, msg in self.answers[before:]]
            held = any(m.source == ExecutedCommand.HOLD for m in new)
            sound = [m for m in new if m.source == ExecutedCommand.POLICY and not m.reasons]
            # On a busy machine some answers come a tick later, two at once.
            well = 0 if held else well + len(sound)
            if well >= _SETTLE_TICKS and sound:
                return sent
        return None

    def attempt(self, case: Case) -> Try:
        """Make one try of a case.

        Raises:
            RuntimeError: The driver was not well before.
        """
        began, self._well_s = self._well_s, None
        if began is None or time.monotonic() - began > 2 * self.period_s:
            began = self.settle()
        if began is None:
            raise RuntimeError(f"{case.name}: no sound tick before the fault: {self.answers[-1:]}")
        self.answers.clear()
        self.robot.sent.clear()
        if case.start is not None:
            began = time.monotonic()
            case.start(self)
        allowed = case.limit_s + self.period_s
        end = began + allowed + 3 * self.period_s
        while time.monotonic() < end and (case.holds or not self._named(case)):
            order = self.order()
            if case.spoil is not None:
                order = case.spoil(self, order)
            if order is not None:
                self.send(order)
            self.wait()
        named = self._named(case)
        to_hold = named[0][0] - began if named else float("inf")
        moved = case.holds and self._moved_after(began + allowed)
        after = bool(case.holds and named and self._moved_after(named[0][0]))
        outside = self._outside()
        self._well_s = self.settle()
        late = to_hold > allowed
        recovered = self._well_s is not None
        return Try(bool(named), to_hold, late, moved, after, outside, recovered)

    def _named(self, case: Case) -> list[tuple[float, ExecutedCommand]]:
        return [
            (at, msg)
            for at, msg in self.answers
            if msg.reasons & case.reason and (msg.source == ExecutedCommand.HOLD or not case.holds)
        ]

    def _moved_after(self, deadline: float) -> bool:
        late = [target for at, _, target in self.robot.sent if at / 1e9 > deadline]
        held = np.array(self.answers[-1][1].action_rad) if self.answers else None
        return any(held is None or not np.array_equal(target, held) for target in late)

    def _outside(self) -> int:
        contract = self.contract
        return sum(
            bool(np.any(t < contract.lower) or np.any(t > contract.upper) or np.isnan(t).any())
            for _, _, t in self.robot.sent
        )


def _target(change: Callable[[Rig, np.ndarray], np.ndarray]) -> Callable[[Rig, Order], Order]:
    return lambda rig, o: (o[0], change(rig, o[1]), o[2])


def _set(joints: dict[str, float]) -> Callable[[Rig, np.ndarray], np.ndarray]:
    def change(rig: Rig, target: np.ndarray) -> np.ndarray:
        for name, value in joints.items():
            target[rig.contract.joint_names.index(name)] = value
        return target

    return change


def _fault(kind: str, value: float = 0.0) -> Callable[[Rig], None]:
    return lambda rig: rig.robot.fault(kind, value=value)


def _release(rig: Rig, order: Order) -> Order:
    """Release the stop as soon as it was seen; nobody re-arms, so the latch must stay."""
    if rig.node._core.stopped:
        rig.robot.mend()
    return order


def cases(contract: Contract) -> list[Case]:
    """Return the matrix's message faults, with the limits of the contract."""
    command, state = contract.command_timeout_s, contract.max_observation_age_s
    frozen = contract.safety.frozen_state_s if contract.safety else 0.0
    old = round(1.2e9 * command)
    low = {f"R_arm_j{k}": v for k, v in enumerate(_BELOW_THE_TABLE, start=1)}
    fist = {"R_th_j0": 1.25, "R_th_j1": -0.32, "R_ff_j1": -0.63}
    R = Reason  # noqa: N806 (the table stays readable)
    return [
        Case("nan", R.NOT_FINITE, "one target is not a number", command,
             _target(lambda _, t: np.where(np.arange(len(t)) == 3, np.nan, t))),
        Case("inf", R.NOT_FINITE, "one target is infinite", command,
             _target(lambda _, t: np.where(np.arange(len(t)) == 3, np.inf, t))),
        Case("wrong_length", R.WRONG_LENGTH, "28 targets", command,
             lambda _, o: (o[0], o[1][:-1], o[2])),
        Case("wrong_order", R.WRONG_ORDER, "two joints exchanged: another contract", command,
             lambda _, o: ((o[0][1], o[0][0], *o[0][2:]), o[1], o[2])),
        Case("stale_command", R.STALE_COMMAND, "commands on observations older than the limit",
             command, lambda _, o: (o[0], o[1], o[2] - old)),
        Case("future_stamp", R.CLOCK_JUMP, "commands stamped ten seconds ahead", command,
             lambda _, o: (o[0], o[1], o[2] + 10_000_000_000)),
        Case("silence", R.WATCHDOG, "no command any more", command, lambda _, o: None),
        Case("stale_joint_state", R.STALE_STATE, "no joint states any more", state,
             start=_fault("drop")),
        Case("late_joint_state", R.STALE_STATE, "joint states arrive 0.4 s late", state,
             start=_fault("delay", 0.4)),
        Case("nan_joint_state", R.STALE_STATE, "a joint is measured as not a number", state,
             start=_fault("nan")),
        Case("frozen_joints", R.FROZEN_STATE, "fresh stamps on joints that never change", frozen,
             start=_fault("freeze")),
        Case("force", R.FORCE_LIMIT, "150 N at the left wrist", 0.0, start=_fault("force", 150.0)),
        Case("estop", R.ESTOP, "the robot's emergency stop is pressed", 0.0,
             start=_fault("estop")),
        Case("estop_released", R.ESTOP, "pressed and released, nobody re-arms", 0.0, _release,
             start=_fault("estop")),
        Case("operator_estop", R.ESTOP, "an operator presses ESTOP", 0.0,
             start=lambda rig: rig.press(Press.ESTOP)),
        Case("client_refuses", R.CLIENT_ERROR, "the robot refuses targets", command,
             start=_fault("refuse")),
        Case("client_exception", R.CLIENT_ERROR, "the client raises what nobody foresaw", command,
             start=_fault("crash")),
        Case("clock_ahead", R.CLOCK_JUMP, "the clock is set ten seconds ahead", command,
             start=_fault("jump", 10.0), holds=False),
        Case("clock_back", R.CLOCK_JUMP, "the clock is set ten seconds back", command,
             start=_fault("jump", -10.0), holds=False),
        Case("jump", R.ACCELERATION_LIMIT, "a target 0.5 rad away at once", command,
             _target(lambda rig, t: t + 0.5 * (np.arange(len(t)) == _HEAD)), holds=False),
        Case("limit", R.POSITION_LIMIT, "a target beyond the joint's range", command,
             _target(_set({"head_j1": 9.0})), holds=False),
        Case("velocity", R.VELOCITY_LIMIT, "a target that needs ten times the speed", command,
             _target(_set({"head_j1": 1.4})), holds=False),
        Case("self_collision", R.SELF_COLLISION, "the index is closed through the thumb", 0.6,
             _target(_set(fist)), holds=False),
        Case("obstacle", R.OBSTACLE, "the right arm is driven into the table", 1.2,
             _target(_set(low)), holds=False),
    ]  # fmt: skip


def altering(case: Case) -> bool:
    """Whether the driver goes on, altered (true), or holds."""
    return bool(case.reason & LIMITED)
