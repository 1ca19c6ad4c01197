"""How the control loop keeps time, as tiles: `LoopStats` of base_policy and vega_driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resfit_reward.panel.view import CALM, OK, WARN, Tile

_BASE, _DRIVER = "base_policy", "vega_driver"
_LATENCY = "observation_to_command"  # real time only: in lock-step stamps are the twin's
_RECENT_S = 10.0


@dataclass(frozen=True)
class Spread:
    """Median, 99th percentile and largest time [ms]."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


@dataclass(frozen=True)
class Loop:
    """`LoopStats` as plain numbers; names as in the message, stages by their name."""

    node: str = ""
    late: int = 0
    dropped: int = 0
    period: Spread = field(default_factory=Spread)
    stages: dict[str, Spread] = field(default_factory=dict)

    @classmethod
    def read(cls, said: Any) -> Loop:
        """Take the numbers off a `LoopStats` message."""
        rows = zip(said.stages, said.p50_ms, said.p99_ms, said.max_ms, strict=True)
        period = Spread(said.period_p50_ms, said.period_p99_ms, said.period_max_ms)
        stages = {name: Spread(*times) for name, *times in rows}
        return cls(said.node, said.late, said.dropped, period, stages)


class LoopHealth:
    """Keeps the newest word of each node, and when a tick was last missed."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self._loops: dict[str, Loop] = {}
        self._missed_s = float("-inf")

    def hear(self, news: Loop, now_s: float) -> None:
        """Take a node's word."""
        known = self._loops.get(news.node)
        if known is not None and news.late + news.dropped > known.late + known.dropped:
            self._missed_s = now_s
        self._loops[news.node] = news

    def tiles(self, now_s: float) -> tuple[Tile, ...]:
        """Return the loop's numbers; none before anything was heard."""
        base, driver = self._loops.get(_BASE), self._loops.get(_DRIVER)
        found = []
        if base is not None and base.period.p50_ms:
            it = base.period
            found.append(
                Tile(
                    "loop",
                    f"{1e3 / it.p50_ms:.1f} Hz",
                    f"period p99 {it.p99_ms:.1f} ms, longest {it.max_ms:.0f} ms",
                )
            )
        if driver is not None and _LATENCY in driver.stages:
            it = driver.stages[_LATENCY]
            found.append(
                Tile("latency", f"{it.p50_ms:.1f} ms", f"image to command, p99 {it.p99_ms:.1f} ms")
            )
        if base is not None:
            recent = now_s - self._missed_s < _RECENT_S
            tone = WARN if recent else OK if base.late + base.dropped == 0 else CALM
            found.append(
                Tile(
                    "late, dropped",
                    f"{base.late:,}, {base.dropped:,}",
                    "periods without a tick; ticks without a fresh picture",
                    tone,
                )
            )
        return tuple(found)
