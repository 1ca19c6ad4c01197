"""The twin's person: when the scripted expert takes over, and what it then commands."""

from __future__ import annotations

import numpy as np

from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_sim.errors import PlanFailed
from resfit_sim.expert import Expert


class ExpertHands:
    """Takes over once in some practice episodes, at a moment drawn from the scene's seed.

    It plans from what it sees then, and hands back after `steps`. Not thread-safe.
    """

    def __init__(
        self, expert: Expert, *, share: float, steps: int, latest: int, period_ns: int
    ) -> None:
        """Start without an episode.

        Args:
            expert: Plays the person.
            share: Of the practice episodes in which it takes over, [0, 1].
            steps: Control steps that it drives; 0: to the episode's end.
            latest: It takes over before this step.
            period_ns: Control period [ns].
        """
        self._expert, self._share, self._steps, self._latest = expert, share, steps, latest
        self._period = period_ns
        self._state: EpisodeState | None = None
        self._from, self._began_ns = -1, 0
        self._rng = np.random.default_rng(0)
        self.why_not = ""
        """Why it did not take over, in words."""

    def state(self, state: EpisodeState) -> None:
        """Take the run's state."""
        if state.corrects_older_than(self._state):
            return
        begins = state.phase == Phase.RUNNING and (
            self._state is None or self._state.episode != state.episode
            or self._state.phase != Phase.RUNNING
        )  # fmt: skip
        self._state = state
        if begins:
            self._rng = np.random.default_rng([state.seed, 2])
            wants = state.mode in (Mode.WARMUP, Mode.TRAIN) and self._rng.random() < self._share
            self._from = int(self._rng.integers(1, self._latest)) if wants else -1
            self._began_ns, self.why_not = 0, ""

    def wants(self, stamp_ns: int) -> bool:
        """Return whether it drives at the sensors' stamp [ns], unless its plan fails."""
        state = self._state
        if state is None or state.phase != Phase.RUNNING or self._from < 0 or self.why_not:
            return False
        step = round((stamp_ns - state.start_ns) / self._period)
        return step >= self._from and not (self._steps and step >= self._from + self._steps)

    def act(self, stamp_ns: int, joints: np.ndarray, objects: np.ndarray) -> np.ndarray | None:
        """Return joint targets [rad]; None: its hands are off the robot.

        Args:
            stamp_ns: Of the sensors [ns].
            joints: Measured, order of `JOINT_NAMES` [rad]. Shape: (29,).
            objects: Poses in the expert's order [m]. Shape: (objects, 3 or more).
        """
        if not self.wants(stamp_ns):
            return None
        try:
            if not self._began_ns:
                self._expert.reset(objects, joints, self._rng)
                self._began_ns = stamp_ns
            return self._expert.act(round((stamp_ns - self._began_ns) / self._period), objects)
        except PlanFailed as error:
            self.why_not = str(error)
            return None
