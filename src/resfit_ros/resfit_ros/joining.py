"""Joining sensor topics to sets: through `message_filters` where ROS has it.

The package registry that the underlay comes from has none; then `SensorJoiner` does it. Both give
the same sets for the same messages (test_joining.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from resfit_core.control.observe import DEPTH, Joined, SensorJoiner, newest_set
from resfit_ros.stamps import stamp_from_msg


def find_filters() -> ModuleType | None:
    """Return `message_filters`; None: ROS has none here."""
    try:
        import message_filters
    except ImportError:
        return None
    return message_filters


def make_joiner(
    streams: Sequence[str], *, exact: bool, slack_ns: int = 0
) -> SensorJoiner[Any] | FilterJoiner:
    """Return a joiner of messages; arguments as `SensorJoiner`'s."""
    filters = find_filters()
    if filters is None:
        return SensorJoiner(streams, exact=exact, slack_ns=slack_ns)
    return FilterJoiner(filters, streams, exact=exact, slack_ns=slack_ns)


class FilterJoiner:
    """`SensorJoiner` by `message_filters`: TimeSynchronizer in lock-step, Cache in real time."""

    def __init__(
        self,
        filters: ModuleType,
        streams: Sequence[str],
        *,
        exact: bool,
        slack_ns: int = 0,
        depth: int = DEPTH,
    ) -> None:
        """Start empty; `filters` is `message_filters`, the rest as `SensorJoiner`'s."""
        self._streams, self._slack = tuple(streams), slack_ns
        self._inputs = {name: filters.SimpleFilter() for name in self._streams}
        self._caches: dict[str, Any] = {}
        self._complete: tuple[Any, ...] | None = None
        self._joined_ns = -1
        if exact:
            # Kept, or nobody would hold it.
            self._synchronizer = filters.TimeSynchronizer(list(self._inputs.values()), depth)
            self._synchronizer.registerCallback(self._take)
        else:
            self._caches = {name: filters.Cache(f, 1) for name, f in self._inputs.items()}

    def _take(self, *messages: Any) -> None:
        # The synchroniser calls this under its lock, which an exception would leave locked.
        self._complete = messages

    def add(self, stream: str, stamp_ns: int, item: Any) -> Joined[Any] | None:
        """Take one message, stamped `stamp_ns`; return the set it completes, else None."""
        self._complete = None
        self._inputs[stream].signalMessage(item)
        if self._complete is None or stamp_ns < self._joined_ns:
            return None
        self._joined_ns = stamp_ns
        return Joined(stamp_ns, dict(zip(self._streams, self._complete, strict=True)))

    def newest(self, now_ns: int, max_age_ns: int) -> Joined[Any] | None:
        """Return the newest set (real time); see `SensorJoiner.newest`."""
        last = {name: cache.getLast() for name, cache in self._caches.items()}
        newest = {
            name: (stamp_from_msg(msg.header.stamp), msg)
            for name, msg in last.items()
            if msg is not None
        }
        return newest_set(self._streams, newest, now_ns, max_age_ns, self._slack)
