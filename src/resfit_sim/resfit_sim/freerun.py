"""The twin in real time: physics goes on at the speed of the clock, whoever listens."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from resfit_core.control.press import ORACLE, OperatorEvent, Press
from resfit_core.control.records import EpisodeState, Phase
from resfit_sim.lockstep import Outlet, Scene, SteppedTwin


class MeasuredTwin(SteppedTwin, Protocol):
    """The part of a `Twin` that running free needs."""

    def sensors(self) -> object:
        """Return the measurements; `joint_position` [rad] is used here."""


class FreeRun:
    """Steps the twin by one sensor period whenever that much time has passed. Not thread-safe.

    The newest command is in force until the next one. What the computer cannot keep up with is
    left out and counted in `slipped`: the twin then runs slower than the clock, never in leaps.
    """

    def __init__(
        self,
        twin: MeasuredTwin,
        outlet: Outlet,
        *,
        period_ns: int,
        success_steps: int,
        most_at_once: int = 5,
        sees_success: bool = True,
    ) -> None:
        """Start with the scene of the twin as it is.

        Args:
            twin: Moves by one sensor period per step.
            outlet: Publishes.
            period_ns: Sensor period [ns].
            success_steps: The oracle presses once success lasted for so many steps.
            most_at_once: Steps done at once to catch up.
            sees_success: The oracle presses success; else somebody else does.
        """
        self._twin, self._outlet, self._period = twin, outlet, period_ns
        self._success_steps, self._most = success_steps, most_at_once
        self._sees_success = sees_success
        self._target = self._start_pose()
        self._episode, self._running, self._lasting = 0, False, 0
        self._due: int | None = None
        self._obey_from = 0
        self.slipped = 0

    def reset(self, episode: int, seed: int, stamp_ns: int) -> Scene:
        """Place the scene of `seed`; commands for observations before now are void."""
        if self._running and episode == self._episode:
            return Scene(False, f"episode {episode} is running; end it first", 0)
        self._twin.reset(seed)
        self._target = self._start_pose()
        self._episode, self._running, self._lasting = episode, False, 0
        self._obey_from = stamp_ns
        return Scene(True, "", 0)

    def state(self, state: EpisodeState) -> None:
        """Take the episode manager's word: the oracle looks only while the episode runs."""
        running = state.phase == Phase.RUNNING and state.episode == self._episode
        if running and not self._running:
            self._lasting = 0
        self._running = running

    def command(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Obey these targets [rad] from now on. Shape: (29,)."""
        if stamp_ns >= self._obey_from:
            self._target = target_rad

    def advance(self, now_ns: int, stamp_ns: int) -> None:
        """Catch up with the clock and show what the sensors say.

        Args:
            now_ns: Steady clock [ns].
            stamp_ns: The same moment on the clock of the stamps [ns].
        """
        if self._due is None:
            self._due = now_ns
        behind = (now_ns - self._due) // self._period + 1
        if behind <= 0:
            return
        steps = min(behind, self._most)
        self.slipped += behind - steps
        self._due += behind * self._period
        for _ in range(steps):
            self._twin.step(self._target)
            self._lasting = self._lasting + 1 if self._twin.success else 0
        self._outlet.show(stamp_ns)
        done = self._sees_success and self._lasting >= self._success_steps
        if self._running and done:
            self._running = False  # one press is enough
            event = OperatorEvent(
                Press.SUCCESS, ORACLE, "the task is done", stamp_ns, self._episode
            )
            self._outlet.press(event)

    def _start_pose(self) -> np.ndarray:
        return np.array(self._twin.sensors().joint_position, np.float64)
