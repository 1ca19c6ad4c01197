"""What the live nodes made of a recorded episode, beside what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STAGES = ("observation", "base", "residual", "proposed", "executed")
"""What is compared at each step; `executed` in rad, the rest in the units of the messages."""

LATENCIES = ("base", "residual", "driver", "whole")
"""Time from one stage to the next [ms]: sensors shown, policy_step, policy_command, executed."""


class Comparison:
    """Adds up differences and latencies. Not thread-safe."""

    def __init__(self, joints: Sequence[str], tolerance: float = 0.0) -> None:
        """Start with nothing.

        Args:
            joints: Names of the action's joints, for the table.
            tolerance: Differences up to this do not count; 0: equal to the bit.
        """
        self._joints = tuple(joints)
        self._tolerance = tolerance
        self._sums: dict[str, np.ndarray] = {}
        self._most: dict[str, np.ndarray] = {}
        self._steps = dict.fromkeys(STAGES, 0)
        self._differ = dict.fromkeys(STAGES, 0)
        self._first: dict[str, str] = {}
        self._latency: dict[str, list[float]] = {name: [] for name in LATENCIES}
        self._endings: list[dict[str, Any]] = []
        self._reasons = 0
        self.notes: list[str] = []

    def add(self, stage: str, where: str, live: np.ndarray, recorded: np.ndarray) -> None:
        """Compare one stage of one step.

        Args:
            stage: One of `STAGES`.
            where: Episode and step, in words.
            live: Vector of the live node.
            recorded: Vector out of the bag.
        """
        live, recorded = np.asarray(live, np.float64), np.asarray(recorded, np.float64)
        self._steps[stage] += 1
        if live.shape != recorded.shape:
            self._note_first(stage, f"{where}: length {len(live)}, recorded {len(recorded)}")
            return
        gap = np.abs(live - recorded)
        # NaN beside NaN would never be equal, and NaN beside a number always is different.
        gap[np.isnan(live) & np.isnan(recorded)] = 0.0
        gap[np.isnan(gap)] = np.inf
        if stage not in self._sums:
            self._sums[stage] = np.zeros(len(gap))
            self._most[stage] = np.zeros(len(gap))
        self._sums[stage] += gap
        np.maximum(self._most[stage], gap, out=self._most[stage])
        if len(gap) and gap.max() > self._tolerance:
            self._note_first(stage, f"{where}, index {int(gap.argmax())}")

    def add_reasons(self, live: int, recorded: int) -> None:
        """Compare why the filter altered a command."""
        self._reasons += live != recorded

    def add_latency(self, **milliseconds: float) -> None:
        """Take the latencies of one step, by names of `LATENCIES` [ms]."""
        for name, value in milliseconds.items():
            self._latency[name].append(value)

    def add_ending(
        self, episode: int, live: Mapping[str, Any], recorded: Mapping[str, Any]
    ) -> None:
        """Compare reward, credited step and `terminated` of an episode."""
        self._endings.append({"episode": episode, "live": dict(live), "recorded": dict(recorded)})

    @property
    def same(self) -> bool:
        """Whether nothing differs beyond the tolerance."""
        endings = all(e["live"] == e["recorded"] for e in self._endings)
        return endings and not self._reasons and not any(self._differ.values())

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON's types."""
        return {
            "same": self.same,
            "tolerance": self._tolerance,
            "episodes": len(self._endings),
            "steps": self._steps["executed"],
            "stages": {stage: self._stage(stage) for stage in STAGES},
            "reasons_differ": self._reasons,
            "endings_differ": [e for e in self._endings if e["live"] != e["recorded"]],
            "latency_ms": {name: _quantiles(ms) for name, ms in self._latency.items() if ms},
            "notes": self.notes,
        }

    def table(self) -> list[str]:
        """Return the lines that a person reads."""
        found = self.summary()
        lines = [f"{'stage':<12} {'steps':>7} {'differ':>7} {'largest':>10} {'mean':>10}  first"]
        for stage in STAGES:
            s = found["stages"][stage]
            lines.append(
                f"{stage:<12} {s['steps']:>7} {s['differ']:>7} {s['max']:>10.3g} "
                f"{s['mean']:>10.3g}  {s['first']}"
            )
        endings = len(found["endings_differ"])
        lines.append(f"{'reward':<12} {found['episodes']:>7} {endings:>7}  of the episodes")
        lines.append(f"{'reasons':<12} {found['steps']:>7} {found['reasons_differ']:>7}")
        lines += self._joint_lines(found)
        for name, ms in found["latency_ms"].items():
            lines.append(
                f"latency {name:<9} median {ms['median']:.2f} ms, 99 % {ms['p99']:.2f} ms, "
                f"largest {ms['max']:.2f} ms"
            )
        return lines + [f"note: {text}" for text in self.notes]

    def _note_first(self, stage: str, words: str) -> None:
        self._differ[stage] += 1
        self._first.setdefault(stage, words)

    def _stage(self, stage: str) -> dict[str, Any]:
        steps, most = self._steps[stage], self._most.get(stage, np.zeros(0))
        mean = self._sums.get(stage, np.zeros(0)) / max(steps, 1)
        found: dict[str, Any] = {
            "steps": steps,
            "differ": self._differ[stage],
            "max": float(most.max(initial=0.0)),
            "mean": float(mean.mean()) if len(mean) else 0.0,
            "first": self._first.get(stage, ""),
        }
        if stage != "observation" and self._differ[stage] and len(most) == len(self._joints):
            found["joints"] = {
                name: {"max": float(a), "mean": float(b)}
                for name, a, b in zip(self._joints, most, mean, strict=True)
                if a > self._tolerance
            }
        return found

    def _joint_lines(self, found: dict[str, Any]) -> list[str]:
        stages = [s for s in STAGES if "joints" in found["stages"][s]]
        names = [n for n in self._joints if any(n in found["stages"][s]["joints"] for s in stages)]
        if not names:
            return []
        width = max(len(name) for name in names)
        lines = [f"{'joint':<{width}} " + " ".join(f"{s + ' max/mean':>21}" for s in stages)]
        for name in names:
            cells = []
            for stage in stages:
                joint = found["stages"][stage]["joints"].get(name, {"max": 0.0, "mean": 0.0})
                cells.append(f"{joint['max']:>10.3g}/{joint['mean']:<10.3g}")
            lines.append(f"{name:<{width}} " + " ".join(cells))
        return lines


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "p99": float(np.quantile(values, 0.99)),
        "max": float(np.max(values)),
    }
