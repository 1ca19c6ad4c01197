"""A stand-in for the vendor's SDK, made from its documented behaviour: names, guards, refusals.

Own work; nothing of the vendor's code is in it. `module()` returns what `import dexcontrol` gives.
"""

from __future__ import annotations

import time
import types
from typing import ClassVar

import numpy as np

PARTS = {
    "left_arm": [f"L_arm_j{k}" for k in range(1, 8)],
    "left_hand": [f"L_{f}" for f in ("th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1", "th_j0")],
    "right_arm": [f"R_arm_j{k}" for k in range(1, 8)],
    "right_hand": [f"R_{f}" for f in ("th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1", "th_j0")],
    "head": [f"head_j{k}" for k in range(1, 4)],
}
GUARDED = ("left_arm", "right_arm", "head")


class EStopActiveError(ValueError):
    """Writes are blocked."""


class RefusedError(ValueError):
    """What the SDK raises for a command it does not send; carries a code."""

    def __init__(self, text: str, code: str = "InvalidCommand") -> None:
        super().__init__(text)
        self.code = code


class _Joints:
    def __init__(self, names: list[str]) -> None:
        self.joint_names = names
        self.position = np.zeros(len(names))
        self.stamp_ns: int | None = None  # None: always fresh

    def get_state(self) -> dict:
        return {
            "position": self.position.copy(),
            "velocity": np.zeros(len(self.position)),
            "timestamp_ns": time.time_ns() if self.stamp_ns is None else self.stamp_ns,
        }


class _EStop:
    def __init__(self) -> None:
        self.sources: list[str] = []
        self.observed = True

    def get_status(self) -> dict:
        return {
            "engaged": bool(self.sources),
            "active_sources": list(self.sources),
            "state_observed": self.observed,
        }


class _Wrench:
    def __init__(self) -> None:
        self.values, self.active = np.zeros(6), True

    def is_active(self, window: float | None = None) -> bool:
        return self.active

    def get_wrench_state(self) -> np.ndarray:
        return self.values.copy()


class _Sensors:
    def __init__(self) -> None:
        self.wrenches = {"left_arm": _Wrench(), "right_arm": _Wrench()}

    def get_wrench(self, component: str) -> _Wrench:
        return self.wrenches[component]


class Robot:
    """State equals command at once, as in the vendor's loopback."""

    made: ClassVar[list[Robot]] = []

    def __init__(self, profile: str | None = None, *, simulation: bool = False) -> None:
        self.profile, self.simulation = profile, simulation
        self.parts = {name: _Joints(list(names)) for name, names in PARTS.items()}
        self.estop, self.sensors = _EStop(), _Sensors()
        self.alive, self.shut_down, self.calls = True, False, []
        Robot.made.append(self)

    def wait_for_active(self, timeout: float | None = 5.0) -> bool:
        return self.alive

    def has_component(self, name: str) -> bool:
        return name in self.parts

    def joints(self, name: str) -> _Joints:
        if not self.alive:
            raise RuntimeError("StateUnavailable: nobody answers")
        return self.parts[name]

    def set_joint_pos(self, joint_pos: dict, *, max_state_age: float | None = 0.2) -> None:
        if self.estop.sources:
            raise EStopActiveError("write to 'robot' blocked: E-stop active.\n\nNot sent.")
        new = {}
        for name, values in joint_pos.items():
            part, target = self.parts[name], np.asarray(values, np.float64)
            if not np.isfinite(target).all():
                raise RefusedError(f"invalid command for {name}: NaN")
            if part.stamp_ns is not None and time.time_ns() - part.stamp_ns > max_state_age * 1e9:
                raise RefusedError(f"state of {name} is old", "StaleState")
            if name in GUARDED and np.max(np.abs(target - part.position)) > 0.3 + 1e-9:
                raise RefusedError(f"invalid command for {name}: exceeding max_step 0.3")
            new[name] = target
        for name, target in new.items():
            self.parts[name].position = target
        self.calls.append(new)

    def shutdown(self) -> None:
        self.shut_down = True


def module() -> types.ModuleType:
    """Return the stand-in as a module."""
    made = types.ModuleType("dexcontrol")
    made.Robot, made.EStopActiveError = Robot, EStopActiveError
    Robot.made.clear()
    return made
