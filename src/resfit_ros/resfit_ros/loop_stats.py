"""A node's `LoopStats`, said once a second on the topic `loop_stats`."""

from __future__ import annotations

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_core.control.loop_stats import LoopStats
from resfit_interfaces import msg as ours
from resfit_ros import qos

_SAY_EVERY_S = 1.0


class LoopWatch(LoopStats):
    """`LoopStats` of a node that publishes them."""

    def __init__(self, node: Node, period_s: float, stages: tuple[str, ...], clock: str) -> None:
        """Open the topic.

        Args:
            node: Owns publisher and timer.
            period_s: Control period [s].
            stages: Names, in order.
            clock: `lockstep` or `realtime`.
        """
        super().__init__(round(1e9 * period_s), stages, exact=clock == "lockstep")
        self._node, self._period_s = node, period_s
        self._out = node.create_publisher(ours.LoopStats, "loop_stats", qos.reliable(10))
        # Steady: a simulation that stands still still has its numbers.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_SAY_EVERY_S, self.say, clock=steady)

    def say(self) -> None:
        """Publish, where anything was counted."""
        if not self.ticks and not self.dropped:
            return
        found = self.summary()
        spreads = found.stages.values()
        msg = ours.LoopStats(
            node=self._node.get_name(),
            period_s=self._period_s,
            ticks=found.ticks,
            late=found.late,
            dropped=found.dropped,
            period_p50_ms=found.period.p50_ms,
            period_p99_ms=found.period.p99_ms,
            period_max_ms=found.period.max_ms,
            stages=list(found.stages),
            p50_ms=[s.p50_ms for s in spreads],
            p99_ms=[s.p99_ms for s in spreads],
            max_ms=[s.max_ms for s in spreads],
        )
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._out.publish(msg)

    def close(self) -> None:
        """Close topic and timer."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._out)
