"""The success curve as SVG: colours come from the page's style, so it follows dark and light."""

from __future__ import annotations

from collections.abc import Callable

from resfit_reward.panel.history import WINDOW, Curve

_WIDTH, _HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 30


def svg(curve: Curve) -> str:
    """Return the curve with its interval, and the band of the base alone."""
    last = max((p.episode for p in curve.points), default=WINDOW)
    first = min((p.episode for p in curve.points), default=1)
    span = max(1, last - first)

    def x(episode: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (episode - first) / span

    def y(rate: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * rate

    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="success over the last {WINDOW} episodes">'
    ]
    parts += _grid(y)
    if curve.base.trials:
        low, high = curve.base.interval
        width = _WIDTH - _LEFT - _RIGHT
        parts.append(
            f'<rect class="base-band" x="{_LEFT}" y="{y(high):.1f}" width="{width}" '
            f'height="{y(low) - y(high):.1f}"/>'
        )
        parts.append(_line("base-line", [(_LEFT, y(curve.base.value)),
                                         (_LEFT + width, y(curve.base.value))]))  # fmt: skip
    if curve.points:
        edge = [(x(p.episode), y(p.high)) for p in curve.points]
        edge += [(x(p.episode), y(p.low)) for p in reversed(curve.points)]
        parts.append(f'<polygon class="band" points="{_pairs(edge)}"/>')
        line = [(x(p.episode), y(p.rate)) for p in curve.points]
        parts.append(_line("curve", line))
        parts.append(
            f'<circle class="now" cx="{line[-1][0]:.1f}" cy="{line[-1][1]:.1f}" r="4.5"/>'
        )
        if first < curve.warmup_end < last:
            at = x(curve.warmup_end)
            parts.append(_line("mark", [(at, _TOP), (at, _HEIGHT - _BOTTOM)]))
            parts.append(_text(at + 5, _TOP + 12, "learning starts", "start"))
        parts += [
            _text(_LEFT, _HEIGHT - 8, str(first), "start"),
            _text(_WIDTH - _RIGHT, _HEIGHT - 8, f"episode {last}", "end"),
        ]
    else:
        parts.append(
            _text(_WIDTH / 2, _HEIGHT / 2, "the curve begins after five practice episodes",
                  "middle")
        )  # fmt: skip
    return "".join([*parts, "</svg>"])


def _grid(y: Callable[[float], float]) -> list[str]:
    parts = []
    for percent in (0, 25, 50, 75, 100):
        at = y(percent / 100)
        parts.append(_line("grid", [(_LEFT, at), (_WIDTH - _RIGHT, at)]))
        parts.append(_text(_LEFT - 6, at + 4, f"{percent} %", "end"))
    return parts


def _line(name: str, points: list[tuple[float, float]]) -> str:
    return f'<polyline class="{name}" points="{_pairs(points)}"/>'


def _pairs(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
