"""Exploration noise on the action, one process per episode, from numbers that can be repeated."""

from __future__ import annotations

import math

import numpy as np

from resfit_core.algorithms.config import NOISE_KINDS
from resfit_core.algorithms.settings import ConfigError


class ExplorationNoise:
    """Noise of a stated standard deviation per joint; kinds differ in how it moves in time.

    white: a new normal number each step. uniform: a new uniform one (the paper's warm-up).
    ou: normal and correlated over `correlation_steps`. episode: one offset for the whole episode.
    mixed: half the variance from `episode`, half from `ou`, so that an episode tries one
    direction and varies around it.
    """

    def __init__(self, kind: str, std: np.ndarray, correlation_steps: float) -> None:
        """Set the process up; `begin` starts it.

        Args:
            kind: one of `NOISE_KINDS`.
            std: standard deviation per joint, normalised action units. Shape (act_dim,).
            correlation_steps: steps after which `ou` has forgotten 63 %.
        """
        if kind not in NOISE_KINDS:
            raise ConfigError(f"noise kind is {kind!r}, expected one of {NOISE_KINDS}")
        self._kind, self._std = kind, np.asarray(std, np.float32)
        self._keep = math.exp(-1.0 / max(correlation_steps, 1e-6))
        self.begin(np.random.default_rng(0))

    def begin(self, rng: np.random.Generator) -> None:
        """Start an episode with this generator."""
        self._rng = rng
        self._offset = rng.standard_normal(self._std.shape)
        self._walk = rng.standard_normal(self._std.shape)

    def step(self) -> np.ndarray:
        """Return the noise of the next step. Shape (act_dim,), float32."""
        if self._kind == "white":
            unit = self._rng.standard_normal(self._std.shape)
        elif self._kind == "uniform":
            unit = self._rng.uniform(-math.sqrt(3.0), math.sqrt(3.0), self._std.shape)
        elif self._kind == "episode":
            unit = self._offset
        else:
            unit = self._walk
            fresh = self._rng.standard_normal(self._std.shape)
            self._walk = self._keep * self._walk + math.sqrt(1.0 - self._keep**2) * fresh
            if self._kind == "mixed":
                unit = (unit + self._offset) * math.sqrt(0.5)
        return (unit * self._std).astype(np.float32)
