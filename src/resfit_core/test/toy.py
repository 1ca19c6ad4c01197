"""A tiny task for learning tests: a peg must meet a hole that the base misses by an offset."""

from __future__ import annotations

import numpy as np

from resfit_core.base.protocol import BaseAction
from resfit_core.data.episode import DEMO, Episode
from resfit_core.loop import StepResult

HORIZON = 25
RADIUS = 0.1
SPEED = 0.1
CHUNK = 5


class PegEnv:
    """Point in the plane; succeeds within RADIUS of the goal. Observation: position, goal."""

    def reset(self, seed: int) -> np.ndarray:
        """Place point and goal by seed."""
        self._rng = np.random.default_rng(seed)
        self._goal = self._rng.uniform(-0.5, 0.5, 2)
        self._position = self._goal + self._rng.choice([-1, 1], 2) * self._rng.uniform(0.5, 1, 2)
        self._steps = 0
        return self._observe()

    def step(self, action_norm: np.ndarray) -> StepResult:
        """Move by the action; tell whether the goal is met."""
        self._position = self._position + SPEED * np.asarray(action_norm, np.float64)
        self._steps += 1
        success = bool(np.linalg.norm(self._position - self._goal) < RADIUS)
        return StepResult(self._observe(), success, self._steps >= HORIZON)

    def _observe(self) -> np.ndarray:
        return np.concatenate((self._position, self._goal)).astype(np.float32)


class MissingBase:
    """Goes to a point beside the goal, in open-loop chunks."""

    def __init__(self, offset: float = 0.16) -> None:
        """Set how far it aims beside the goal, along x."""
        self._offset = np.array([offset, 0.0])
        self.reset()

    def reset(self) -> None:
        """Drop the chunk."""
        self._queue: list[np.ndarray] = []

    def act(self, observation: np.ndarray) -> BaseAction:
        """Return the next action of the chunk."""
        planned = not self._queue
        if planned:
            position, goal = observation[:2].astype(np.float64), observation[2:]
            for _ in range(CHUNK):
                wanted = np.clip((goal + self._offset - position) / SPEED, -0.8, 0.8)
                self._queue.append(wanted.astype(np.float32))
                position = position + SPEED * wanted
        phase = 1.0 - len(self._queue) / CHUNK
        return BaseAction(self._queue.pop(0), phase, planned)


def demos(count: int, contract: str, base_sha: str) -> list[Episode]:
    """Return expert episodes, relabelled with what the base would have done."""
    episodes = []
    for number in range(1, count + 1):
        env, base, expert = PegEnv(), MissingBase(), MissingBase(0.0)
        observation = env.reset(2_000_000 + number)
        base.reset()
        rows, actions, success = [], [], False
        while not success:
            proposal = base.act(observation)
            rows.append((observation, *proposal[:2]))
            expert.reset()
            actions.append(expert.act(observation).action_norm)
            observation, success = env.step(actions[-1])[:2]
        rows.append((observation, *base.act(observation)[:2]))
        obs, proposals, phases = zip(*rows, strict=True)
        reward = np.zeros(len(actions))
        reward[-1] = 1.0
        flags = np.zeros(len(actions), bool)
        episodes.append(
            Episode(
                observation=np.stack(obs),
                base_action=np.stack(proposals),
                chunk_phase=np.array(phases),
                action=np.stack(actions),
                reward=reward,
                terminated=True,
                truncated=False,
                intervention=flags,
                explored=flags,
                episode=number,
                mode=DEMO,
                success=True,
                contract_sha256=contract,
                base_sha256=base_sha,
            )
        )
    return episodes
