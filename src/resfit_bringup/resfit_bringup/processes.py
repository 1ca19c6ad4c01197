"""One node as a child process: a thin layer over honcho's (docs/decisions/0002).

honcho starts the child in its own session, reads its output line by line and posts both as
messages. Added here: no shell, the keyboard for one node only, and the end of the child when this
process is killed.
"""

from __future__ import annotations

import errno
import functools
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from honcho.process import Popen, Process

CANNOT_START = 127  # exit code, as a shell's


@dataclass(frozen=True)
class Command:
    """How to start one node, and what its death means.

    Attributes:
        name: Of the node.
        argv: Program and arguments.
        required: Its death ends the run.
        console: It inherits the terminal's keyboard.
        env: Environment; None: this process's own.
    """

    name: str
    argv: Sequence[str]
    required: bool = False
    console: bool = False
    env: Mapping[str, str] | None = None


class Child(Process):
    """A started command; its lines arrive on the queue as honcho messages.

    honcho merges stderr into stdout, so that the log keeps their order.
    """

    def __init__(self, command: Command, messages: queue.Queue) -> None:
        """Start the command; its lines go to `messages`."""
        super().__init__(
            _with_parent_death_signal(command.argv),
            name=command.name,
            env=None if command.env is None else dict(command.env),
        )
        stdin = None if command.console else subprocess.DEVNULL
        self._child_ctor = functools.partial(Popen, shell=False, stdin=stdin)
        self._messages = messages
        self._thread = threading.Thread(target=self._pump, name=command.name, daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        try:
            self.run(self._messages)
        except OSError as error:
            self._send_message(f"cannot start {self.cmd[0]}: {error.strerror}".encode())

    @property
    def pid(self) -> int:
        """Process id; 0: not started yet."""
        return 0 if self._child is None else self._child.pid

    def poll(self) -> int | None:
        """Return the exit code, below 0: the signal that ended it; None while it runs."""
        if self._child is not None:
            return self._child.poll()
        return None if self._thread.is_alive() else CANNOT_START

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group; quietly nothing if it is gone."""
        if self._child is None:
            return
        try:
            os.killpg(self._child.pid, number)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.EPERM):
                raise

    def bury(self, timeout_s: float = 1.0) -> None:
        """After the child's exit: end what is left of its group and wait for its last lines.

        A grandchild may hold the output open; it has no business without its parent.
        """
        self.signal(signal.SIGKILL)
        self._thread.join(timeout_s)


@functools.lru_cache(maxsize=1)
def _setpriv() -> str | None:
    return shutil.which("setpriv")


def _with_parent_death_signal(argv: Sequence[str]) -> list[str]:
    """Let the kernel end the child when this process dies without having stopped it (kill -9).

    `setpriv` (util-linux) and not `preexec_fn`, which may deadlock beside threads.
    """
    tool = _setpriv()
    return [tool, "--pdeathsig", "TERM", "--", *argv] if tool else list(argv)
