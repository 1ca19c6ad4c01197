"""How well one node of the control loop keeps time: periods, late ticks, time of stages."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 99th percentile and largest of one quantity [ms]; all 0 where nothing was seen."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, values_ms: np.ndarray) -> Spread:
        """Return the spread of these values [ms]."""
        if not len(values_ms):
            return cls(0.0, 0.0, 0.0)
        p50, p99 = np.percentile(values_ms, (50, 99))
        return cls(float(p50), float(p99), float(np.max(values_ms)))


@dataclass(frozen=True, slots=True)
class LoopSummary:
    """The numbers of `LoopStats.msg`."""

    ticks: int
    late: int
    dropped: int
    period: Spread
    stages: dict[str, Spread]


class LoopStats:
    """Collects the ticks of one node. Not thread-safe.

    A control period that passes without a tick is late: two ticks 1.5 to 2.5 periods apart count
    one, and so on. What lies between two episodes is a pause and counts nothing.
    """

    def __init__(
        self, period_ns: int, stages: tuple[str, ...], *, exact: bool, window: int = 1000
    ) -> None:
        """Start empty.

        Args:
            period_ns: Control period [ns].
            stages: What each tick is divided into, in order.
            exact: Lock-step: nobody is late.
            window: Newest ticks that the spreads are of.
        """
        self._period_ns, self._exact, self._names = period_ns, exact, stages
        self._periods: deque[float] = deque(maxlen=window)
        self._stages: deque[tuple[float, ...]] = deque(maxlen=window)
        self._last: tuple[int, int] | None = None  # time of the newest tick [ns], its episode
        self.ticks = self.late = self.dropped = 0

    def tick(self, now_ns: int, episode: int, stages_ns: tuple[int, ...]) -> None:
        """Take a tick.

        Args:
            now_ns: Steady clock [ns].
            episode: Number; another one than before begins after a pause.
            stages_ns: Time spent in each stage [ns].

        Raises:
            ValueError: Another number of stages than named.
        """
        if len(stages_ns) != len(self._names):
            raise ValueError(
                f"{len(stages_ns)} stages were measured, {len(self._names)} are named: "
                f"{self._names}"
            )
        if self._last is not None and self._last[1] == episode:
            passed = now_ns - self._last[0]
            self._periods.append(passed / _NS_PER_MS)
            if not self._exact:
                self.late += max(0, round(passed / self._period_ns) - 1)
        self._last = (now_ns, episode)
        self._stages.append(tuple(ns / _NS_PER_MS for ns in stages_ns))
        self.ticks += 1

    def drop(self) -> None:
        """Count a tick that was given up."""
        self.dropped += 1

    def summary(self) -> LoopSummary:
        """Return the counts since the start and the spreads of the newest window."""
        rows = np.array(self._stages, np.float64).reshape(len(self._stages), len(self._names))
        return LoopSummary(
            ticks=self.ticks,
            late=self.late,
            dropped=self.dropped,
            period=Spread.of(np.array(self._periods)),
            stages={name: Spread.of(rows[:, k]) for k, name in enumerate(self._names)},
        )
