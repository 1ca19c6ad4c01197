"""What a running run has done so far, read from its two files (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit_core.run_log import EpisodeLine, Tail, newest

WINDOW = 20  # episodes


@dataclass(frozen=True)
class Snapshot:
    """Numbers of the live view; None: not known yet.

    Attributes:
        episode: Episodes ended.
        planned: Episodes of the whole run, both evaluation sides included.
        mode: Of the newest episode.
        success: Share of successes over the last :data:`WINDOW` practice episodes, 0..1.
        window: Number of episodes behind `success`.
        steps_per_s: Control steps per second of RUNNING time over the window.
        updates_per_s: The learner's.
        utd_achieved: Updates per step since learning started.
        utd_target: What is aimed at.
        left_s: Estimated time to the last episode [s].
    """

    episode: int
    planned: int
    mode: str
    success: float | None
    window: int
    steps_per_s: float | None
    updates_per_s: float | None
    utd_achieved: float | None
    utd_target: float | None
    left_s: float | None


class Progress:
    """Follows a run's files."""

    def __init__(self, run_dir: Path, planned: int) -> None:
        """Follow the run in `run_dir`, which plans so many episodes."""
        self._planned = planned
        self._episode_tail = Tail(run_dir / "episodes.jsonl")
        self._learner_tail = Tail(run_dir / "learner.jsonl")
        self._episodes: list[EpisodeLine] = []
        self._learner: Mapping[str, Any] = {}

    def look(self) -> Snapshot:
        """Read what is new and return the numbers."""
        added = [EpisodeLine.from_mapping(data) for data in self._episode_tail.new()]
        if added:
            self._episodes = newest([*self._episodes, *added])
        for line in self._learner_tail.new():
            self._learner = line
        done = self._episodes
        counted = [e for e in done if e.rated and e.mode != "evaluate"]
        window = counted[-WINDOW:]
        recent = done[-WINDOW:]
        running_s = sum(e.end_s - e.start_s for e in recent)
        return Snapshot(
            episode=len(done),
            planned=self._planned,
            mode=_mode(done[-1]) if done else "starting",
            success=sum(e.success for e in window) / len(window) if window else None,
            window=len(window),
            steps_per_s=sum(e.steps for e in recent) / running_s if running_s > 0 else None,
            updates_per_s=self._learner.get("updates_per_s"),
            utd_achieved=self._learner.get("utd_achieved"),
            utd_target=self._learner.get("utd_target"),
            left_s=self._left_s(done),
        )

    def _left_s(self, done: list[EpisodeLine]) -> float | None:
        recent = done[-WINDOW:]
        if len(recent) < 2 or not self._planned:
            return None
        per_episode = (recent[-1].end_s - recent[0].end_s) / (len(recent) - 1)
        return max(0.0, per_episode * (self._planned - len(done)))


def _mode(episode: EpisodeLine) -> str:
    if episode.mode != "evaluate":
        return episode.mode
    if episode.label:
        return f"round {episode.round}, {episode.label}"
    return f"evaluate {'residual' if episode.use_residual else 'base'}"


def in_words(s: Snapshot) -> str:
    """Return the snapshot as one line; what is not known yet is left out."""
    parts = [f"episode {s.episode}/{s.planned or '?'}", s.mode]
    if s.success is not None:
        parts.append(f"success {s.success:.0%} of last {s.window}")
    if s.steps_per_s is not None:
        parts.append(f"{s.steps_per_s:.0f} steps/s")
    if s.updates_per_s is not None:
        parts.append(f"{s.updates_per_s:.0f} updates/s")
    if s.utd_achieved is not None and s.utd_target is not None:
        parts.append(f"UTD {s.utd_achieved:.2f}/{s.utd_target:.2f}")
    if s.left_s is not None:
        parts.append(f"{_duration(s.left_s)} left")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"
    )
