"""The driver's part of `loop_stats`: filter, client, and the whole way of an observation."""

from __future__ import annotations

import time

from rclpy.node import Node

from resfit_core.contract import Contract
from resfit_ros.loop_stats import LoopWatch


class CommandTimes(LoopWatch):
    """Counts commands that were sent; after a gap that the watchdog held a new episode begins."""

    def __init__(self, node: Node, contract: Contract, clock: str) -> None:
        """Open the topic; `clock` is `lockstep` or `realtime`."""
        stages = ("filter", "client")
        stages = stages if clock == "lockstep" else ("observation_to_command", *stages)
        super().__init__(node, contract.period_s, stages, clock)
        self._timeout_ns = round(1e9 * contract.command_timeout_s)
        self._realtime = clock == "realtime"
        self._sent_ns = self._episode = 0

    def sent(self, stamp_ns: int, taken_ns: int, judged_ns: int) -> None:
        """Take a command that went to the robot just now.

        Args:
            stamp_ns: Stamp of the observation it answers [ns].
            taken_ns: When the driver took it [ns], steady clock.
            judged_ns: When the filter was done [ns], steady clock.
        """
        now_ns = time.monotonic_ns()
        self._episode += now_ns - self._sent_ns > self._timeout_ns
        self._sent_ns = now_ns
        stages = (judged_ns - taken_ns, now_ns - judged_ns)
        if self._realtime:
            stages = (self._node.get_clock().now().nanoseconds - stamp_ns, *stages)
        self.tick(now_ns, self._episode, stages)
