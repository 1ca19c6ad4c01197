"""Steps back to the base where the residual does worse (docs/decisions/0005-no-dip.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from resfit_core.intervals import wilson


class Verdict(NamedTuple):
    """How one practice episode ended, and whether the residual acted in it."""

    residual: bool
    success: bool


@dataclass(frozen=True, slots=True)
class Guard:
    """Compares the residual's last episodes with all that the base did alone, warm-up included.

    A pure function of the verdicts so far: a restarted run, or a verdict corrected later, leads to
    the same decisions.

    Attributes:
        confidence: of the two intervals that must not meet; 0: never step back.
        window: the residual's newest episodes that count.
        pause: episodes that the base acts alone after a step back; then the residual, better
            trained by then, is judged anew.
    """

    confidence: float = 0.8
    window: int = 20
    pause: int = 10

    def judge(self, verdicts: Iterable[Verdict]) -> str:
        """Return why the next practice episode belongs to the base alone; empty: it does not.

        Args:
            verdicts: of the practice episodes that count, in their order.
        """
        if not self.confidence:
            return ""
        base: list[bool] = []
        recent: list[bool] = []
        back, why = 0, ""
        for residual, success in verdicts:
            if not residual:
                base.append(success)
                back = max(0, back - 1)
                continue
            recent = [*recent, success][-self.window :]
            if base and self._worse(recent, base):
                back = self.pause
                why = (
                    f"stepped back to the base for {self.pause} episodes: the residual had "
                    f"{sum(recent)} of its last {len(recent)}, the base {sum(base)} of {len(base)}"
                )
                recent = []
        return why if back else ""

    def _worse(self, recent: list[bool], base: list[bool]) -> bool:
        """Tell whether the residual's interval lies below the base's."""
        high = wilson(sum(recent), len(recent), self.confidence)[1]
        return high < wilson(sum(base), len(base), self.confidence)[0]
