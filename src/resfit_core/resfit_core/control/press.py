"""What an operator says, and which step a press speaks of (DESIGN section 6)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import IntEnum


class Press(IntEnum):
    """`OperatorEvent.kind`."""

    START = 1
    SUCCESS = 2
    FAILURE = 3
    TIMEOUT = 4
    ABORT = 5
    RESET_DONE = 6
    UNDO = 7
    PAUSE = 8
    RESUME = 9
    STOP = 10
    ESTOP = 11
    REARM = 12


ORACLE = "oracle"
"""Source of the twin's presses."""

CLASSIFIER = "classifier"
"""Source of the success classifier's presses, stamped with its picture."""

EXACT = (ORACLE, CLASSIFIER)
"""Sources without a hand that is late: no reaction time is taken off."""

HUMAN = ("keyboard", "topic", "panel", "gamepad", "keypad")
"""Sources behind which a person stands."""


@dataclass(frozen=True, slots=True)
class OperatorEvent:
    """One press; see `OperatorEvent.msg`.

    `stamp_ns` 0: now, as the receiver hears it. `episode` 0: the open one.
    """

    kind: int
    source: str
    reason: str = ""
    stamp_ns: int = 0
    episode: int = 0


class EpisodeSteps:
    """The executed steps of one episode, and which of them a press credits.

    Step k is credited with presses in `(t_k, t_k+1]`: its action cannot have caused what was there
    at `t_k` already. Steps are *even* in lock-step (`t_k = t_0 + k T` exactly, known before the
    driver's answer is heard); in real time their stamps are taken as they come.
    """

    def __init__(self, start_ns: int, period_ns: int, *, even: bool) -> None:
        """Start with no step.

        Args:
            start_ns: Stamp of the first observation; in real time none is older [ns].
            period_ns: Control period [ns].
            even: Steps follow each other exactly by the period.
        """
        self.start_ns, self._period, self._even = start_ns, period_ns, even
        self._stamps: list[int] = []
        self._driven: set[int] = set()
        self.count = 0

    def driven_until(self, step: int) -> int:
        """Return how many of the steps up to this one a person drove."""
        end = self.end_of(step)
        return sum(stamp < end for stamp in self._driven)

    def add(self, stamp_ns: int, *, driven: bool = False) -> None:
        """Take the stamp of an executed step; repeated and older ones do nothing.

        Args:
            stamp_ns: Of the observation that it answers [ns].
            driven: A person drove it.
        """
        if stamp_ns < self.start_ns:
            return
        if driven:
            self._driven.add(stamp_ns)
        if self._even:
            self.count = max(self.count, (stamp_ns - self.start_ns) // self._period + 1)
        elif not self._stamps or stamp_ns > self._stamps[-1]:
            self._stamps.append(stamp_ns)
            self.count += 1

    def knows(self, press_ns: int) -> bool:
        """Return whether `credit` is final: no step in flight can change it."""
        return self._even or bool(self._stamps and self._stamps[-1] >= press_ns)

    def credit(self, press_ns: int) -> int:
        """Return the step whose interval holds the press; -1: at or before the first observation.

        The newest step's interval is open, except that even steps go on beyond the newest one.
        """
        if self._even:
            return max(-1, (press_ns - self.start_ns - 1) // self._period)
        return bisect_left(self._stamps, press_ns) - 1

    def end_of(self, step: int) -> int:
        """Return the end of a step's interval [ns]; the start for step -1."""
        if step < 0:
            return self.start_ns
        if self._even:
            return self.start_ns + (step + 1) * self._period
        if step + 1 < len(self._stamps):
            return self._stamps[step + 1]
        return self._stamps[step] + self._period
