"""Stamps and headers; on the plain side whole nanoseconds."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

_NS = 1_000_000_000


class ConversionError(ValueError):
    """A message that does not hold what its type promises; the text names value and fix."""


def stamp_to_msg(stamp_ns: int) -> Time:
    """Return nanoseconds as `builtin_interfaces/Time`."""
    sec, nanosec = divmod(int(stamp_ns), _NS)
    return Time(sec=sec, nanosec=nanosec)


def stamp_from_msg(stamp: Time) -> int:
    """Return `builtin_interfaces/Time` as nanoseconds."""
    return stamp.sec * _NS + stamp.nanosec


def header(stamp_ns: int, frame_id: str = "") -> Header:
    """Return a header of this stamp."""
    return Header(stamp=stamp_to_msg(stamp_ns), frame_id=frame_id)
