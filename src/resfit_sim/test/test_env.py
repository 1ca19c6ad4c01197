"""The Gymnasium environment: spaces, endings, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from resfit_sim.env import VegaEnv
from resfit_sim.tasks import episode_seed


def test_gymnasium_accepts_it():
    check_env(VegaEnv(), skip_render_check=True)


def test_state_is_47_numbers_and_follows_the_seed():
    env = VegaEnv()
    first, info = env.reset(seed=11)
    assert first.shape == (47,) and first.dtype == np.float32
    assert info == {"is_success": False, "seed": 11}
    env.reset(seed=12)
    np.testing.assert_array_equal(first, env.reset(seed=11)[0])


def test_truncates_at_the_horizon_without_reward():
    env = VegaEnv()
    env.reset(seed=1)
    hold = env.sensors().joint_position
    for step in range(160):
        _, reward, terminated, truncated, info = env.step(hold)
        assert (reward, terminated, info["is_success"]) == (0.0, False, False)
        assert truncated == (step == 159)


def test_unknown_observation_is_refused():
    with pytest.raises(ValueError, match="touch"):
        VegaEnv(observation="touch")


def test_splits_are_disjoint():
    sets = [
        {episode_seed("evaluate", i) for i in range(1000)},
        {episode_seed("demo", i) for i in range(1000)},
        *({episode_seed("train", i, run) for i in range(1000)} for run in range(3)),
    ]
    assert len(set.union(*sets)) == sum(len(seeds) for seeds in sets)
