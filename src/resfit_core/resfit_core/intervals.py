"""The statistics of reports and of the guard, without a library."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a success rate.

    Raises:
        ValueError: There was no trial, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} trials: an interval needs at least one trial")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, spread = successes / trials, z * z / trials
    middle = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    # At the ends the bound is exact; rounding must not leave it a hair off.
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


def difference(
    first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95
) -> tuple[float, float]:
    """Return Newcombe's interval (1998, method 10) of a success rate less another one.

    Args:
        first: successes and trials.
        second: likewise, of other trials.
        confidence: of the interval.

    Raises:
        ValueError: one of them had no trial, or more successes than trials.
    """
    ends = [wilson(*one, confidence) for one in (first, second)]
    (p1, (l1, u1)), (p2, (l2, u2)) = zip((k / n for k, n in (first, second)), ends, strict=True)
    gain = p1 - p2
    return (
        gain - math.hypot(p1 - l1, u2 - p2),
        gain + math.hypot(u1 - p1, p2 - l2),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return p of the exact two-sided McNemar test.

    Args:
        only_first: Pairs in which only the first succeeded.
        only_second: Pairs in which only the second did.
    """
    differ = only_first + only_second
    tail = sum(math.comb(differ, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, tail / 2 ** (differ - 1)) if differ else 1.0
