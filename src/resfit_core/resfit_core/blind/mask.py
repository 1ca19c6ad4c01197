"""The base's action under a key, so that nobody can compare it with what was executed.

Who hears both the base's action and the executed one knows which policy acts: they are equal where
the base acts alone. In a blind evaluation `base_policy` therefore sends its action masked, and
`residual_policy` alone takes the mask off.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

_PLACE = struct.Struct("<qII")  # stamp [ns], episode, step


class Mask:
    """XOR with SHAKE-256 of key and place. A place is used once: stamps never come again."""

    def __init__(self, key: bytes) -> None:
        """Take the key."""
        self._key = key

    def hide(self, action: np.ndarray, stamp_ns: int, episode: int, step: int) -> bytes:
        """Return a float32 vector masked; 4 bytes per value."""
        plain = np.ascontiguousarray(action, "<f4").tobytes()
        return self._turn(plain, stamp_ns, episode, step)

    def show(self, hidden: bytes, stamp_ns: int, episode: int, step: int) -> np.ndarray:
        """Return the vector that `hide` masked for this place. Shape: (len(hidden) / 4,)."""
        plain = self._turn(hidden, stamp_ns, episode, step)
        return np.frombuffer(plain, "<f4").astype(np.float32)

    def _turn(self, data: bytes, stamp_ns: int, episode: int, step: int) -> bytes:
        place = _PLACE.pack(stamp_ns, episode, step)
        stream = hashlib.shake_256(self._key + place).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))
