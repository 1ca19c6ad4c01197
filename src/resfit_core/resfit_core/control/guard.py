"""When to rely on the residual, when to step back to the base (decisions 5 and 18)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from resfit_core.intervals import difference, wilson

STEPPED_BACK = "stepped back to the base"
"""How `Standing.stepped_back` begins."""


class Verdict(NamedTuple):
    """How one practice episode ended, and whether the residual acted in it."""

    residual: bool
    success: bool


class Standing(NamedTuple):
    """What the practice so far says of the residual.

    Attributes:
        stepped_back: why the next practice episode belongs to the base alone; empty: it does not.
        on_trial: why the residual is not to be relied on yet; empty: it is shown to be better, or
            there is nothing to compare it with. Never empty after a step back.
    """

    stepped_back: str = ""
    on_trial: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """Compares the residual's last episodes with all that the base did alone, warm-up included.

    A pure function of the verdicts so far: a restarted run, or a verdict corrected later, leads to
    the same decisions.

    Attributes:
        confidence: of the two success intervals that must not meet for a step back; 0: no guard.
        proof: confidence of the interval of the residual's gain over the base, which must lie
            above 0 for the residual to be proven.
        window: the residual's newest episodes that count; half of them for a proof.
        pause: episodes that the base acts alone after a step back; then the residual, better
            trained by then, is on trial anew.
    """

    confidence: float = 0.8
    proof: float = 0.9
    window: int = 20
    pause: int = 10

    def judge(self, verdicts: Iterable[Verdict]) -> Standing:
        """Return how the residual stands.

        Args:
            verdicts: of the practice episodes that count, in their order.
        """
        if not self.confidence:
            return Standing()
        base: list[bool] = []
        recent: list[bool] = []
        back, proven, why = 0, False, ""
        for residual, success in verdicts:
            if not residual:
                base.append(success)
                back = max(0, back - 1)
                continue
            recent = [*recent, success][-self.window :]
            if not base:
                continue
            if self._worse(recent, base):
                back, proven = self.pause, False
                why = f"{STEPPED_BACK} for {self.pause} episodes: {_compared(recent, base)}"
                recent = []
            proven = proven or self._better(recent, base)
        if back:
            return Standing(why, why)
        if proven or not base:
            return Standing()
        return Standing(on_trial=f"on trial: {_compared(recent, base)}")

    def _worse(self, recent: Sequence[bool], base: Sequence[bool]) -> bool:
        """Tell whether the residual's interval lies below the base's."""
        high = wilson(sum(recent), len(recent), self.confidence)[1]
        return high < wilson(sum(base), len(base), self.confidence)[0]

    def _better(self, recent: Sequence[bool], base: Sequence[bool]) -> bool:
        """Tell whether the residual's gain over the base lies above 0.

        Half a window is asked for: a few successes in a row are no proof to who looks each time.
        """
        if 2 * len(recent) < self.window:
            return False
        ours, theirs = (sum(recent), len(recent)), (sum(base), len(base))
        return difference(ours, theirs, self.proof)[0] > 0.0


def _compared(recent: Sequence[bool], base: Sequence[bool]) -> str:
    ours = f"{sum(recent)} of its last {len(recent)}" if recent else "nothing to show yet"
    return f"the residual had {ours}, the base {sum(base)} of {len(base)}"
