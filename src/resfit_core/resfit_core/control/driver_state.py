"""What the driver knows of the robot: newest measurements, frozen ones, who takes over."""

from __future__ import annotations

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.driver_clock import StampClock
from resfit_core.control.safety import Reason

_KEPT_EXACT = 8  # sets of measurements kept in lock-step; in real time only the newest counts
_FROZEN_RAD = 0.05  # the target has moved by so much and the joints by nothing at all


class Measured:
    """Joint positions and wrenches, by stamp (lock-step) or the newest (real time)."""

    def __init__(self, contract: Contract, *, exact: bool) -> None:
        """Start empty; wrenches count only where the robot's safety file limits them."""
        limits = contract.safety
        self._streams = len(contract.wrenches) if limits is not None and limits.force else 0
        self._needed = [contract.wrenches.index(f.wrench) for f in limits.force] if limits else []
        self._frozen_ns = round(limits.frozen_state_s * 1e9) if limits else 0
        self._keep = _KEPT_EXACT if exact else 1
        self._states: dict[int, np.ndarray] = {}  # newest last
        self._wrenches: list[dict[int, np.ndarray]] = [{} for _ in range(self._streams)]
        self._felt_ns = [0] * self._streams
        self._still_ns: int | None = None  # since when no joint has changed by a bit
        self._still_target: np.ndarray | None = None
        self.newest_ns = 0  # stamp of the newest joint state

    def position(
        self, stamp_ns: int, position_rad: np.ndarray, target_rad: np.ndarray | None, now_ns: int
    ) -> None:
        """Take a joint state; `target_rad` is what is in force meanwhile."""
        before = self._states.get(self.newest_ns)
        if before is None or not np.array_equal(before, position_rad):
            self._still_ns, self._still_target = now_ns, target_rad
        self._states.pop(stamp_ns, None)
        self._states[stamp_ns] = position_rad
        while len(self._states) > self._keep:
            del self._states[next(iter(self._states))]
        self.newest_ns = stamp_ns

    def wrench(self, stream: int, stamp_ns: int, values: np.ndarray, now_ns: int) -> None:
        """Take a wrench of the stream of this number."""
        if stream >= self._streams:
            return
        kept = self._wrenches[stream]
        kept.pop(stamp_ns, None)
        kept[stamp_ns] = values
        while len(kept) > self._keep:
            del kept[next(iter(kept))]
        self._felt_ns[stream] = now_ns

    def awaits(self, stamp_ns: int) -> bool:
        """Whether measurements of this stamp are still under way (lock-step).

        A stream that was never heard is not waited for: the robot may have no such sensor.
        """
        if stamp_ns not in self._states:
            return stamp_ns > self.newest_ns
        return any(
            w and stamp_ns not in w and stamp_ns > next(reversed(w)) for w in self._wrenches
        )

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Return the joint positions of this stamp, if they are known."""
        return self._states.get(stamp_ns)

    def wrenches_at(self, stamp_ns: int) -> np.ndarray | None:
        """Return the wrenches of this stamp; None where one is missing. Shape: (streams, 6)."""
        found = [w[stamp_ns] for w in self._wrenches if stamp_ns in w]
        return np.stack(found) if found and len(found) == self._streams else None

    def newest(
        self, now_ns: int, clock: StampClock, most_ns: int
    ) -> tuple[np.ndarray | None, int]:
        """Return the newest joint positions, or None and the reason."""
        position = self._states.get(self.newest_ns)
        if position is None or clock.age_ns(self.newest_ns, now_ns) > most_ns:
            return None, int(Reason.STALE_STATE)
        return position, 0

    def newest_wrenches(self, now_ns: int, most_ns: int) -> tuple[np.ndarray | None, int]:
        """Return the newest wrenches, or None and the reason. Shape: (streams, 6)."""
        if not self._streams:
            return None, 0
        for stream in self._needed:
            if not self._wrenches[stream] or now_ns - self._felt_ns[stream] > most_ns:
                return None, int(Reason.STALE_WRENCH)
        nothing = np.zeros(6)  # a stream without a limit is not looked at
        return np.stack([next(iter(w.values()), nothing) for w in self._wrenches]), 0

    def frozen(self, target_rad: np.ndarray | None, now_ns: int) -> bool:
        """Whether fresh stamps carry old joints: no bit changed although the target moved on."""
        if (
            not self._frozen_ns
            or self._still_ns is None
            or now_ns - self._still_ns < self._frozen_ns
        ):
            return False
        if target_rad is None or self._still_target is None:
            return False
        return bool(np.max(np.abs(target_rad - self._still_target)) > _FROZEN_RAD)


class Takeover:
    """Eases in whoever takes over the robot; real time only, in lock-step nobody does."""

    def __init__(self, contract: Contract, *, exact: bool) -> None:
        """Take the ramp of the robot's safety file; without one nothing is eased."""
        limits = contract.safety
        self._ramp = None if exact or limits is None else limits.ramp
        self._due = False
        self._since_ns: int | None = None

    def due(self) -> None:
        """The next command takes over."""
        self._due, self._since_ns = self._ramp is not None, None

    def forget(self) -> None:
        """Nobody takes over any more."""
        self._due, self._since_ns = False, None

    def scale(self, target_rad: np.ndarray, measured_rad: np.ndarray, now_ns: int) -> float:
        """Return the share of the velocity limits that holds for this command."""
        ramp = self._ramp
        if ramp is None or len(target_rad) != len(measured_rad):
            return 1.0
        if self._due:
            self._due = False
            away = np.max(np.abs(target_rad - measured_rad))
            self._since_ns = None if away <= ramp.tolerance_rad + 1e-9 else now_ns
        if self._since_ns is None:
            return 1.0
        passed = (now_ns - self._since_ns) / (ramp.seconds * 1e9)
        return min(1.0, ramp.start_scale + (1 - ramp.start_scale) * passed)

    def done(self, reasons: int) -> None:
        """Take what became of the command: what the ramp did not slow has arrived."""
        if not reasons & Reason.RAMP:
            self._since_ns = None
