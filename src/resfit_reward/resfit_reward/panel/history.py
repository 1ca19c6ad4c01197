"""The episodes so far: success curve with its interval, and the band of the base alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resfit_core.control.records import EndedBy, EpisodeState, Mode
from resfit_core.intervals import wilson
from resfit_core.run_log import EpisodeLine

WINDOW = 20
"""Episodes behind each point of the curve."""
MOST_POINTS = 160


@dataclass(frozen=True)
class Episode:
    """One ended episode as its newest verdict has it; `ended_by` and `mode` in words."""

    number: int
    mode: str
    use_residual: bool
    ended_by: str
    revision: int
    steps: int
    reason: str = ""
    place: str = ""  # round and label of a blind evaluation
    taken_over: bool = False

    @property
    def counts(self) -> bool:
        """Whether it counts in success rates: it has a verdict, and nobody drove the robot."""
        return self.ended_by != "aborted" and not self.taken_over

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.ended_by == "success"

    @property
    def base_alone(self) -> bool:
        """Whether the base acted without the residual."""
        return self.mode == "warmup" or not self.use_residual


@dataclass(frozen=True)
class Rate:
    """A success rate with its 95 % Wilson interval, all 0..1."""

    successes: int
    trials: int

    @property
    def value(self) -> float:
        """Share of successes; 0 without a trial."""
        return self.successes / self.trials if self.trials else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The interval; everything without a trial."""
        return wilson(self.successes, self.trials) if self.trials else (0.0, 1.0)


@dataclass(frozen=True)
class Point:
    """Success over the last `WINDOW` practice episodes up to this one, with its interval."""

    episode: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """What the plot shows.

    Attributes:
        points: In the order of the episodes, thinned to `MOST_POINTS`.
        base: The base alone in practice, its exploration included.
        recent: The last `WINDOW` practice episodes.
        evaluated: Evaluation scenes without exploration: the base, the residual.
        warmup_end: Number of the last warm-up episode; 0: none.
    """

    points: tuple[Point, ...] = ()
    base: Rate = Rate(0, 0)
    recent: Rate = Rate(0, 0)
    evaluated: tuple[Rate, Rate] = (Rate(0, 0), Rate(0, 0))
    warmup_end: int = 0


class History:
    """Collects verdicts; a higher revision replaces a lower one."""

    def __init__(self) -> None:
        """Start empty."""
        self._episodes: dict[int, Episode] = {}
        self._curve: Curve | None = Curve()

    def line(self, line: EpisodeLine) -> None:
        """Take a line of the run's log: what happened before the panel was there."""
        self._take(
            Episode(
                line.episode,
                line.mode,
                line.use_residual,
                line.ended_by,
                line.revision,
                line.steps,
                place=_place(line.round, line.label),
                taken_over=line.interventions > 0,
            )
        )

    def ended(self, state: EpisodeState, *, taken_over: bool = False) -> None:
        """Take the end of an episode or its correction; `taken_over`: a person drove in it."""
        self._take(
            Episode(
                state.episode,
                Mode(state.mode).name.lower(),
                state.use_residual,
                EndedBy(state.ended_by).name.lower(),
                state.revision,
                state.credited_step + 1,
                state.reason,
                _place(state.round, state.label),
                taken_over,
            )
        )

    def last(self, count: int) -> tuple[Episode, ...]:
        """Return the newest episodes, newest first."""
        return tuple(self._episodes[n] for n in sorted(self._episodes, reverse=True)[:count])

    @property
    def curve(self) -> Curve:
        """What the plot shows; computed anew only after a change."""
        if self._curve is None:
            self._curve = _curve(self._episodes[n] for n in sorted(self._episodes))
        return self._curve

    def _take(self, episode: Episode) -> None:
        known = self._episodes.get(episode.number)
        if known is not None and known.revision > episode.revision:
            return
        self._episodes[episode.number] = episode
        self._curve = None


def _place(number: int, label: str) -> str:
    return f"round {number}, {label}" if label else ""


def _rate(episodes: Iterable[Episode]) -> Rate:
    verdicts = [e.success for e in episodes]
    return Rate(sum(verdicts), len(verdicts))


def _curve(episodes: Iterable[Episode]) -> Curve:
    counted = [e for e in episodes if e.counts]
    practice = [e for e in counted if e.mode in ("warmup", "train")]
    tested = [e for e in counted if e.mode == "evaluate" and not e.place]
    points = []
    for i, episode in enumerate(practice):
        rate = _rate(practice[max(0, i + 1 - WINDOW) : i + 1])
        if rate.trials >= min(5, WINDOW):  # fewer say nothing and fill the plot
            points.append(Point(episode.number, rate.value, *rate.interval))
    every = -(-len(points) // MOST_POINTS) or 1
    return Curve(
        points=tuple(points[::-1][::every][::-1]),
        base=_rate(e for e in practice if e.base_alone),
        recent=_rate(practice[-WINDOW:]),
        evaluated=(
            _rate(e for e in tested if not e.use_residual),
            _rate(e for e in tested if e.use_residual),
        ),
        warmup_end=max((e.number for e in practice if e.mode == "warmup"), default=0),
    )
