"""Health of learner and driver: their numbers as tiles, their troubles as banners."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from resfit_core.control.records import Source
from resfit_reward.panel.view import BAD, CALM, OK, WARN, Banner, Tile

DRIVER, LEARNER = "vega_driver", "learner"
_DRIVER_SILENT_S = 1.5  # it speaks every 0.2 s
_LEARNER_SILENT_S = 5.0  # it speaks every 0.5 s
_RATE_OVER_S = 3.0
_STARVED = 0.9  # share of the aimed updates per step below which it is said
_LEARNER_WORDS = ("starting", "waits for data", "training", "failed", "saved")
_DRIVER_WORDS = ("inactive", "active", "holds", "e-stop")
_HOLDING, _ESTOPPED, _FAILED = 2, 3, 3
_AT_WORK = (1, 2, 4)  # states of the learner in which a message is a complaint

_WHO = {
    Source.TELEOP: Banner(OK, "A person drives the robot"),
    Source.RESET: Banner(WARN, "The robot goes to its start pose: nobody reaches in"),
}


@dataclass(frozen=True)
class Driver:
    """`DriverState` as plain numbers; names as in the message."""

    mode: int = 0
    reason: str = ""
    commands: int = 0
    altered: int = 0
    refused: int = 0
    holds: int = 0
    command_age_s: float = -1.0
    source: int = int(Source.HOLD)

    @property
    def estopped(self) -> bool:
        """Whether the e-stop is latched."""
        return self.mode == _ESTOPPED


@dataclass(frozen=True)
class Learner:
    """`LearnerStatus` as plain numbers; names as in the message."""

    state: int = 0
    message: str = ""
    env_steps: int = 0
    updates: int = 0
    utd_target: float = 0.0
    utd_achieved: float = 0.0
    updates_owed: int = 0
    updates_per_s: float = 0.0
    weights_version: int = 0
    critic_loss: float = 0.0
    q_mean: float = 0.0
    actor_loss: float = 0.0
    demo_steps: int = 0
    online_steps: int = 0


class Health:
    """Keeps the newest word of driver, learner and recorder, and when it was heard."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self._driver, self._driver_s = Driver(), -1.0
        self._learner, self._learner_s = Learner(), -1.0
        self._weights_s = 0.0
        self._commands: deque[tuple[float, int]] = deque()
        self._dropped, self._incomplete = 0, ""

    def hear_driver(self, news: Driver, now_s: float) -> None:
        """Take the driver's word."""
        if news.commands < self._driver.commands:
            self._commands.clear()  # it was started anew
        self._driver, self._driver_s = news, now_s
        self._commands.append((now_s, news.commands))
        while now_s - self._commands[0][0] > _RATE_OVER_S:
            self._commands.popleft()

    def hear_learner(self, news: Learner, now_s: float) -> None:
        """Take the learner's word."""
        if self._learner_s < 0 or news.weights_version != self._learner.weights_version:
            self._weights_s = now_s
        self._learner, self._learner_s = news, now_s

    def hear_recorder(self, dropped: int, reason: str) -> None:
        """Take the recorder's word on one episode."""
        self._dropped += dropped
        self._incomplete = reason

    def banners(self, now_s: float, *, running: bool, gone: Iterable[str]) -> Iterable[Banner]:
        """Say what is wrong; not again of a node that is known to be gone."""
        driver, learner = self._driver, self._learner
        if DRIVER not in gone and 0 <= self._driver_s < now_s - _DRIVER_SILENT_S:
            silent = now_s - self._driver_s
            yield Banner(BAD, f"{DRIVER} is silent for {silent:.0f} s; the robot holds")
        elif driver.source in _WHO:
            yield _WHO[driver.source]
        elif driver.mode == _HOLDING and running:
            yield Banner(WARN, f"The robot holds: {driver.reason or 'no reason given'}")
        if learner.state == _FAILED and self._learner_s >= 0:
            yield Banner(BAD, f"The learner failed: {learner.message or 'no reason given'}")
        elif learner.state in _AT_WORK and learner.message:
            yield Banner(WARN, f"The learner says: {learner.message}")
        elif LEARNER not in gone and 0 <= self._learner_s < now_s - _LEARNER_SILENT_S:
            yield Banner(
                WARN, f"The learner is silent for {now_s - self._learner_s:.0f} s; "
                "the robot goes on with the last good weights",
            )  # fmt: skip
        if self._incomplete:
            yield Banner(WARN, f"The last record is incomplete: {self._incomplete}")

    def learner_tiles(self, now_s: float) -> tuple[Tile, ...]:
        """Return the learner's numbers; none before its first word."""
        if self._learner_s < 0:
            return ()
        it = self._learner
        started = it.utd_achieved > 0
        starved = started and it.utd_achieved < _STARVED * it.utd_target
        return (
            Tile(
                "learner",
                _word(_LEARNER_WORDS, it.state),
                it.message,
                BAD if it.state == _FAILED else OK,
            ),
            Tile("updates", f"{it.updates:,}", f"{it.updates_per_s:.0f}/s"),
            Tile(
                "updates per step",
                f"{it.utd_achieved:.2f}" if started else "–",
                f"of {it.utd_target:.2f} aimed at, {it.updates_owed:,} owed",
                (WARN if starved else OK) if started else CALM,
            ),
            Tile(
                "weights",
                f"v{it.weights_version}" if it.weights_version else "none",
                f"{_age(now_s - self._weights_s)} old" if it.weights_version else "base alone",
            ),
            Tile("Q", f"{it.q_mean:.3f}" if it.updates else "–", "mean of the batch"),
            Tile(
                "critic loss", f"{it.critic_loss:.2e}" if it.updates else "–", "last 100 updates"
            ),
            Tile("actor loss", f"{it.actor_loss:.3f}" if it.updates else "–", "last 100 updates"),
            Tile(
                "buffer",
                f"{it.online_steps:,}",
                f"steps of practice, {it.demo_steps:,} demonstrated",
            ),
        )

    def control_tiles(self, now_s: float) -> tuple[Tile, ...]:
        """Return driver and control in numbers; none before the driver's first word."""
        if self._driver_s < 0:
            return ()
        it = self._driver
        tone = BAD if it.estopped else WARN if it.mode == _HOLDING else OK
        age = "none yet" if it.command_age_s < 0 else f"{1e3 * it.command_age_s:.0f} ms"
        share = f"{it.altered / it.commands:.1%}" if it.commands else "0 %"
        return (
            Tile("driver", _word(_DRIVER_WORDS, it.mode), it.reason, tone),
            Tile("steps", f"{self._rate():.0f}/s", f"{it.commands:,} commands executed"),
            Tile("command age", age, "since the last accepted one"),
            Tile("altered", share, f"{it.altered:,} changed by the safety filter"),
            Tile("refused", f"{it.refused:,}", f"{it.holds:,} holds by the watchdog"),
            Tile(
                "steps left out", f"{self._dropped:,}", "of the records: after the credited one, "
                "or incomplete",
            ),
        )  # fmt: skip

    def _rate(self) -> float:
        if len(self._commands) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._commands[0], self._commands[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if number < len(words) else f"unknown ({number})"


def _age(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
