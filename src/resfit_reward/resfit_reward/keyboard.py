"""Single keys of a terminal, without waiting for Enter."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
import tty
from collections.abc import Callable


class Keyboard:
    """Reads keys on a thread of its own and gives the terminal back as it was."""

    def __init__(self, fd: int, on_key: Callable[[str], None]) -> None:
        """Prepare; `start` begins.

        Args:
            fd: Descriptor of the terminal.
            on_key: Called with one character, on the reading thread.
        """
        self._fd, self._on_key = fd, on_key
        self._before: list | None = None
        self._thread: threading.Thread | None = None
        self._wake, self._woken = -1, -1

    def start(self) -> str:
        """Begin to read; return why that cannot be, in words, or an empty text."""
        if not os.isatty(self._fd):
            return "standard input is no terminal"
        with contextlib.suppress(OSError):  # raised where it is not our controlling terminal
            if os.tcgetpgrp(self._fd) != os.getpgrp():
                return "this process is in the background of its terminal"
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSADRAIN)  # Ctrl-C still is a signal
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._thread.start()
        return ""

    def stop(self) -> None:
        """Stop reading and put the terminal back as it was."""
        if self._thread is None:
            return
        os.write(self._wake, b"x")
        self._thread.join(timeout=1.0)
        self._thread = None
        os.close(self._wake)
        os.close(self._woken)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._woken], [], [])
            if self._woken in ready:
                return
            try:
                key = os.read(self._fd, 1)
            except OSError:  # the terminal was closed
                return
            if not key:
                return
            self._on_key(key.decode("ascii", "replace"))
