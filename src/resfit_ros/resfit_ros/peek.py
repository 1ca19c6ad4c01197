"""Read the few numbers a recorder needs off serialized messages, without deserializing them.

The recorder keeps hundreds of messages per episode as the bytes that go into the bag; unpacking
each as a Python message would cost ten times as much, on the core that the control loop needs.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from resfit_ros.conversions import ConversionError

_HEADER = struct.Struct("<iII")  # sec, nanosec, length of frame_id
_STEP = struct.Struct("<II??")  # episode, step, is_first, is_last
_REASONS = struct.Struct("<I")
_SOURCE = struct.Struct("<B")
_LITTLE_ENDIAN_CDR = b"\x00\x01"


class StepHead(NamedTuple):
    """What a serialized `Step` is about."""

    stamp_ns: int
    episode: int
    step: int
    is_last: bool


class ExecutedHead(NamedTuple):
    """What a serialized `ExecutedCommand` is about."""

    stamp_ns: int
    reasons: int


def header_stamp(data: bytes) -> int:
    """Return the stamp [ns] of any serialized message that begins with a header.

    Raises:
        ConversionError: The bytes are not little-endian CDR, or too few.
    """
    return _header(data)[0]


def step_head(data: bytes) -> StepHead:
    """Return stamp [ns], episode, number and whether it is the last observation.

    Raises:
        ConversionError: The bytes are not little-endian CDR.
    """
    stamp_ns, end = _header(data)
    episode, step, _, is_last = _unpack(_STEP, data, (end + 3) // 4 * 4)
    return StepHead(stamp_ns, episode, step, is_last)


def executed_head(data: bytes) -> ExecutedHead:
    """Return stamp [ns] and reasons, the message's first and last field.

    Raises:
        ConversionError: The bytes are not little-endian CDR.
    """
    stamp_ns, _ = _header(data)
    return ExecutedHead(stamp_ns, _unpack(_REASONS, data, len(data) - _REASONS.size)[0])


def executed_source(data: bytes) -> tuple[int, int, int]:
    """Return stamp [ns], source and reasons of a serialized `ExecutedCommand`.

    Raises:
        ConversionError: The bytes are not little-endian CDR.
    """
    stamp_ns, end = _header(data)
    return stamp_ns, _unpack(_SOURCE, data, end)[0], executed_head(data).reasons


def _unpack(form: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    # Nobody has looked at these bytes: whoever publishes may send any.
    try:
        return form.unpack_from(data, at)
    except struct.error as error:
        raise ConversionError(f"serialized message of {len(data)} bytes: {error}") from error


def _header(data: bytes) -> tuple[int, int]:
    """Return the stamp [ns] and where the header ends. Alignment counts from byte 4, itself 4."""
    if data[:2] != _LITTLE_ENDIAN_CDR:
        raise ConversionError(
            f"serialized message begins with {bytes(data[:2])!r}, little-endian CDR is needed: "
            "use rmw_fastrtps_cpp or rmw_cyclonedds_cpp"
        )
    sec, nanosec, length = _unpack(_HEADER, data, 4)
    return sec * 1_000_000_000 + nanosec, 4 + _HEADER.size + length
