"""USB pedals and keypads: key presses straight from Linux' input devices, no library.

The kernel stamps each press; the record is 24 bytes on 64-bit machines (`linux/input.h`). Codes
are those of `linux/input-event-codes.h`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable

_ROWS = {
    1: "ESC 1 2 3 4 5 6 7 8 9 0 MINUS EQUAL BACKSPACE TAB Q W E R T Y U I O P LEFTBRACE "
    "RIGHTBRACE ENTER LEFTCTRL A S D F G H J K L SEMICOLON APOSTROPHE GRAVE LEFTSHIFT "
    "BACKSLASH Z X C V B N M COMMA DOT SLASH RIGHTSHIFT KPASTERISK LEFTALT SPACE CAPSLOCK "
    "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NUMLOCK SCROLLLOCK KP7 KP8 KP9 KPMINUS KP4 KP5 KP6 "
    "KPPLUS KP1 KP2 KP3 KP0 KPDOT",
    87: "F11 F12",
    96: "KPENTER RIGHTCTRL KPSLASH",
    102: "HOME UP PAGEUP LEFT RIGHT END DOWN PAGEDOWN INSERT DELETE",
}
CODES = {
    **{f"KEY_{n}": first + i for first, row in _ROWS.items() for i, n in enumerate(row.split())},
    **{f"BTN_{i}": 0x100 + i for i in range(10)},
    **{f"BTN_{n}": 0x110 + i for i, n in enumerate(("LEFT", "RIGHT", "MIDDLE"))},
}
"""Code of each key by its name."""
NAMES = {code: name for name, code in CODES.items()}

_EVENT = struct.Struct("llHHi")  # seconds, microseconds, type, code, value
_KEY, _DOWN = 1, 1  # type EV_KEY; value: 1 down, 0 up, 2 repeated
_GRAB = 0x40044590  # EVIOCGRAB


class KeypadError(ValueError):
    """An input device that cannot be used; the text names it and the fix."""


def presses(data: bytes) -> list[tuple[str, int]]:
    """Return (name, kernel's stamp [ns]) of every key that went down; others are left out."""
    found = []
    whole = len(data) - len(data) % _EVENT.size
    for seconds, micros, kind, code, value in _EVENT.iter_unpack(data[:whole]):
        if kind == _KEY and value == _DOWN and code in NAMES:
            found.append((NAMES[code], seconds * 10**9 + micros * 1000))
    return found


class Keypad:
    """Reads one input device on a thread of its own."""

    def __init__(
        self, path: str, on_key: Callable[[str, int], None], on_lost: Callable[[str], None]
    ) -> None:
        """Open the device, and keep its keys from typing into whatever window is in front.

        Args:
            path: E.g. `/dev/input/by-id/usb-…-event-kbd`.
            on_key: Called with name and stamp [ns, wall clock], on the reading thread.
            on_lost: Called once with the reason when it was unplugged.

        Raises:
            KeypadError: It cannot be opened.
        """
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise KeypadError(
                f"keypad '{path}' cannot be opened ({error.strerror}): plug it in, name it by "
                "/dev/input/by-id/…-event-kbd, and join the group 'input'"
            ) from error
        with contextlib.suppress(OSError):  # a pipe in a test, or somebody else holds it
            fcntl.ioctl(self._fd, _GRAB, 1)
        self._path, self._on_key, self._on_lost = path, on_key, on_lost
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keypad", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and close the device."""
        os.write(self._wake, b"x")
        self._thread.join(timeout=1.0)
        for fd in (self._fd, self._wake, self._woken):
            os.close(fd)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._woken], [], [])
            if self._woken in ready:
                return
            try:
                data = os.read(self._fd, 64 * _EVENT.size)
            except OSError as error:
                self._on_lost(f"keypad '{self._path}' is lost: {error.strerror}")
                return
            if not data:
                self._on_lost(f"keypad '{self._path}' is lost: it was closed")
                return
            for name, stamp_ns in presses(data):
                self._on_key(name, stamp_ns)
