"""Quality of service of the graph's topics, named once (docs/architecture.md, Topics)."""

from __future__ import annotations

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
)


def reliable(depth: int) -> QoSProfile:
    """Return reliable, volatile, keep-last QoS: nothing is lost while a queue of `depth` holds."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""For publishers: the last message stays with them; who comes late still gets it."""

LATCHED_IN = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""For subscriptions to a latched topic. With a depth of 1 the middle one of states that follow
each other at once (RESETTING, READY, RUNNING) is overwritten before it is read."""


def sensor(clock: str, depth: int = 10) -> QoSProfile:
    """Return the QoS of sensor topics.

    Args:
        clock: `lockstep`: reliable, since a lost set stalls the run; `realtime`: best effort,
            since an old set is worthless and a camera driver may offer no more.
        depth: length of the queue, messages.
    """
    if clock == "lockstep":
        return reliable(depth)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )
