"""What the driver needs of a robot, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

OnState = Callable[[int, np.ndarray], None]
"""Called with the stamp [ns] and the joint positions [rad], contract order, (action_dim,)."""


class ClientError(RuntimeError):
    """The robot refused or did not take the targets; none of them was sent."""


class RobotClient(Protocol):
    """One robot. Everything runs on the node's executor thread."""

    def open(self, on_state: OnState) -> None:
        """Connect, and call `on_state` for every measured joint state from now on."""

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
