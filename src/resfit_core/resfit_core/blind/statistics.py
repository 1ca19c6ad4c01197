"""What paired verdicts say: rates, differences, exact tests, and when enough rounds were run.

Wilson intervals, the exact McNemar test (binomial test on the rounds that differ) and the signed
rank test are SciPy's. Newcombe's interval, Holm's correction and the sequential test are a few
lines each; their tests hold published figures and simulated error rates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.special import betaln

ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Table:
    """Rounds of two policies, counted: both, only the first, only the second, neither."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @classmethod
    def of(cls, first: Sequence[bool], second: Sequence[bool]) -> Table:
        """Count verdicts of the same rounds, in the same order."""
        pairs = list(zip(first, second, strict=True))
        return cls(*(pairs.count(p) for p in [(True, True), (True, False), (False, True)]),
                   pairs.count((False, False)))  # fmt: skip

    @property
    def rounds(self) -> int:
        """All of them."""
        return self.both + self.first_only + self.second_only + self.neither


def wilson(successes: int, trials: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the Wilson interval of a rate; trials: 1 or more."""
    found = stats.binomtest(successes, trials).proportion_ci(1 - alpha, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(table: Table) -> float:
    """Return p of the exact two-sided McNemar test."""
    differ = table.first_only + table.second_only
    return float(stats.binomtest(table.first_only, differ).pvalue) if differ else 1.0


def difference(table: Table, alpha: float = ALPHA) -> tuple[float, tuple[float, float]]:
    """Return success of the second less that of the first, with Newcombe's paired interval.

    Method 10 of Newcombe, Statistics in Medicine 17 (1998): Wilson intervals of the two rates,
    joined with the correlation of the pairs. It keeps its level for few rounds and never leaves
    [-1, 1].

    Args:
        table: At least one round.
        alpha: One less the confidence.
    """
    n = table.rounds
    first, second = table.both + table.first_only, table.both + table.second_only
    (l1, u1), (l2, u2) = wilson(first, n, alpha), wilson(second, n, alpha)
    p1, p2 = first / n, second / n
    phi = _phi(table, first, second)

    def reach(down: float, up: float) -> float:
        return math.sqrt(max(0.0, down * down - 2 * phi * down * up + up * up))

    middle = p2 - p1
    return middle, (middle - reach(p2 - l2, u1 - p1), middle + reach(u2 - p2, p1 - l1))


def _phi(table: Table, first: int, second: int) -> float:
    """Return the correlation of the pairs, with Newcombe's correction towards 0."""
    n = table.rounds
    margins = first * (n - first) * second * (n - second)
    cross = table.both * table.neither - table.first_only * table.second_only
    if not margins:
        return 0.0
    if cross > 0:
        cross = max(cross - n / 2, 0)
    return cross / math.sqrt(margins)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number after Holm, in the given order."""
    corrected, worst = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = worst
    return corrected


def log_e_value(first_only: int, second_only: int) -> float:
    """Return the logarithm of the evidence against "both are equally good".

    Given that a round differs, under that hypothesis either policy is the better one with chance
    1/2, whatever came before. The evidence is the likelihood ratio against an unknown chance,
    uniform in [0, 1]: a martingale of mean 1, so that it ever exceeds 1 / alpha with a probability
    of alpha at most (Ville), however often one looks.
    """
    differ = first_only + second_only
    return float(betaln(first_only + 1, second_only + 1)) + differ * math.log(2)


@dataclasses.dataclass(frozen=True)
class Sequential:
    """The sequential test of two policies over all rounds so far.

    Attributes:
        p: Valid at every moment, also where the rounds were ended because of it: 1 over the
            largest evidence so far.
        enough_after: Rounds after which the evidence first sufficed; 0: never.
    """

    p: float
    enough_after: int


def sequential(first: Sequence[bool], second: Sequence[bool], alpha: float = ALPHA) -> Sequential:
    """Run the sequential test over verdicts in the order of the rounds."""
    largest, enough_after, only = 0.0, 0, [0, 0]
    for number, (a, b) in enumerate(zip(first, second, strict=True), 1):
        if a == b:
            continue
        only[int(b)] += 1
        largest = max(largest, log_e_value(*only))
        if not enough_after and largest >= -math.log(alpha):
            enough_after = number
    return Sequential(math.exp(-largest), enough_after)


def enough(verdicts: Sequence[Sequence[bool]], alpha: float = ALPHA) -> int:
    """Return after how many rounds enough were run; 0: not yet.

    Enough: every policy is told apart from the first one named, each at alpha divided by their
    number, so that a false alarm anywhere has a probability of alpha at most.

    Args:
        verdicts: One list per policy, of the same rounds in order.
        alpha: Probability of a false alarm.
    """
    first, *others = verdicts
    after = [sequential(first, other, alpha / len(others)).enough_after for other in others]
    return max(after) if all(after) else 0


def steps_summary(steps: Sequence[int]) -> dict[str, float | int | None]:
    """Return number, median and quartiles of the steps to success; None: no success."""
    if not len(steps):
        return {"n": 0, "median": None, "q25": None, "q75": None}
    q25, median, q75 = (float(x) for x in np.percentile(steps, [25, 50, 75]))
    return {"n": len(steps), "median": median, "q25": q25, "q75": q75}


def steps_difference(first: Sequence[int], second: Sequence[int]) -> dict[str, float | int | None]:
    """Compare steps to success in the rounds that both did: second less first.

    `p`: Wilcoxon's signed rank test, two-sided; None where no round differs.
    """
    apart = np.asarray(second, float) - np.asarray(first, float)
    if not len(apart):
        return {"n": 0, "median": None, "p": None}
    p = float(stats.wilcoxon(apart).pvalue) if np.any(apart) else None
    return {"n": len(apart), "median": float(np.median(apart)), "p": p}
