"""What the death of a node means: one set of rules for both front ends."""

from __future__ import annotations

import collections
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

FINISHED = 0
FAILED = 1
BAD_INPUT = 2  # a node that exits with this refused its input: to start it again helps nobody
DIFFERENT = 3  # the finisher did its work, and its answer is no
SPARE = ("panel",)  # the robot goes on without it: whatever becomes of it, the run does not end
_SPARE_WAIT_S = 60.0


@dataclass(frozen=True)
class Limits:
    """Times [s] and numbers of the rules.

    Attributes:
        terminate_after_s: From SIGINT, the first signal of a stop, to SIGTERM.
        kill_after_s: From SIGINT to SIGKILL; all is over within 5 s.
        restarts: So many restarts of one node within `restart_window_s` are allowed.
        restart_window_s: See `restarts`.
        backoff_s: Wait before the first restart; doubled for each further one in the window.
    """

    terminate_after_s: float = 3.5
    kill_after_s: float = 4.3
    restarts: int = 5
    restart_window_s: float = 120.0
    backoff_s: float = 0.5


@dataclass(frozen=True)
class Outcome:
    """How the run ended: exit code and the reason in words."""

    code: int
    reason: str


@dataclass(frozen=True)
class Restart:
    """The node is to be started again after `wait_s` [s]."""

    wait_s: float
    reason: str


class Rules:
    """Decides what follows when a node has exited.

    The run ends when the finisher exits with code 0 (finished), a required node exits, a node
    refuses its input (code 2) or dies too often. Every other death is answered by a restart.
    """

    def __init__(
        self, limits: Limits, finisher: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with no deaths; `finisher` names the node whose exit 0 ends the run."""
        self._limits = limits
        self._finisher = finisher
        self._clock = clock
        self._restarts: dict[str, collections.deque] = {}

    def exited(
        self, name: str, required: bool, code: int, last_line: str = ""
    ) -> Outcome | Restart:
        """Return what follows from the exit of a node.

        Args:
            name: Of the node.
            required: Whether the graph calls it so.
            code: Exit code; below 0: the signal that ended it.
            last_line: The last it said; the most likely reason.
        """
        if name == self._finisher and code == FINISHED:
            return Outcome(FINISHED, "finished")
        if name == self._finisher and code == DIFFERENT:
            return Outcome(DIFFERENT, "finished: what was replayed differs from what was recorded")
        why = f"{name} {_in_words(code)}" + (f": {last_line}" if last_line else "")
        if code == BAD_INPUT and name not in SPARE:
            return Outcome(BAD_INPUT, why)
        if required:
            return Outcome(FAILED, why)
        now = self._clock()
        past = self._restarts.setdefault(name, collections.deque())
        while past and now - past[0] > self._limits.restart_window_s:
            past.popleft()
        if len(past) >= self._limits.restarts and name not in SPARE:
            return Outcome(FAILED, f"{why} (for the {len(past) + 1}th time: given up)")
        wait_s = min(self._limits.backoff_s * 2 ** len(past), _SPARE_WAIT_S)
        past.append(now)
        return Restart(wait_s, f"{why}; starting it again in {wait_s:g} s")


def _in_words(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
