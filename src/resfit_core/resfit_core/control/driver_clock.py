"""How old a stamp is, though stamps and the steady clock have different zeros."""

from __future__ import annotations

from enum import Enum, auto

_DRIFT = 1000  # the clocks may drift apart by one part in so many


class Heard(Enum):
    """What a new stamp says of its clock."""

    GOOD = auto()
    OLDER = auto()  # than one that was heard before: nobody may act on it
    JUMPED = auto()  # the clock was set


class StampClock:
    """Judges ages by the promptest message so far: nothing arrives before it was measured.

    The age of what was stamped `s` is the time since, had it come as promptly as that one. A queue
    that is delivered late, because this process or the network stood still, is thereby known as
    old, which the time since its arrival would hide. Not thread-safe.
    """

    def __init__(self, jump_ns: int) -> None:
        """Start without knowledge.

        Args:
            jump_ns: A stamp that differs from the expected one by more means that the clock of
                the stamps was set [ns].
        """
        self._jump = jump_ns
        self._ahead: int | None = None  # stamp minus steady clock, of the promptest message
        self._newest = self._at = 0

    @property
    def newest_ns(self) -> int:
        """Newest stamp heard [ns]; 0: none."""
        return self._newest

    def heard(self, stamp_ns: int, now_ns: int) -> Heard:
        """Take the stamp of a measurement that arrives now (steady clock) [ns]."""
        ahead = stamp_ns - now_ns
        verdict = Heard.GOOD
        if self._ahead is not None:
            expected = self._ahead - max(now_ns - self._at, 0) // _DRIFT
            back = stamp_ns < self._newest
            if ahead > expected + self._jump or (back and ahead < expected - self._jump):
                verdict = Heard.JUMPED
            elif back:
                return Heard.OLDER
            else:
                ahead = max(ahead, expected)
        self._ahead, self._newest, self._at = ahead, stamp_ns, now_ns
        return verdict

    def age_ns(self, stamp_ns: int, now_ns: int) -> int:
        """Return how old what was stamped so is now [ns]; below 0: it lies in the future.

        0 before anything was heard.
        """
        if self._ahead is None:
            return 0
        return now_ns + self._ahead - max(now_ns - self._at, 0) // _DRIFT - stamp_ns
