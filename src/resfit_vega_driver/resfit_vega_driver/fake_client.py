"""A robot out of numbers, with faults by script: what the driver's tests and benchmarks run on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.strict_yaml import ContractError, check_keys, read_yaml
from resfit_vega_driver.client import ClientError, Ears

KINDS = {
    "delay": "measurements arrive `value` seconds late",
    "drop": "no joint states",
    "nan": "joint positions are not numbers",
    "freeze": "joints are measured where they were, with fresh stamps",
    "deaf": "targets are taken and not carried out",
    "refuse": "targets are refused",
    "crash": "sending raises what nobody foresaw",
    "estop": "the robot's emergency stop is pressed",
    "jump": "the clock of the stamps is off by `value` seconds",
    "force": "the first wrist feels `value` newtons",
}
"""Faults and what they do."""


@dataclass(frozen=True)
class Fault:
    """One fault of the script, from `start_s` until `end_s` after the robot was opened [s]."""

    kind: str
    start_s: float
    end_s: float
    value: float = 0.0


def read_script(file: str | Path) -> list[Fault]:
    """Read `faults:`, a list of `{kind, start_s, end_s, value}`.

    Raises:
        ContractError: The file is wrong; the text names entry, value and what is allowed.
    """
    data = read_yaml(file)
    check_keys(data, {"faults"}, str(file))
    faults = []
    for number, row in enumerate(data["faults"] or []):
        where = f"{file}: fault {number}"
        check_keys(row, {"kind", "start_s", "end_s", "value"}, where)
        if row["kind"] not in KINDS:
            raise ContractError(f"{where}: kind '{row['kind']}' is not one of {sorted(KINDS)}")
        faults.append(_fault(row, where))
    return faults


def _fault(row: Mapping[str, Any], where: str) -> Fault:
    try:
        fault = Fault(row["kind"], *(float(row[k]) for k in ("start_s", "end_s", "value")))
    except (TypeError, ValueError) as error:
        raise ContractError(f"{where}: {error}; numbers are needed") from error
    if not fault.start_s < fault.end_s:
        raise ContractError(
            f"{where}: start_s {fault.start_s} must lie before end_s {fault.end_s}"
        )
    return fault


class FakeClient:
    """Joints that follow their targets at the contract's velocity limits; measured at 100 Hz.

    Needs no ROS. `fault` starts one by hand; a script starts them by time.
    """

    poll_period_s = 0.01
    publishes = True

    def __init__(
        self,
        contract: Contract,
        script: Sequence[Fault] = (),
        start_rad: np.ndarray | None = None,
        steady_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Stand still.

        Args:
            contract: Joint order, velocity limits, wrench streams.
            script: Faults by time.
            start_rad: Joint positions at first [rad]; None: zero, or the nearest allowed.
            steady_ns: Clock of the motion [ns].
            wall_ns: Clock of the stamps [ns].
        """
        self._velocity = contract.velocity
        self._streams = len(contract.wrenches)
        start = np.zeros(contract.action_dim) if start_rad is None else start_rad
        self.position = np.clip(start, contract.lower, contract.upper)
        self._steady_ns, self._wall_ns = steady_ns, wall_ns
        self._script = list(script)
        self._ears: Ears | None = None
        self._target = self.position.copy()
        self._opened = self._moved = 0
        self._pressed = False
        self._frozen: np.ndarray | None = None
        self._under_way: deque = deque()
        self._noise = np.random.default_rng(0)
        self.sent: deque[tuple[int, int, np.ndarray]] = deque(maxlen=10_000)
        """Targets taken: steady time [ns], stamp [ns], joint targets [rad]."""
        self.stopped: list[np.ndarray | None] = []
        """What `stop` was called with."""

    def fault(self, kind: str, for_s: float = 3600.0, value: float = 0.0) -> None:
        """Start a fault now."""
        now = self._seconds()
        self._script.append(Fault(kind, now, now + for_s, value))

    def mend(self) -> None:
        """End every fault."""
        self._script.clear()

    def open(self, ears: Ears) -> None:
        """Measure from now on; see `RobotClient`."""
        self._ears = ears
        self._opened = self._moved = self._steady_ns()

    def poll(self) -> None:
        """Let time pass and measure."""
        now = self._steady_ns()
        passed = max(now - self._moved, 0) / 1e9
        self._moved = now
        if self._value("deaf") is None:
            reach = self._velocity * passed
            self.position += np.clip(self._target - self.position, -reach, reach)
        pressed = self._value("estop") is not None
        if pressed != self._pressed:
            self._pressed = pressed
            self._ears.estop(pressed)
        if self._value("drop") is None:
            self._under_way.append((now + int(1e9 * (self._value("delay") or 0)), *self._look()))
        while self._under_way and self._under_way[0][0] <= now:
            _, stamp_ns, position, wrenches = self._under_way.popleft()
            for stream, values in enumerate(wrenches):
                self._ears.wrench(stream, stamp_ns, values)
            self._ears.state(stamp_ns, position, np.zeros(0))

    def send(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Take all targets, or none; see `RobotClient`."""
        if self._value("crash") is not None:
            raise ZeroDivisionError("scripted")
        if self._value("estop") is not None:
            raise ClientError("the emergency stop is pressed")
        if self._value("refuse") is not None:
            raise ClientError("the robot refuses targets (scripted)")
        self._target = np.array(target_rad, np.float64)
        self.sent.append((self._steady_ns(), stamp_ns, self._target))

    def stop(self, target_rad: np.ndarray | None) -> None:
        """Hold where it stands."""
        self.stopped.append(target_rad)
        if target_rad is not None:
            self._target = np.array(target_rad, np.float64)

    def close(self) -> None:
        """Measure no more."""
        self._under_way.clear()

    def _look(self) -> tuple[int, np.ndarray, np.ndarray]:
        stamp_ns = self._wall_ns() + int(1e9 * (self._value("jump") or 0))
        if self._value("freeze") is None:
            self._frozen = None
            # Encoders are never still to the last bit.
            position = self.position + self._noise.normal(0, 1e-6, len(self.position))
        else:
            self._frozen = self.position.copy() if self._frozen is None else self._frozen
            position = self._frozen.copy()
        if self._value("nan") is not None:
            position[0] = np.nan
        wrenches = np.zeros((self._streams, 6))
        if self._streams:
            wrenches[0, 2] = self._value("force") or 0.0
        return stamp_ns, position, wrenches

    def _value(self, kind: str) -> float | None:
        """Return the value of a running fault of this kind; None: there is none."""
        now = self._seconds()
        for fault in self._script:
            if fault.kind == kind and fault.start_s <= now < fault.end_s:
                return fault.value
        return None

    def _seconds(self) -> float:
        return (self._steady_ns() - self._opened) / 1e9
