"""When to rely on the residual, when to step back to the base (decisions 5 and 18)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from resfit_core.intervals import difference, wilson

STEPPED_BACK = "stepped back to the base"
"""How `Standing.base_acts` begins after a step back."""


class Verdict(NamedTuple):
    """How one practice episode ended, and whether the residual acted in it."""

    residual: bool
    success: bool


class Standing(NamedTuple):
    """What the practice so far says of the residual.

    Attributes:
        base_acts: why the next practice episode belongs to the base alone; empty: it does not.
        on_trial: why the residual is not relied on yet, where something is at stake: in an
            evaluation, or at work; empty: it is.
    """

    base_acts: str = ""
    on_trial: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """Compares the residual's last episodes with all that the base did alone, warm-up included.

    A pure function of the verdicts so far: a restarted run, or a verdict corrected later, leads to
    the same decisions.

    Attributes:
        confidence: of the intervals: the residual is proven where that of its gain over the base
            lies above 0, after half a window; it steps back where its own lies below the base's.
            0: no guard.
        window: the residual's newest episodes that count.
        pause: episodes that the base acts alone after a step back; then the residual, better
            trained by then, is on trial anew.
        trial_share: share of the practice episodes that the residual has while on trial.
    """

    confidence: float = 0.8
    window: int = 20
    pause: int = 10
    trial_share: float = 1.0

    def judge(self, verdicts: Iterable[Verdict]) -> Standing:
        """Return how the residual stands.

        Args:
            verdicts: of the practice episodes that count, in their order.
        """
        if not self.confidence:
            return Standing()
        base: list[bool] = []
        recent: list[bool] = []
        back, tried, rested, proven, why = 0, 0, 0, False, ""
        for residual, success in verdicts:
            if not residual:
                base.append(success)
                rested += tried > 0
                back = max(0, back - 1)
                continue
            recent = [*recent, success][-self.window :]
            tried += 1
            if base and self._worse(recent, base):
                back, tried, rested, proven = self.pause, 0, 0, False
                why = (
                    f"{STEPPED_BACK} for {self.pause} episodes: the residual had "
                    f"{_of(recent)[0]} of its last {len(recent)}, the base {sum(base)} of "
                    f"{len(base)}"
                )
                recent = []
            elif base and not proven:
                proven = self._better(recent, base)
        if back:
            return Standing(why, why)
        if proven or not base:
            return Standing()
        seen = f"{sum(recent)} of its last {len(recent)}" if recent else "nothing to show yet"
        trial = f"on trial: the residual had {seen}, the base {sum(base)} of {len(base)}"
        due = rested + 1 <= tried * (1.0 - self.trial_share) / self.trial_share
        return Standing(f"{trial}; it is the base's turn" if due else "", trial)

    def _worse(self, recent: Sequence[bool], base: Sequence[bool]) -> bool:
        """Tell whether the residual's interval lies below the base's."""
        high = wilson(*_of(recent), self.confidence)[1]
        return high < wilson(*_of(base), self.confidence)[0]

    def _better(self, recent: Sequence[bool], base: Sequence[bool]) -> bool:
        """Tell whether the residual's gain over the base lies above 0.

        Half a window is asked for: a few successes in a row are no proof to who looks each time.
        """
        if 2 * len(recent) < self.window:
            return False
        return difference(_of(recent), _of(base), self.confidence)[0] >= 0.0


def _of(verdicts: Sequence[bool]) -> tuple[int, int]:
    return sum(verdicts), len(verdicts)
