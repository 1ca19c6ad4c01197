"""The safety filter: the last word on every joint target before the robot (DESIGN section 8).

The driver's run of it is authoritative, on robot and twin alike; the in-process evaluation runs
the same class. All arithmetic is float64 and free of state other than the last targets sent and
which wrists are overloaded, so that equal inputs give equal bits wherever it runs.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.limits import ForceLimit


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
    ACCELERATION_LIMIT = 4096
    SELF_COLLISION = 8192
    OBSTACLE = 16384
    RAMP = 32768
    FORCE_LIMIT = 65536
    STALE_WRENCH = 131072
    FROZEN_STATE = 262144
    CLOCK_JUMP = 524288
    TELEOP_SILENT = 1048576


LIMITED = int(
    Reason.POSITION_LIMIT | Reason.VELOCITY_LIMIT | Reason.STEP_LIMIT | Reason.ACCELERATION_LIMIT
    | Reason.SELF_COLLISION | Reason.OBSTACLE | Reason.RAMP
)  # fmt: skip
"""Reasons that alter a command; every other one refuses it, and the last target is held."""


class Filtered(NamedTuple):
    """What may be sent: joint targets [rad], shape (action_dim,) float64, and the reasons' sum."""

    action_rad: np.ndarray
    reasons: int


class SafetyFilter:
    """Keeps joint targets within limits and apart; refuses what it cannot judge.

    Rules, in this order; where two disagree the later one wins:

    1. *Force*: while a wrist is overloaded everything is refused; its arm is held where it was
       measured when the limit was passed, so that it gives way.
    2. *Position*: the joint's range.
    3. *Velocity*: the target moves from the last one sent by at most velocity x period.
    4. *Acceleration*: it speeds up by at most acceleration x period. Slowing down is free.
    5. *Step*: the target stays within `max_step` of the measured position. It beats velocity and
       acceleration: a robot that was pushed away is not pulled back with force.
    6. *Collision*: joints that would bring two links, or a link and an obstacle, too close keep
       their last target; where that does not help, all do.
    7. *Step and position* once more: what was measured, or held, may lie outside.

    1, 4 and 6 need the robot's safety file (`control/limits.py`); without it they are left out.
    A refused command leaves the last target sent in force. One control period passes from call to
    call; after a pause, and at every episode's start, call `reset`.
    """

    def __init__(self, contract: Contract) -> None:
        """Take the limits of the contract and of the robot's safety file."""
        self._shape = (contract.action_dim,)
        self._lower = contract.lower.astype(np.float64)
        self._upper = contract.upper.astype(np.float64)
        self._per_period = contract.velocity.astype(np.float64) * contract.period_s
        self._max_step = contract.max_step.astype(np.float64)
        limits = contract.safety
        self._speed_up = None if limits is None else limits.acceleration * contract.period_s**2
        self._collision = None if limits is None else limits.collision
        self._force: tuple[tuple[int, ForceLimit], ...] = () if limits is None else tuple(
            (contract.wrenches.index(limit.wrench), limit) for limit in limits.force
        )  # fmt: skip
        self._overloaded = [False] * len(self._force)
        self._last: np.ndarray | None = None
        self._move = np.zeros(self._shape)  # from the target before the last one to it
        self.touched: tuple[tuple[str, str], ...] = ()
        """Links and obstacles that the newest command would have brought together."""

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
        self._move = np.zeros(self._shape)
        # An overload outlives it: a pause must not let an arm move on before it is released.

    def restore(self, last_rad: np.ndarray | None) -> None:
        """Put a former `last` back in force: the newer one could not be sent."""
        self._last = None if last_rad is None else last_rad.copy()
        self._move = np.zeros(self._shape)

    def filter(
        self,
        target_rad: np.ndarray,
        measured_rad: np.ndarray,
        wrenches: np.ndarray | None = None,
        slow: float = 1.0,
    ) -> Filtered:
        """Return what may be sent in place of `target_rad`, and why it differs.

        Args:
            target_rad: Proposed joint targets [rad]; any length and content is answered.
            measured_rad: Joint positions now [rad]. Shape: (action_dim,).
            wrenches: Force [N] and torque [Nm] of each of the contract's streams; None: not
                judged. Shape: (streams, 6).
            slow: Share of the velocity limits, (0, 1]; below 1 a takeover is eased in.

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
        elif wrenches is not None:
            refused |= self.feel(np.asarray(wrenches, np.float64), measured)
        if refused:
            self._move = np.zeros(self._shape)
            return Filtered(self._last.copy(), int(refused))
        out, reasons = self._limit(target, measured, slow)
        out, touches = self._keep_apart(out, measured)
        self._move, self._last = out - self._last, out
        return Filtered(out.copy(), int(reasons | touches))

    def feel(self, wrenches: np.ndarray, measured: np.ndarray) -> int:
        """Return why no command may pass, by the wrists' load, with hysteresis; 0: nothing.

        Where a limit is passed anew, that arm's targets in force become its measured positions.

        Args:
            wrenches: Force [N] and torque [Nm] of each of the contract's streams. Shape:
                (streams, 6).
            measured: Joint positions now [rad], finite. Shape: (action_dim,).
        """
        if self._last is None:
            return 0
        reasons = 0
        for index, (stream, limit) in enumerate(self._force):
            values = wrenches[stream] if stream < len(wrenches) else np.full(6, np.nan)
            if values.shape != (6,) or not np.isfinite(values).all():
                reasons |= Reason.STALE_WRENCH
                continue
            with np.errstate(over="ignore"):  # too large to square is over every limit
                force, torque = np.linalg.norm(values[:3]), np.linalg.norm(values[3:])
            if self._overloaded[index]:
                over = force > limit.release_n or torque > limit.release_nm
            else:
                over = force > limit.limit_n or torque > limit.limit_nm
                if over:
                    given = np.where(limit.joints, measured, self._last)
                    self._last = np.clip(given, self._lower, self._upper)
            self._overloaded[index] = bool(over)
            reasons |= Reason.FORCE_LIMIT if over else 0
        return int(reasons)

    def _limit(
        self, target: np.ndarray, measured: np.ndarray, slow: float
    ) -> tuple[np.ndarray, int]:
        last, reasons = self._last, 0
        ranged = np.clip(target, self._lower, self._upper)
        if not np.array_equal(ranged, target):
            reasons |= Reason.POSITION_LIMIT
        move = self._per_period if slow >= 1 else self._per_period * slow
        slowed = np.clip(ranged, last - move, last + move)
        if not np.array_equal(slowed, ranged):
            reasons |= Reason.VELOCITY_LIMIT if slow >= 1 else Reason.RAMP
        if self._speed_up is not None:
            # Braking is free: an arm driven on past where it was told to stop would do harm.
            least = last + (np.minimum(self._move, 0) - self._speed_up)
            most = last + (np.maximum(self._move, 0) + self._speed_up)
            eased = np.clip(slowed, least, most)
            if not np.array_equal(eased, slowed):
                reasons |= Reason.ACCELERATION_LIMIT
            slowed = eased
        near = np.clip(slowed, measured - self._max_step, measured + self._max_step)
        if not np.array_equal(near, slowed):
            reasons |= Reason.STEP_LIMIT
        out = np.clip(near, self._lower, self._upper)
        if not np.array_equal(out, near):
            reasons |= Reason.POSITION_LIMIT
        return out, int(reasons)

    def _keep_apart(self, out: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the target with joints stopped that would make links touch, and the reasons."""
        self.touched = ()
        if self._collision is None:
            return out, 0
        last, reasons = self._last, 0
        for attempt in range(2):
            hit = self._collision.check(last, out)
            if hit is None:
                break
            self.touched += hit.pairs
            reasons |= Reason.SELF_COLLISION if hit.with_itself else 0
            reasons |= Reason.OBSTACLE if hit.with_box else 0
            # Joints that play no part go on, once; if something touches still, all stand.
            out = np.where(hit.joints, last, out) if attempt == 0 else last
        if reasons:
            near = np.clip(out, measured - self._max_step, measured + self._max_step)
            out = np.clip(near, self._lower, self._upper)
        return out, int(reasons)

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
