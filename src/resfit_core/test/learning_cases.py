"""Episodes and learners for the tests of learning: small, and easy to work out by hand."""

from __future__ import annotations

import numpy as np
import torch

from resfit_core.algorithms.config import TrainConfig
from resfit_core.data.episode import DEMO, TRAIN, Episode
from resfit_core.learner import Learner

# Tiny nets lose most of their time to threads waiting for each other.
torch.set_num_threads(1)

CONTRACT, BASE = "c" * 64, "b" * 64
OBS, ACT = 3, 2


def episode(number: int, steps: int, success: bool = False, **changes) -> Episode:
    """Observation t is [100 number + t] * 3, so that a sampled row tells where it came from."""
    rng = np.random.default_rng([number, steps])
    count = 100.0 * number + np.arange(steps + 1)
    reward = np.zeros(steps)
    reward[-1] = float(success)
    fields = {
        "observation": np.repeat(count[:, None], OBS, 1),
        "base_action": rng.uniform(-1, 1, (steps + 1, ACT)),
        "chunk_phase": np.arange(steps + 1) % 4 / 4,
        "action": rng.uniform(-1, 1, (steps, ACT)),
        "reward": reward,
        "terminated": success,
        "truncated": not success,
        "intervention": np.zeros(steps),
        "explored": np.arange(steps) % 3 == 0,
        "episode": number,
        "mode": TRAIN,
        "seed": number,
        "success": success,
        "contract_sha256": CONTRACT,
        "base_sha256": BASE,
    }
    return Episode(**{**fields, **changes})


def small_config(**changes) -> TrainConfig:
    """Return settings whose updates take a millisecond."""
    settings = {
        "heads": 4,
        "critic_width": 16,
        "actor_width": 16,
        "batch_size": 16,
        "n_step": 3,
        "warmup_episodes": 2,
        "critic_warmup_updates": 10,
        "utd": 2.0,
        "actor_every": 2,
        "critic_lr": 1e-3,
        "actor_lr": 1e-3,
        "replay_capacity": 500,
        "demo_capacity": 200,
    }
    return TrainConfig.from_mapping({**settings, **changes})


def learner(config: TrainConfig | None = None, scale=(0.2, 0.1)) -> Learner:
    """Return a learner with three demos."""
    made = Learner(config or small_config(), OBS, ACT, np.array(scale), CONTRACT, BASE)
    made.add_demos([episode(n, 6 + n, True, mode=DEMO) for n in (1, 2, 3)])
    return made
