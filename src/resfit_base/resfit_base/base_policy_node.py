"""Node `base_policy`: joins the sensors, builds the observation once, asks the frozen base."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from resfit_base.cameras import CameraWatch
from resfit_base.sensors import TimedObserver, streams
from resfit_core.base.checkpoint import load_base
from resfit_core.base.protocol import BaseError, observation_fields
from resfit_core.blind.mask import Mask
from resfit_core.blind.seal import read_mask
from resfit_core.control.observe import ObservationError
from resfit_core.control.records import PolicyStep, Source
from resfit_core.control.safety import Reason
from resfit_core.control.tick import ActionError, BaseTick
from resfit_interfaces import msg as ours
from resfit_ros import conversions, peek, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.joining import make_joiner
from resfit_ros.loop_stats import LoopWatch
from resfit_ros.node import REFUSED, Node, run_process
from resfit_ros.parameters import ParameterError, declare

_SAY_EVERY_S = 5.0


class BasePolicyNode(Node):
    """Owns the tick: each joined set of a running episode gets exactly one `policy_step`.

    In lock-step a set is answered when its last member arrives; in real time a timer at the
    control rate takes the newest set. What is answered, and when, decides `BaseTick`.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Load contract and base; refuse in words what does not fit."""
        super().__init__("base_policy", **kwargs)
        contract = contract_from_parameters(self)
        clock = declare(
            self, "clock", "lockstep", "lockstep: the twin waits; realtime: a timer at the rate",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        path = declare(self, "base", "", "base policy: .safetensors, .pt or package.module:Class")
        if not path:
            raise ParameterError("parameter 'base' is empty; give the base policy's file")
        base = load_base(path, contract)
        fields = observation_fields(base, contract)
        self._lockstep = clock == "lockstep"
        self._max_age_ns = round(contract.max_observation_age_s * 1e9)
        period_ns = round(contract.period_s * 1e9)
        self._observe = TimedObserver(contract, fields)
        self._tick = BaseTick(
            base, self._observe, contract.sha256, base.base_sha256,
            period_ns=period_ns, lockstep=self._lockstep,
            born_ns=self.get_clock().now().nanoseconds, horizon_steps=contract.horizon_steps,
        )  # fmt: skip
        stages = ("observation", "base")
        stages = stages if self._lockstep else ("camera_to_tick", *stages)
        self._loop = LoopWatch(self, contract.period_s, stages, clock)
        seal = declare(self, "seal", "", "folder of a blind evaluation's seal; empty: not blind")
        self._mask = Mask(read_mask(Path(seal))) if seal else None
        self._said: tuple[PolicyStep | None, Any] = (None, None)
        self._reported = 0
        self._steps_out = self.create_publisher(ours.PolicyStep, "policy_step", qos.reliable(10))
        self._events_out = self.create_publisher(
            ours.OperatorEvent, "operator_event", qos.reliable(100)
        )
        self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        self.create_subscription(
            ours.ExecutedCommand, "executed_command", self._on_executed, qos.reliable(400),
            raw=True,
        )  # fmt: skip
        sensors = streams(contract, contract.images, fields)
        self._cameras = CameraWatch(contract, self.get_parameter("robot_file").value)
        self._joiner = make_joiner(
            [s.topic for s in sensors], exact=self._lockstep, slack_ns=self._max_age_ns
        )
        for stream in sensors:
            self.create_subscription(
                stream.msg_type, stream.topic, self._on_sensor(stream.topic), qos.sensor(clock)
            )
        if not self._lockstep:
            self.create_timer(contract.period_s, self._on_timer)
            self.create_timer(_SAY_EVERY_S, self._report_drops)
            if "OMP_NUM_THREADS" not in os.environ:
                self.get_logger().warning(
                    "OMP_NUM_THREADS is not set: numpy takes every core and waits for each, and "
                    "ticks come late; set it to 1, as `resfit run` and the launch files do"
                )

    def _on_state(self, msg: ours.EpisodeState) -> None:
        # Without anybody who could take over, nothing waits for the driver's word.
        self._tick.follows_driver = self._lockstep and self.count_publishers("teleop_command") > 0
        self._answer(lambda: self._tick.on_state(conversions.episode_state_from_msg(msg)))

    def _on_executed(self, data: bytes) -> None:
        try:
            stamp_ns, source, reasons = peek.executed_source(data)
        except conversions.ConversionError as error:
            self.get_logger().error(
                f"executed_command dropped: {error}", throttle_duration_sec=1.0
            )
            return
        if not reasons & Reason.WATCHDOG:  # else it answers no step
            person = source == Source.TELEOP or bool(reasons & Reason.TELEOP_SILENT)
            self._answer(lambda: self._tick.on_executed(stamp_ns, person=person))

    def _on_sensor(self, topic: str) -> Callable[[Any], None]:
        def take(msg: Any) -> None:
            stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
            if not self._lockstep:
                self._cameras.hear(topic, msg, time.monotonic())
            joined = self._joiner.add(topic, stamp_ns, msg)
            if joined is not None:
                self._answer(lambda: self._tick.on_set(joined.stamp_ns, joined.items))

        return take

    def _on_timer(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        joined = self._joiner.newest(now_ns, self._max_age_ns)
        why = self._cameras.fault(self._tick.episode, time.monotonic())
        if why or joined is None:
            self._drop(why)
        else:
            self._answer(lambda: self._tick.on_set(joined.stamp_ns, joined.items))

    def _answer(self, ask: Callable[[], PolicyStep | None]) -> None:
        begin_ns, now_ns = time.monotonic_ns(), self.get_clock().now().nanoseconds
        try:
            step = ask()
        except (ObservationError, conversions.ConversionError) as error:
            if self._lockstep:
                # The twin would send the same set for ever: say at once what is wrong with it.
                self.fail(error, REFUSED)
            else:
                self._drop()
                self.get_logger().warning(
                    f"tick dropped: {error}", throttle_duration_sec=_SAY_EVERY_S
                )
            return
        except (ActionError, BaseError) as error:
            # Started again it would do the same: better to say at once what is wrong with it.
            self.fail(error, REFUSED)
            return
        if step is not None:
            # A stamp sent again gets the very same message again.
            if step is not self._said[0]:
                shown = step if self._mask is None else _masked(step, self._mask)
                self._said = (step, conversions.policy_step_to_msg(shown))
                self._note_times(step, begin_ns, now_ns)
            self._steps_out.publish(self._said[1])
        elif self._tick.abort_reason:
            # Asked again at every set until it is heard: the manager may not be connected yet.
            self.get_logger().warning(
                f"asks for abort: {self._tick.abort_reason}", throttle_duration_sec=_SAY_EVERY_S
            )
            self._events_out.publish(
                conversions.abort(self.get_name(), self._tick.episode, self._tick.abort_reason)
            )

    def _note_times(self, step: PolicyStep, begin_ns: int, now_ns: int) -> None:
        msg, observed = self._said[1], self._observe
        msg.camera_stamp = conversions.stamp_to_msg(observed.camera_ns)
        msg.sent = conversions.stamp_to_msg(time.time_ns())
        if step.is_last:
            return  # nothing executes it
        end_ns = time.monotonic_ns()
        stages = (observed.spent_ns, end_ns - begin_ns - observed.spent_ns)
        if not self._lockstep:
            stages = (now_ns - observed.camera_ns, *stages)
        self._loop.tick(end_ns, step.episode, stages)

    def _drop(self, why: str = "") -> None:
        before = self._tick.dropped
        if why:
            self._answer(lambda: self._tick.on_fault(why))
        else:
            self._tick.on_drop()
        if self._tick.dropped > before:  # between episodes nothing is given up
            self._loop.drop()

    def _report_drops(self) -> None:
        new, self._reported = self._tick.dropped - self._reported, self._tick.dropped
        if new:
            self.get_logger().warning(
                f"{new} ticks dropped in {_SAY_EVERY_S:g} s: no observation younger than "
                f"{self._max_age_ns / 1e9:g} s; are all sensors running?"
            )


def _masked(step: PolicyStep, mask: Mask) -> PolicyStep:
    hidden = mask.hide(step.base_action, step.stamp_ns, step.episode, step.step)
    nothing = np.zeros(0, np.float32)
    return dataclasses.replace(step, base_action=nothing, base_action_sealed=hidden)


def main() -> NoReturn:
    """Run the node."""
    run_process(BasePolicyNode, urgent=True, rank=1)


if __name__ == "__main__":
    main()
