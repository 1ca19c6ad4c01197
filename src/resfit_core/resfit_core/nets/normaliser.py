"""z-scores of the observation, with statistics that never move once learning began."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Normaliser(nn.Module):
    """Subtract the mean, divide by the standard deviation, clip. Identity until `fit`."""

    mean: Tensor
    std: Tensor

    def __init__(self, obs_dim: int, std_floor: float = 0.01, clip: float = 10.0) -> None:
        """Prepare the buffers.

        Args:
            obs_dim: length of the observation.
            std_floor: least standard deviation, in the observation's units, so that a nearly
                constant entry is not blown up (METHOD: 0.1).
            clip: largest z-score passed on; a contact may be far outside the demos.
        """
        super().__init__()
        self.std_floor, self.clip = std_floor, clip
        self.register_buffer("mean", torch.zeros(obs_dim))
        self.register_buffer("std", torch.ones(obs_dim))

    def fit(self, observation: np.ndarray) -> None:
        """Take mean and deviation from observations of shape (N, obs_dim)."""
        wide = observation.astype(np.float64)
        self.mean.copy_(torch.from_numpy(wide.mean(0)))
        self.std.copy_(torch.from_numpy(np.maximum(wide.std(0), self.std_floor)))

    def forward(self, observation: Tensor) -> Tensor:
        """Return z-scores. Shape (batch, obs_dim) to the same."""
        return ((observation - self.mean) / self.std).clamp(-self.clip, self.clip)
