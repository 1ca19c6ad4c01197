"""Starts the nodes, restarts those that may be, and stops all of them: `resfit run`'s engine."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resfit_bringup import shared_memory
from resfit_bringup.node_log import NodeLog
from resfit_bringup.processes import Child, Command
from resfit_bringup.rules import Limits, Outcome, Rules

_SAME_SIGNAL_S = 1.0
_LOOK_S = 2.0  # between two looks for nodes that hang on what a killed one left


class Listener(Protocol):
    """Who is told what happens."""

    def line(self, name: str, text: str) -> None:
        """Take one line of a node's output."""

    def event(self, name: str, text: str) -> None:
        """Take what the supervisor did to a node, or why the run ends."""

    def tick(self) -> None:
        """Be called about ten times a second."""


@dataclass
class _Managed:
    command: Command
    child: Child | None = None
    start_at: float | None = None
    starts: int = 0
    last_line: str = ""


class Supervisor:
    """Runs a set of commands until the rules, or SIGINT, SIGTERM or SIGHUP, end the run."""

    def __init__(
        self,
        commands: Sequence[Command],
        log_dir: Path,
        listener: Listener,
        finisher: str = "",
        limits: Limits | None = None,
    ) -> None:
        """Prepare to run the commands.

        Args:
            commands: One per node.
            log_dir: Where `<node>.log` are appended to.
            listener: Who is told what happens.
            finisher: Node whose exit with code 0 finishes the run.
            limits: Of restarts and of the stop.
        """
        self._nodes = [_Managed(c) for c in commands]
        self._log_dir = log_dir
        self._listener = listener
        self._limits = limits or Limits()
        self._rules = Rules(self._limits, finisher)
        self._messages: queue.Queue = queue.Queue()
        self._logs: dict[str, NodeLog] = {}
        self._signals: list[tuple[int, float]] = []  # number, steady clock [s]
        self._outcome: Outcome | None = None
        self._stopped_at = 0.0
        self._sent = 0
        self._looked_at = 0.0

    def run(self) -> Outcome:
        """Start all, return when all are gone."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_terminal_kept())
            stack.enter_context(self._signals_caught())
            for node in self._nodes:
                name = node.command.name
                self._logs[name] = stack.enter_context(NodeLog(self._log_dir / f"{name}.log"))
            stack.callback(self._kill_all)
            for node in self._nodes:
                self._start(node)
            while self._outcome is None or any(n.child for n in self._nodes):
                self._step()
        return self._outcome

    def stop(self, outcome: Outcome) -> None:
        """End the run; the first reason stands."""
        if self._outcome is None:
            self._outcome = outcome
            self._stopped_at = time.monotonic()
            self._listener.event("run", outcome.reason)

    # --- one round -----------------------------------------------------------------------------

    def _step(self) -> None:
        self._pump(0.1)
        for node in self._nodes:
            if node.child is not None and (code := node.child.poll()) is not None:
                node.child.bury()
                self._pump(0)
                node.child = None
                self._ended(node, code)
        self._free_the_hung()
        if self._signals and self._outcome is None:
            number, _ = self._signals[0]
            self.stop(Outcome(128 + number, f"stopped by {_signal_name(number)}"))
        if self._outcome is not None:
            self._escalate()
        else:
            for node in self._nodes:
                if node.start_at is not None and time.monotonic() >= node.start_at:
                    self._start(node)
        self._listener.tick()

    def _free_the_hung(self) -> None:
        """Kill nodes that wait in shared memory for a dead one; the rules start them again."""
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        ports = list(shared_memory.unfinished())
        if not ports:
            return
        for node in self._nodes:
            child = node.child
            if child is not None and child.pid and shared_memory.waits_for_ever(child.pid, ports):
                self._listener.event(node.command.name, "waits in vain for a killed node: killed")
                child.signal(signal.SIGKILL)
        shared_memory.clean()

    def _pump(self, wait_s: float) -> None:
        """Hand on all lines that are there, waiting for the first one at most `wait_s`."""
        try:
            message = self._messages.get(timeout=wait_s) if wait_s else self._messages.get_nowait()
            while True:
                if message.type == "line":
                    text = message.data.decode("utf-8", "replace").rstrip()
                    self._line(message.name, text)
                message = self._messages.get_nowait()
        except queue.Empty:
            return

    def _line(self, name: str, text: str) -> None:
        node = next(n for n in self._nodes if n.command.name == name)
        node.last_line = text.strip() or node.last_line
        self._logs[name].write(text)
        self._listener.line(name, text)

    def _start(self, node: _Managed) -> None:
        node.start_at = None
        node.starts += 1
        node.last_line = ""
        shared_memory.clean()
        if node.starts > 1:
            self._logs[node.command.name].write(f"--- start {node.starts} ---")
        node.child = Child(node.command, self._messages)

    def _ended(self, node: _Managed, code: int) -> None:
        if self._outcome is not None:
            return
        command = node.command
        follows = self._rules.exited(command.name, command.required, code, node.last_line)
        if isinstance(follows, Outcome):
            self.stop(follows)
        else:
            node.start_at = time.monotonic() + follows.wait_s
            self._listener.event(command.name, follows.reason)

    # --- the end -------------------------------------------------------------------------------

    def _escalate(self) -> None:
        """SIGINT, SIGTERM, SIGKILL to whatever is left; a second Ctrl-C kills at once."""
        waited = time.monotonic() - self._stopped_at
        due = (
            1 + (waited >= self._limits.terminate_after_s) + (waited >= self._limits.kill_after_s)
        )
        # `timeout` and some terminals pass one Ctrl-C on twice: that is not a second wish.
        if self._signals and self._signals[-1][1] - self._signals[0][1] > _SAME_SIGNAL_S:
            due = 3
        while self._sent < due:
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[self._sent]
            self._sent += 1
            for node in self._nodes:
                if node.child is not None:
                    if number == signal.SIGKILL:
                        self._listener.event(node.command.name, "did not stop in time: killed")
                    node.child.signal(number)

    def _kill_all(self) -> None:
        """Leave nothing running, whatever happened here."""
        for node in self._nodes:
            if node.child is not None:
                node.child.bury()

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        """Note SIGINT, SIGTERM and SIGHUP instead of dying of them.

        Also puts the children right: a handled signal is reset in a child, an ignored one (as in a
        shell's background job) would stay ignored there.
        """
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

        def note(number: int, _: object) -> None:
            self._signals.append((number, time.monotonic()))

        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Give the terminal back as it was: a killed console node may leave it without echo."""
    if not sys.stdin or not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        yield
    finally:
        # In the background, setting the terminal would stop this process (SIGTTOU).
        if os.tcgetpgrp(fd) == os.getpgrp():
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _signal_name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
