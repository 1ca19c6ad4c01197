"""What the driver needs of a robot, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np


class Ears(NamedTuple):
    """What a client calls with what it measures, on the node's executor thread.

    Attributes:
        state: With stamp [ns], joint positions [rad] and velocities [rad/s], both in contract
            order, (action_dim,); a velocity array of length 0: not measured.
        wrench: With the number of the contract's stream, stamp [ns], and force [N] and torque
            [Nm], (6,).
        estop: With whether the robot's own emergency stop is pressed.
    """

    state: Callable[[int, np.ndarray, np.ndarray], None]
    wrench: Callable[[int, int, np.ndarray], None]
    estop: Callable[[bool], None]


class ClientError(RuntimeError):
    """The robot refused or did not take the targets; none of them was sent."""


class RobotClient(Protocol):
    """One robot. Everything runs on the node's executor thread.

    Attributes:
        poll_period_s: `poll` is called this often [s]; 0: the client hears by itself.
        publishes: The node publishes what is measured on `joint_states` and the wrench topics;
            false: it came from there.
    """

    poll_period_s: float
    publishes: bool

    def open(self, ears: Ears) -> None:
        """Connect, and call `ears` for everything measured from now on.

        Raises:
            ClientError: The robot cannot be reached; the text says how to mend it.
        """

    def poll(self) -> None:
        """Measure once. What cannot be read is not reported: the driver knows its age.

        Raises:
            ClientError: Nothing could be read.
        """

    def send(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Send all joint targets, or none.

        Args:
            stamp_ns: Stamp of the observation that they answer [ns].
            target_rad: Joint targets [rad], contract order. Shape: (action_dim,).

        Raises:
            ClientError: None was sent.
        """

    def stop(self, target_rad: np.ndarray | None) -> None:
        """Say the last, safe word before the driver leaves: hold what was commanded.

        Args:
            target_rad: Joint targets in force [rad]; None: nothing was ever sent.
        """

    def close(self) -> None:
        """Release everything; called with partial state too."""
