"""The panel's side of the emergency stop: a wish that lasts until the driver has latched."""

from __future__ import annotations

REPEAT_S = 0.2
LATE_S = 0.5
"""A driver that has not latched after so long is said to be silent."""


class EStop:
    """Remembers that somebody pressed, whatever became of the page on which it was pressed.

    The wish is told to the driver every `REPEAT_S` until the driver says that it latched, and
    again when it says that it is not (it was started anew). Only REARM ends the wish. The driver's
    own latch is the authority: it also stops without this process.
    """

    def __init__(self) -> None:
        """Start with no wish."""
        self.wanted = False
        self.by = ""
        self._latched = False
        self._since_s = 0.0
        self._told_s = float("-inf")

    def press(self, by: str, now_s: float) -> None:
        """Ask for the stop; `by` says who pressed."""
        if not self.wanted:
            self.wanted, self.by, self._since_s = True, by, now_s
            self._told_s = float("-inf")

    def rearm(self) -> None:
        """End the wish; whether the latch comes off decides the driver."""
        self.wanted, self.by = False, ""

    def driver(self, latched: bool) -> None:
        """Take the driver's word whether it is latched."""
        self._latched = latched

    def due(self, now_s: float) -> bool:
        """Return whether the driver has to be told now; counts as told then."""
        if not self.wanted or self._latched or now_s - self._told_s < REPEAT_S:
            return False
        self._told_s = now_s
        return True

    @property
    def latched(self) -> bool:
        """Whether the driver says that it is latched."""
        return self._latched

    def unanswered(self, now_s: float) -> bool:
        """Return whether the driver should have latched by now and has not."""
        return self.wanted and not self._latched and now_s - self._since_s > LATE_S
