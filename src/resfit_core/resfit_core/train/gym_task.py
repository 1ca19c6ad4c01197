"""A Gymnasium environment behind `resfit_core.loop.Environment`."""

from __future__ import annotations

from typing import Any

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.loop import Observation, StepResult
from resfit_core.train.errors import TrainError, one_line
from resfit_core.train.named import load_named
from resfit_core.train.spaces import Spaces

SUCCESS_KEYS = ("is_success", "success")


def make_env(name: str, seed: int) -> Any:
    """Return `factory(seed)` of `module:factory`.

    Raises:
        TrainError: the factory cannot be had or fails.
    """
    factory = load_named(name, "--env")
    try:
        return factory(seed)
    except Exception as error:  # user code may fail in any way
        raise TrainError(
            f"--env '{name}': factory({seed}) failed ({type(error).__name__}: {one_line(error)})"
        ) from error


class GymTask:
    """One environment, with normalised actions and the success of `info` as the only verdict.

    Rewards of the environment are not read. An episode ends at its first success (terminated), at
    the environment's own `terminated` (a failure: nothing is bootstrapped) or at `truncated` (a
    time-out: bootstrapped).
    """

    def __init__(self, env: Any, name: str, spaces: Spaces, action_space: ActionSpace) -> None:
        """Wrap.

        Args:
            env: Gymnasium environment of these spaces.
            name: as the user gave it, for the errors' words.
            spaces: from `read_spaces`.
            action_space: maps [-1, 1] to the environment's actions.
        """
        self._env, self._name, self._spaces, self._action = env, name, spaces, action_space
        self._verdicts_seen = False

    def reset(self, seed: int) -> Observation:
        """Start the scene of this seed."""
        self._verdicts_seen = False
        return self._observation(self._env.reset(seed=int(seed))[0])

    def step(self, action_norm: np.ndarray) -> StepResult:
        """Execute a normalised action; the executed one is what the action Box let through.

        Raises:
            TrainError: an episode ended and no step of it said whether it succeeded.
        """
        wanted = self._action.to_rad(action_norm)
        action = np.clip(wanted, self._spaces.low, self._spaces.high)
        executed = np.where(
            action == wanted, np.asarray(action_norm, np.float32), self._action.to_norm(action)
        )
        raw, _, terminated, truncated, info = self._env.step(action.astype(self._spaces.dtype))
        key = next((k for k in SUCCESS_KEYS if k in info), None)
        self._verdicts_seen |= key is not None
        success = key is not None and bool(info[key])
        if (terminated or truncated) and not self._verdicts_seen:
            raise TrainError(
                f"--env '{self._name}': an episode ended and no step's info had 'is_success'; "
                f"put it there, false or true (found {sorted(info) or 'nothing'})"
            )
        return StepResult(
            self._observation(raw),
            success,
            done=bool(truncated),
            executed_action=executed,
            failed=bool(terminated) and not success,
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observation(self, raw: Any) -> Observation:
        vector, full = self._spaces.split(raw, f"--env '{self._name}'")
        cameras = self._spaces.cameras
        if not cameras:
            return Observation(vector)
        return Observation(vector, {key: cameras[key].kept(full[key]) for key in cameras}, full)
