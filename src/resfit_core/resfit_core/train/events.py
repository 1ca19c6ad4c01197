"""TensorBoard event files, written without TensorBoard: `tensorboard --logdir DIR` reads them.

A file is a row of records: length, its checksum, a protobuf `Event`, its checksum. Scalars need
four of Event's fields, so the few bytes of protobuf are put together here; the library would bring
gRPC, protobuf and a web server into every training environment.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path


class EventWriter:
    """Appends scalars to one event file of a folder. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open a new file in `folder`; the folder is made."""
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # The name sorts by time; TensorBoard needs `tfevents` in it.
        path = folder / f"events.out.tfevents.{now:.6f}.{os.getpid()}"
        self._file = path.open("wb")
        self._write(now, 0, _field(3, b"brain.Event:2"))

    def add(self, tag: str, value: float, step: int, wall_time: float) -> None:
        """Write one scalar.

        Args:
            tag: name of the curve.
            value: the number.
            step: environment steps.
            wall_time: Unix time [s].
        """
        scalar = _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
        self._write(wall_time, step, _field(5, _field(1, scalar)))

    def flush(self) -> None:
        """Hand over what was written."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, wall_time: float, step: int, rest: bytes) -> None:
        event = b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step) + rest
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _table()


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of the record format."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
