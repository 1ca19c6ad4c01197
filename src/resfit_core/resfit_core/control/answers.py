"""The driver's answers: what is said of a tick, and remembered for one that comes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.control.records import ExecutedCommand

_KEPT = 64  # answers remembered for ticks that come again
_NONE_RAD = np.zeros(0)
_NONE_NORM = np.zeros(0, np.float32)


class Answer(NamedTuple):
    """What to say of a tick, and whether its joint targets go to the robot."""

    executed: ExecutedCommand
    send: bool


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """Numbers of `DriverState`; see the message. `command_age_s` -1: no command yet."""

    holding: bool
    reasons: int
    commands: int
    altered: int
    refused: int
    holds: int
    command_age_s: float
    source: int
    start_pose_episode: int


class Answers:
    """The newest answers by stamp. Not thread-safe."""

    def __init__(self, space: ActionSpace) -> None:
        """Take the normalised action space that answers are told in."""
        self._space = space
        self._known: dict[int, Answer] = {}

    def make(
        self, stamp_ns: int, target: np.ndarray | None, source: int, reasons: int
    ) -> ExecutedCommand:
        """Return what is said: the targets in force [rad], whose they are, why they differ."""
        return ExecutedCommand(
            stamp_ns=stamp_ns,
            source=int(source),
            action_rad=_NONE_RAD if target is None else target,
            action_norm=_NONE_NORM if target is None else self._space.to_norm(target),
            altered=reasons != 0,
            reasons=int(reasons),
        )

    def get(self, stamp_ns: int) -> Answer | None:
        """Return the answer to the tick of this stamp, if there was one."""
        return self._known.get(stamp_ns)

    def remember(self, answer: Answer) -> Answer:
        """Keep an answer, in place of an earlier one of its stamp; return it."""
        self._known[answer.executed.stamp_ns] = answer
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return answer

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
