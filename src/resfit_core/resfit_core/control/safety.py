"""The safety filter: the last word on every joint target before the robot (DESIGN section 8).

The driver's run of it is authoritative, on robot and twin alike; the in-process evaluation runs
the same class. All arithmetic is float64 and free of state other than the last target sent, so
that equal inputs give equal bits wherever it runs.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

import numpy as np

from resfit_core.contract import Contract


class SafetyError(ValueError):
    """The filter was used against its rules; the text names value and fix."""


class Reason(IntFlag):
    """Why a command was altered, refused or held; the constants of `ExecutedCommand.msg`."""

    POSITION_LIMIT = 1
    VELOCITY_LIMIT = 2
    STEP_LIMIT = 4
    WRONG_LENGTH = 8
    NOT_FINITE = 16
    STALE_COMMAND = 32
    WRONG_ORDER = 64
    WATCHDOG = 128
    NOT_ACTIVE = 256
    CLIENT_ERROR = 512
    STALE_STATE = 1024
    ESTOP = 2048


LIMITED = int(Reason.POSITION_LIMIT | Reason.VELOCITY_LIMIT | Reason.STEP_LIMIT)
"""Reasons that alter a command; every other one refuses it, and the last target is held."""


class Filtered(NamedTuple):
    """What may be sent: joint targets [rad], shape (action_dim,) float64, and the reasons' sum."""

    action_rad: np.ndarray
    reasons: int


class SafetyFilter:
    """Keeps joint targets within position, velocity and step limits; refuses what it cannot judge.

    Rules, in this order; where two disagree the later one wins:

    1. *Position*: the joint's range.
    2. *Velocity*: the target moves from the last one sent by at most velocity x period.
    3. *Step*: the target stays within `max_step` of the measured position. It beats the velocity
       limit: a robot that was pushed away is not pulled back with force.
    4. *Position* once more: a measured position may lie outside the range.

    A refused command leaves the last target sent in force. One control period passes from call to
    call; after a pause, and at every episode's start, call `reset`.
    """

    def __init__(self, contract: Contract) -> None:
        """Take the limits of the contract."""
        self._shape = (contract.action_dim,)
        self._lower = contract.lower.astype(np.float64)
        self._upper = contract.upper.astype(np.float64)
        self._per_period = contract.velocity.astype(np.float64) * contract.period_s
        self._max_step = contract.max_step.astype(np.float64)
        self._last: np.ndarray | None = None

    @property
    def last(self) -> np.ndarray | None:
        """Joint targets in force [rad], shape (action_dim,); None before the first `reset`."""
        return None if self._last is None else self._last.copy()

    def reset(self, measured_rad: np.ndarray) -> None:
        """Start anew: the robot stands where it was measured, and that is its target.

        Args:
            measured_rad: Joint positions [rad]. Shape: (action_dim,).

        Raises:
            SafetyError: The measured position has another shape or is not finite.
        """
        measured = self._measured(measured_rad)
        if not np.isfinite(measured).all():
            raise SafetyError(
                f"measured position {self._first_bad(measured)}; wait for a sound joint state "
                "before the robot may move"
            )
        self._last = np.clip(measured, self._lower, self._upper)

    def restore(self, last_rad: np.ndarray | None) -> None:
        """Put a former `last` back in force: the newer one could not be sent."""
        self._last = None if last_rad is None else last_rad.copy()

    def filter(self, target_rad: np.ndarray, measured_rad: np.ndarray) -> Filtered:
        """Return what may be sent in place of `target_rad`, and why it differs.

        Args:
            target_rad: Proposed joint targets [rad]; any length and content is answered.
            measured_rad: Joint positions now [rad]. Shape: (action_dim,).

        Raises:
            SafetyError: `reset` was not called before, or `measured_rad` has another shape.
        """
        if self._last is None:
            raise SafetyError("filter() before reset(); tell the measured position first")
        measured = self._measured(measured_rad)
        target = np.asarray(target_rad, np.float64)
        refused = 0
        if target.shape != self._shape:
            refused = Reason.WRONG_LENGTH
        elif not np.isfinite(target).all():
            refused = Reason.NOT_FINITE
        if not np.isfinite(measured).all():
            refused |= Reason.STALE_STATE
        if refused:
            return Filtered(self._last.copy(), int(refused))
        last, move, step = self._last, self._per_period, self._max_step
        reasons = 0
        ranged = np.clip(target, self._lower, self._upper)
        if not np.array_equal(ranged, target):
            reasons |= Reason.POSITION_LIMIT
        slowed = np.clip(ranged, last - move, last + move)
        if not np.array_equal(slowed, ranged):
            reasons |= Reason.VELOCITY_LIMIT
        near = np.clip(slowed, measured - step, measured + step)
        if not np.array_equal(near, slowed):
            reasons |= Reason.STEP_LIMIT
        out = np.clip(near, self._lower, self._upper)
        if not np.array_equal(out, near):
            reasons |= Reason.POSITION_LIMIT
        self._last = out
        return Filtered(out.copy(), int(reasons))

    def _measured(self, measured_rad: np.ndarray) -> np.ndarray:
        measured = np.asarray(measured_rad, np.float64)
        if measured.shape != self._shape:
            raise SafetyError(
                f"measured position has shape {measured.shape}, {self._shape} is needed"
            )
        return measured

    @staticmethod
    def _first_bad(values: np.ndarray) -> str:
        index = int(np.argmin(np.isfinite(values)))
        return f"[{index}] is {values[index]}"


def reason_words(reasons: int) -> str:
    """Return the reasons as words, `velocity limit, step limit`; empty for 0."""
    return ", ".join(r.name.lower().replace("_", " ") for r in Reason if reasons & r)
