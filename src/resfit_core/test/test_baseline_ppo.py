"""Residual PPO: advantages, clip and density by hand; the first policy is the base."""

import baseline_cases as cases
import numpy as np
import pytest
import torch
from learning_cases import ACT, OBS, episode

from resfit_core.algorithms.settings import ConfigError
from resfit_core.baselines import ppo
from resfit_core.baselines.residual_ppo import Config, PpoPolicy, ResidualPpo
from resfit_core.data.episode import EVALUATE, TRAIN
from resfit_core.train.job import ALGORITHMS

SMALL = {"actor_width": 16, "critic_width": 16, "ppo_batch_steps": 16}


@pytest.mark.parametrize(
    ("terminated", "wanted"),
    [
        # gamma .5, lam .5, V = 2, 4, 6, 8, r = 1, 0, 1:
        # delta = 1 + 2 - 2 = 1, 0 + 3 - 4 = -1, 1 + 4 - 6 = -1 (bootstrapped) or 1 - 6 = -5.
        (False, [1 + 0.25 * (-1 + 0.25 * -1), -1 + 0.25 * -1, -1]),
        (True, [1 + 0.25 * (-1 + 0.25 * -5), -1 + 0.25 * -5, -5]),
    ],
)
def test_advantages_by_hand(terminated, wanted):
    found = ppo.advantages(
        np.float32([1, 0, 1]), np.float32([2, 4, 6, 8]), terminated, gamma=0.5, lam=0.5
    )
    np.testing.assert_allclose(found, wanted)


def test_lambda_one_is_return_minus_value():
    rng = np.random.default_rng(0)
    reward, value = rng.random(9), rng.random(10)
    wanted = [sum(0.9 ** (k - t) * reward[k] for k in range(t, 9)) - value[t] for t in range(9)]
    np.testing.assert_allclose(ppo.advantages(reward, value, True, 0.9, 1.0), wanted, rtol=1e-5)


def test_clip_by_hand():
    """Ratios 1.5, 0.5 with either sign: the gain is bounded, the harm is not."""
    log_ratio = torch.tensor([1.5, 1.5, 0.5, 0.5]).log().requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss = ppo.clipped_surrogate(log_ratio, advantage, 0.2)
    torch.testing.assert_close(loss, -torch.tensor([1.2, -1.5, 0.5, -0.8]).mean())
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    assert (gradient != 0).tolist() == [False, True, True, False]


def test_density_entropy_and_kl_agree_with_torch():
    mean, log_std = torch.randn(5, 3), torch.tensor([-1.0, 0.0, 0.5])
    normal = torch.distributions.Normal(mean, log_std.exp())
    sample = mean + 0.3
    torch.testing.assert_close(
        ppo.log_probability(sample, mean, log_std), normal.log_prob(sample).sum(1)
    )
    torch.testing.assert_close(ppo.entropy(log_std), normal.entropy()[0].sum())
    assert float(ppo.approximate_kl(torch.zeros(4))) == 0
    assert float(ppo.approximate_kl(torch.tensor([0.3, -0.3]))) > 0


def test_the_first_policy_is_the_base_and_sampling_repeats():
    policy = PpoPolicy(ResidualPpo(Config(**SMALL), OBS, ACT), np.array([0.2, 0.0]))
    base, seen = np.float32([0.5, -0.5]), np.ones(OBS, np.float32)
    policy.begin_episode(7, EVALUATE)
    assert np.array_equal(policy.act(seen, base, 0.0)[0], base)
    runs = []
    for _ in range(2):
        policy.begin_episode(7, TRAIN)
        runs.append([policy.act(seen, base, 0.0)[0] for _ in range(3)])
        assert policy.taken().shape == (3, ACT)
    np.testing.assert_array_equal(*runs)
    assert np.ptp([action[0] for action in runs[0]]) > 0
    assert all(action[1] == base[1] for action in runs[0])  # a joint of scale 0 never moves


@pytest.mark.parametrize("ends", [True, False])
def test_a_time_out_ends_the_task_or_is_bootstrapped(ends):
    """Every value is .5, lambda 0, gamma .9: the last advantage is 0 - .5 or .9 * .5 - .5."""
    settings = {"gamma": 0.9, "ppo_lambda": 0.0, "critic_output_init": 0.0}
    algorithm = ResidualPpo(Config(**SMALL, **settings, ppo_timeout_ends=ends), OBS, ACT)
    batch = algorithm.rollouts([(episode(1, 3, False), np.zeros((3, ACT), np.float32))])
    wanted = [-0.05, -0.05, -0.5 if ends else -0.05]
    np.testing.assert_allclose(batch.advantage, wanted, atol=1e-6)
    np.testing.assert_allclose(batch.returns, np.add(wanted, 0.5), atol=1e-6)


def test_update_raises_the_density_of_what_went_well_and_stops_at_the_bound():
    algorithm = ResidualPpo(Config(**SMALL, ppo_target_kl=0.02), OBS, ACT)
    rng = np.random.default_rng(0)
    good, bad = episode(1, 20, True), episode(2, 20, False, terminated=True, truncated=False)
    raws = [rng.normal(shift, 0.2, (20, ACT)).astype(np.float32) for shift in (0.1, -0.1)]
    batch = algorithm.rollouts([(good, raws[0]), (bad, raws[1])])
    assert len(batch) == 40
    metrics = algorithm.update(batch)
    after = algorithm.rollouts([(good, raws[0]), (bad, raws[1])])
    gain = after.log_probability - batch.log_probability
    assert gain[:20].mean() > gain[20:].mean()
    assert metrics["passes"] < 50
    assert metrics["kl"] > 0.02


def test_learning_beats_the_base(tmp_path):
    work = cases.job(
        "residual_ppo",
        tmp_path,
        steps=6000,
        actor_width=32,
        critic_width=32,
        ppo_batch_steps=500,
        ppo_epochs=10,
        ppo_minibatches=4,
        ppo_log_std=-0.7,
        critic_lr=1e-3,
    )
    result, base, learned = cases.outcome(work)
    assert learned > base + 0.2
    assert 0 < result.extra["iterations"] <= 12


def test_a_resumed_run_ends_as_one_that_went_through(tmp_path):
    settings = {"ppo_batch_steps": 100, "ppo_epochs": 3, "ppo_minibatches": 2, "final": 5}
    whole = cases.job("residual_ppo", tmp_path / "whole", steps=600, **settings)
    ALGORITHMS["residual_ppo"](whole)
    first = cases.job("residual_ppo", tmp_path / "cut", steps=300, **settings)
    ALGORITHMS["residual_ppo"](first)
    records = cases.Records(one for one in first.records if one["kind"] != "final")
    rest = cases.job(
        "residual_ppo", tmp_path / "cut", steps=600, resume=True, records=records, **settings
    )
    ALGORITHMS["residual_ppo"](rest)
    assert rest.records == whole.records
    files = [one.checkpoints / "residual_ppo.safetensors" for one in (whole, rest)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_images_are_refused_in_words(tmp_path):
    work = cases.job("residual_ppo", tmp_path, steps=10)
    object.__setattr__(work, "image_shapes", {"head": (84, 84, 3)})
    with pytest.raises(ConfigError, match="head"):
        ALGORITHMS["residual_ppo"](work)
