"""The normalised action space, in which base and residual meet. Needs numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resfit_core.contract import Contract
from resfit_core.strict_yaml import ContractError


@dataclass(frozen=True)
class ActionSpace:
    """Maps joint targets [rad] to the normalised space [-1, 1] where base and residual meet.

    Ranges come from the demonstrations (METHOD: min/max per dimension, half-range at least
    .05 rad, widened), so that one residual scale means the same effort for every joint.
    """

    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        """Check the shapes and that every range is positive."""
        if self.low.shape != self.high.shape or self.low.ndim != 1:
            raise ContractError(
                f"action range shapes {self.low.shape} and {self.high.shape} must be equal 1-D"
            )
        if not np.all(np.isfinite(self.low)) or not np.all(self.high > self.low):
            raise ContractError("action ranges must be finite with high > low in every dimension")

    @classmethod
    def from_limits(cls, contract: Contract) -> ActionSpace:
        """Use the joint limits: for recording, before a base policy exists."""
        return cls(contract.lower.copy(), contract.upper.copy())

    @classmethod
    def from_demos(
        cls, actions_rad: np.ndarray, widen: float | np.ndarray = 0.3, min_half_range: float = 0.05
    ) -> ActionSpace:
        """Take min and max of demonstrated targets, widened by `1 + widen`.

        Args:
            actions_rad: Executed joint targets [rad]. Shape: (n, action_dim).
            widen: Share added to the half-range, at least the residual's scale; one number or one
                per dimension.
            min_half_range: Smallest half-range [rad].
        """
        low, high = actions_rad.min(axis=0), actions_rad.max(axis=0)
        half = np.maximum((high - low) / 2, min_half_range) * (1 + widen)
        center = (high + low) / 2
        return cls(center - half, center + half)

    def to_norm(self, action_rad: np.ndarray) -> np.ndarray:
        """Map joint targets [rad] to [-1, 1]; beyond the range they are clipped."""
        scaled = 2 * (np.asarray(action_rad) - self.low) / (self.high - self.low) - 1
        return np.clip(scaled, -1, 1).astype(np.float32)

    def to_rad(self, action_norm: np.ndarray) -> np.ndarray:
        """Map normalised actions to joint targets [rad]."""
        norm = np.asarray(action_norm, dtype=np.float64)
        return self.low + (norm + 1) / 2 * (self.high - self.low)
