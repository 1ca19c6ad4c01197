"""When the classifier presses, and when it asks. Needs the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Word(Enum):
    """What follows from a probability."""

    NOTHING = "nothing"
    PRESS = "press"
    ASK = "ask"


class WatchError(ValueError):
    """Thresholds that make no sense; the text names value and fix."""


@dataclass(frozen=True)
class Thresholds:
    """How sure is sure.

    Attributes:
        press_at: Probability from which success is pressed.
        ask_at: Probability from which the operator is asked.
        hold: Pictures in a row that must all be at least so sure: a ball that flies past the
            right place does not lie in it.
    """

    press_at: float = 0.9
    ask_at: float = 0.5
    hold: int = 2

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.ask_at <= self.press_at < 1:
            raise WatchError(
                f"ask_at is {self.ask_at}, press_at {self.press_at}: "
                "0 < ask_at <= press_at < 1 is needed"
            )
        if self.hold < 1:
            raise WatchError(f"hold is {self.hold}, 1 or more is needed")


class SuccessWatch:
    """Watches one episode after the other; presses at most once in each and never failure."""

    def __init__(self, thresholds: Thresholds) -> None:
        """Begin without an episode."""
        self._limits = thresholds
        self._recent: list[float] = []
        self._pressed = False

    def begin(self) -> None:
        """Forget the last episode."""
        self._recent, self._pressed = [], False

    def look(self, probability: float) -> Word:
        """Take the probability of success in the newest picture, 0..1."""
        limits = self._limits
        self._recent = [*self._recent, probability][-limits.hold :]
        if self._pressed or len(self._recent) < limits.hold:
            return Word.NOTHING
        least = min(self._recent)
        if least >= limits.press_at:
            self._pressed = True
            return Word.PRESS
        return Word.ASK if least >= limits.ask_at else Word.NOTHING
