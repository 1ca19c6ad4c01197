"""Three Meta-World tasks as sparse Gymnasium environments: `factory(seed)` of each.

    benchmarks.metaworld.tasks:hand_insert    put the hand, with a block, into a hole
    benchmarks.metaworld.tasks:basketball     take a ball and hold it above the hoop
    benchmarks.metaworld.tasks:soccer         push a ball into a goal

Meta-World's own environments, success tests and actions (x, y, z steps of at most 1 cm and the
gripper's effort, each in [-1, 1]). What is ours: one bit per episode as the reward, an episode
ends with success or after `HORIZONS` steps, `reset(seed=...)` alone decides where object and goal
are, and the observation (`OBSERVATION`) leaves out what Meta-World pads with zeros.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
from benchmarks.metaworld.contacts import touching
from metaworld import env_dict

#: Steps of an episode: enough for the slowest demonstration and for a second try.
HORIZONS = {"hand-insert-v3": 150, "basketball-v3": 200, "soccer-v3": 200}
#: What the observation holds, and how many numbers of each.
OBSERVATION = {
    "hand position [m]": 3,
    "gripper opening [0, 1]": 1,
    "object position [m]": 3,
    "object quaternion": 4,
    "hand, gripper and object: change since the last step, times 10": 7,
    "object seen from the hand [m]": 3,
    "goal seen from the object [m]": 3,
    "goal position [m]": 3,
}
OBSERVATION_DIM = sum(OBSERVATION.values())


class MetaWorldTask(gymnasium.Env[np.ndarray, np.ndarray]):
    """One Meta-World environment, goal visible, sparse."""

    def __init__(self, name: str, seed: int) -> None:
        """Build the environment.

        Args:
            name: Meta-World's name, such as `soccer-v3`.
            seed: used by the first `reset` if that one names none.

        Raises:
            ValueError: If the name is not in `HORIZONS`.
        """
        if name not in HORIZONS:
            raise ValueError(f"task '{name}' is not one of {', '.join(HORIZONS)}")
        env = env_dict.ALL_V3_ENVIRONMENTS[name]()
        # As Meta-World's own goal-observable classes do, but with a new scene at each reset.
        env._partially_observable = False
        env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        env._set_task_called = True
        env.__dict__.pop("sawyer_observation_space", None)  # cached with the goal at zero
        env.touching_object = functools.partial(touching, env)
        self.meta, self.name = env, name
        self.meta_observation = np.zeros(39)
        self._body, self._site = env.model.body_pos.copy(), env.model.site_pos.copy()
        self._init = None if env.obj_init_pos is None else np.array(env.obj_init_pos)
        self._next_seed: int | None = seed
        self._steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (OBSERVATION_DIM,), np.float32
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Place object and goal as `seed` says, or go on in the sequence if it is None."""
        super().reset(seed=seed)
        if seed is None:
            seed = self._next_seed
        self._next_seed = None
        if seed is not None:
            self.meta.seed(seed)
        # A reset moves goal bodies and sites of the model: start each from the model as loaded,
        # or a scene would depend on the one before.
        self.meta.model.body_pos[:] = self._body
        self.meta.model.site_pos[:] = self._site
        if self._init is not None:
            self.meta.obj_init_pos = self._init.copy()
        observation, _ = self.meta.reset()
        self._steps = 0
        return self._observe(observation), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move one step; reward 1 and `terminated` at success, `truncated` at the horizon."""
        clipped = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        observation, _, _, _, info = self.meta.step(clipped)
        self._steps += 1
        success = bool(info["success"] > 0.0)
        truncated = not success and self._steps >= HORIZONS[self.name]
        return (
            self._observe(observation),
            float(success),
            success,
            truncated,
            {"is_success": success},
        )

    def close(self) -> None:
        """Free the simulator."""
        self.meta.close()

    def _observe(self, meta: np.ndarray) -> np.ndarray:
        """Return Meta-World's 39 numbers as `OBSERVATION` lists them."""
        self.meta_observation = meta
        now, change, goal = meta[:11], 10.0 * (meta[:7] - meta[18:25]), meta[36:39]
        hand, thing = meta[:3], meta[4:7]
        return np.concatenate([now, change, thing - hand, goal - thing, goal]).astype(np.float32)


def hand_insert(seed: int) -> MetaWorldTask:
    """Return `hand-insert-v3`."""
    return MetaWorldTask("hand-insert-v3", seed)


def basketball(seed: int) -> MetaWorldTask:
    """Return `basketball-v3`."""
    return MetaWorldTask("basketball-v3", seed)


def soccer(seed: int) -> MetaWorldTask:
    """Return `soccer-v3`."""
    return MetaWorldTask("soccer-v3", seed)


FACTORIES = {"hand-insert-v3": hand_insert, "basketball-v3": basketball, "soccer-v3": soccer}
