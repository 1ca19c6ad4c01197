"""The twin's side of lock-step: when it shows its sensors, when it moves, when it gives up."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np

from resfit_core.control.press import ORACLE, OperatorEvent, Press
from resfit_core.control.records import EpisodeState, Phase
from resfit_sim.errors import SimError

_S = 1_000_000_000


class LockStepError(SimError, RuntimeError):
    """Nobody answered; the text says what was waited for and who should have answered."""


class SteppedTwin(Protocol):
    """The part of a `Twin` that lock-step needs."""

    success: bool

    def reset(self, seed: int) -> None:
        """Place the scene of a seed."""

    def step(self, target_rad: np.ndarray) -> None:
        """Advance by one control period."""


class Outlet(Protocol):
    """Where the twin's words go."""

    def show(self, stamp_ns: int) -> None:
        """Publish the sensors under this stamp; the same bytes again for the same stamp."""

    def press(self, event: OperatorEvent) -> None:
        """Press the oracle's button."""


class Scene(NamedTuple):
    """Answer to a reset: `first_stamp_ns` is what the first observation will carry [ns]."""

    success: bool
    message: str
    first_stamp_ns: int


class _Waits(Enum):
    SCENE = "for a scene"
    RUNNING = "for RUNNING"
    COMMAND = "for joint_command"
    ENDED = "for ENDED"


class LockStep:
    """Shows one set of sensors, waits for the command of that stamp, moves, and so on.

    Protocol: docs/architecture.md, One tick and One episode. Not thread-safe. Stamps only grow;
    the first one of an episode lies `gap_ns` and more after all before, so that the driver sees
    that it is no next tick.
    """

    def __init__(
        self,
        twin: SteppedTwin,
        outlet: Outlet,
        *,
        period_ns: int,
        horizon_steps: int,
        gap_ns: int,
        timeout_ns: int,
        retries: int,
        sees_success: bool = True,
    ) -> None:
        """Start without a scene.

        Args:
            twin: Moves by one control period per step.
            outlet: Publishes.
            period_ns: Control period [ns].
            horizon_steps: Steps until the time is up.
            gap_ns: Least distance of one episode's stamps from another's [ns].
            timeout_ns: Say it again after so long without an answer, steady clock [ns].
            retries: Give up after so many repetitions.
            sees_success: The oracle presses success; else somebody else does, or time is up.
        """
        self._twin, self._outlet = twin, outlet
        self._period, self._horizon, self._gap = period_ns, horizon_steps, gap_ns
        self._timeout, self._retries = timeout_ns, retries
        self._sees_success = sees_success
        self._waits = _Waits.SCENE
        self._episode, self._seed, self._steps = 0, -1, 0
        self._stamp = 0  # of the present physical state
        self._shown = 0  # newest stamp that was published
        self._event: OperatorEvent | None = None
        self._since = self._repeated = 0
        self.resent = 0

    @property
    def episode(self) -> int:
        """Number of the episode whose scene is placed; 0: none."""
        return self._episode

    def reset(self, episode: int, seed: int) -> Scene:
        """Place the scene of `seed` for `episode`; whatever ran before is over."""
        if episode == self._episode and seed == self._seed:
            if self._waits != _Waits.RUNNING:
                return Scene(False, f"episode {episode} has begun; give a new one its number", 0)
            return Scene(True, "", self._stamp)  # asked twice: the scene stands already
        self._twin.reset(seed)
        self._episode, self._seed, self._steps, self._event = episode, seed, 0, None
        # Whole seconds read better in a log.
        self._stamp = -(-(self._stamp + self._gap) // _S) * _S
        self._waits = _Waits.RUNNING
        return Scene(True, "", self._stamp)

    def state(self, state: EpisodeState, now_ns: int) -> None:
        """Take the episode manager's word; `now_ns` on the steady clock."""
        if state.episode != self._episode:
            return
        if state.phase == Phase.RUNNING and self._waits == _Waits.RUNNING:
            self._show(now_ns)
        elif state.phase == Phase.ENDED and self._waits in (_Waits.COMMAND, _Waits.ENDED):
            self._waits, self._event = _Waits.SCENE, None
            # A press in the past ends the episode at a stamp that was shown already.
            if state.end_ns == self._stamp > self._shown:
                self._shown = self._stamp
                self._outlet.show(self._stamp)

    def command(self, stamp_ns: int, target_rad: np.ndarray, now_ns: int) -> None:
        """Take joint targets [rad]; those of any stamp but the one waited for do nothing.

        Args:
            stamp_ns: Stamp of the observation they answer [ns].
            target_rad: Order of the twin's joints. Shape: (29,).
            now_ns: Steady clock [ns].
        """
        if self._waits != _Waits.COMMAND or stamp_ns != self._stamp:
            return
        self._twin.step(target_rad)
        self._steps += 1
        self._stamp += self._period
        if self._sees_success and self._twin.success:
            self._press(Press.SUCCESS, "the task is done", now_ns)
        elif self._steps >= self._horizon:
            self._press(Press.TIMEOUT, f"{self._steps} steps are over", now_ns)
        else:
            self._show(now_ns)

    def tick(self, now_ns: int) -> None:
        """Say again what nobody answered.

        Raises:
            LockStepError: It was said often enough.
        """
        if self._waits not in (_Waits.COMMAND, _Waits.ENDED):
            return
        if now_ns - self._since <= self._timeout:
            return
        if self._repeated >= self._retries:
            seconds = (self._repeated + 1) * self._timeout / _S
            who = (
                "base_policy, residual_policy or vega_driver does not answer"
                if self._waits == _Waits.COMMAND
                else "reward_button or episode_manager does not answer"
            )
            raise LockStepError(
                f"waited {seconds:g} s {self._waits.value} of stamp {self._stamp / _S:.3f} s "
                f"(episode {self._episode}, step {self._steps}): {who}; see its log"
            )
        self._repeated += 1
        self.resent += 1
        self._since = now_ns
        if self._waits == _Waits.COMMAND:
            self._outlet.show(self._stamp)
        else:
            self._outlet.press(self._event)

    def _show(self, now_ns: int) -> None:
        self._waits, self._since, self._repeated = _Waits.COMMAND, now_ns, 0
        self._shown = self._stamp
        self._outlet.show(self._stamp)

    def _press(self, kind: Press, reason: str, now_ns: int) -> None:
        self._waits, self._since, self._repeated = _Waits.ENDED, now_ns, 0
        self._event = OperatorEvent(kind, ORACLE, reason, self._stamp, self._episode)
        self._outlet.press(self._event)
