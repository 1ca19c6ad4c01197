"""A point must come to rest on a button: a Gymnasium environment with nothing but its verdict.

reach:make      flat observation
reach:make_seen the same with a camera picture, a Dict observation
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

HORIZON = 40
RADIUS = 0.025  # [m]
PUSH = 0.06  # largest commanded displacement per step [m]
LAG = 0.5  # share of the command that the point follows within a step
SIZE = 84  # [px]


class Reach(gymnasium.Env[Any, np.ndarray]):
    """Position, velocity and button in; commanded displacement out. Lengths in metres."""

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self) -> None:
        """Declare the spaces."""
        self.observation_space = spaces.Box(-2.0, 2.0, (6,), np.float32)
        self.action_space = spaces.Box(-PUSH, PUSH, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Place point and button by the seed."""
        super().reset(seed=seed)
        self._position = self.np_random.uniform(-0.5, 0.5, 2)
        self._button = self.np_random.uniform(-0.5, 0.5, 2)
        self._velocity = np.zeros(2)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move for one step; success is to be nearly at rest on the button."""
        self._velocity += LAG * (np.asarray(action, np.float64) - self._velocity)
        self._position = self._position + self._velocity
        self._steps += 1
        on_it = np.linalg.norm(self._position - self._button) < RADIUS
        success = bool(on_it and np.linalg.norm(self._velocity) < RADIUS / 2)
        late = self._steps >= HORIZON
        return self._observe(), 0.0, success, late and not success, {"is_success": success}

    def _observe(self) -> Any:
        return np.concatenate((self._position, self._velocity, self._button)).astype(np.float32)


class SeenReach(Reach):
    """The button is only in the picture: red on black, the point green."""

    def __init__(self) -> None:
        """Declare the spaces."""
        super().__init__()
        self.observation_space = spaces.Dict(
            {
                "state": spaces.Box(-2.0, 2.0, (4,), np.float32),
                "top": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            }
        )

    def _observe(self) -> Any:
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        for place, channel in ((self._button, 0), (self._position, 1)):
            row, column = np.clip((place + 1) * SIZE / 2, 2, SIZE - 3).astype(int)
            picture[row - 2 : row + 3, column - 2 : column + 3, channel] = 255
        state = np.concatenate((self._position, self._velocity)).astype(np.float32)
        return {"state": state, "top": picture}


def expert(position: np.ndarray, velocity: np.ndarray, button: np.ndarray) -> np.ndarray:
    """Return the displacement that brings the point to the button and to rest there."""
    return np.clip(0.4 * (button - position) - 0.3 * velocity, -PUSH, PUSH)


def make(seed: int) -> Reach:
    """Return the environment; every scene comes from the seed given to `reset`."""
    del seed
    return Reach()


def make_seen(seed: int) -> SeenReach:
    """Return the environment with a camera."""
    del seed
    return SeenReach()
