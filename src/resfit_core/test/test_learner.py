"""The learner: its update budget by hand, episodes in, weights out."""

import numpy as np
import pytest
import torch
from learning_cases import ACT, BASE, CONTRACT, OBS, episode, learner, small_config

from resfit_core import tensorfile
from resfit_core.data.episode import DEMO, EVALUATE, TRAIN, WARMUP
from resfit_core.data.replay import ReplayError
from resfit_core.learner import LearnerError
from resfit_core.residual import ResidualPolicy, WeightsError

SCALE = np.array([0.2, 0.1], np.float32)


def policy(config=None, scale=SCALE, contract=CONTRACT, base=BASE):
    return ResidualPolicy(config or small_config(), scale, contract, base, 20.0)


def trained():
    made = learner()
    for number in (1, 2, 3):
        made.add_episode(episode(number, 20, number == 1))
    made.train()
    return made


def test_budget_by_hand():
    """Warm-up of 2 episodes; 10 critic-only updates; UTD 2.

    Episodes of 10 and 8 steps: learning starts after 18 steps and owes 10. An episode of 7 adds
    2 * 7 = 14: 24 owed. 20 are done: 4 owed. UTD achieved: (20 - 10) / 7.
    """
    made = learner()
    made.add_episode(episode(1, 10))
    assert (made.updates_owed, made.learning_started) == (0, False)
    made.add_episode(episode(2, 8))
    assert (made.updates_owed, made.learning_started) == (10, True)
    made.add_episode(episode(3, 7))
    assert made.updates_owed == 24
    assert made.train(max_updates=20)["updates"] == 20
    assert made.updates_owed == 4
    assert made.utd_achieved == pytest.approx(10 / 7)
    assert made.train()["updates"] == 4
    assert made.train() == {"updates": 0}
    assert (made.updates, made.env_steps, made.episodes) == (24, 25, 3)


@pytest.mark.parametrize(("utd", "steps", "owed"), [(0.29, 100, 29), (0.5, 3, 1), (0.0, 50, 0)])
def test_fractional_budget_is_rounded_down(utd, steps, owed):
    made = learner(small_config(utd=utd, warmup_episodes=0, critic_warmup_updates=0))
    made.add_episode(episode(1, steps))
    assert made.updates_owed == owed


def test_a_time_out_bootstraps_or_earns_nothing():
    """Windows of 3 steps in an episode of 10: the last 3 reach its end and bootstrap no more."""
    for bootstrap, ended in ((True, 0), (False, 3)):
        made = learner(small_config(timeout_bootstrap=bootstrap))
        made.add_episode(episode(1, 10))
        online = made.replay.online
        index = np.arange(10)
        memory = online.memory(10)
        online.fill(memory, index, 3, 0.9)
        assert (memory.discount == 0).sum() == ended
        assert not memory.reward.any()


def test_divergence_is_an_error_in_words():
    """Bug: a learner at NaN went on and published; the driver then refused every step, unsaid."""
    made = learner()
    made.add_episode(episode(1, 10))
    made.add_episode(episode(2, 10))
    made.train(max_updates=2)
    with torch.no_grad():
        next(made.algorithm.critic.parameters()).fill_(torch.nan)
    with pytest.raises(LearnerError, match=r"critic_loss is nan .* up to 5: .* lower critic_lr"):
        made.train(max_updates=3)


def test_time_limit_stops_between_updates():
    made = learner()
    for number in (1, 2):
        made.add_episode(episode(number, 10))
    ticks = iter(range(100))
    assert made.train(max_seconds=3.0, clock=lambda: float(next(ticks)))["updates"] == 3


def test_metrics_are_means():
    metrics = trained().algorithm
    assert metrics.actor_updates > 0
    made = learner()
    for number in (1, 2, 3):
        made.add_episode(episode(number, 20))
    report = made.train()
    assert {"critic_loss", "q_mean", "actor_loss", "residual_size"} <= set(report)
    assert all(np.isfinite(value) for value in report.values())


def test_evaluations_are_seen_and_not_learned_from():
    made = learner()
    assert made.add_episode(episode(1, 10, mode=EVALUATE))
    assert (made.last_episode, made.episodes, made.env_steps) == (1, 0, 0)
    assert len(made.replay.online) == 0


def test_corrected_verdict_replaces_and_earns_nothing():
    made = learner()
    made.add_episode(episode(1, 10, True))
    assert not made.add_episode(episode(1, 10, True))
    assert made.add_episode(episode(1, 10, False, revision=1))
    assert not made.add_episode(episode(1, 10, True))
    assert (made.episodes, made.env_steps) == (1, 10)
    assert made.replay.online.get((False, 1)).success is False


def test_a_success_corrected_to_a_shorter_failure_is_replaced_too():
    made = learner()
    made.add_episode(episode(1, 10, True))
    made.add_episode(episode(1, 7, False, revision=1))
    assert len(made.replay.online) == 7


def test_failed_demos_are_left_out():
    made = learner()
    held = len(made.replay.demos)
    assert made.add_demos([episode(8, 5, False, mode=DEMO), episode(9, 5, True, mode=DEMO)]) == 1
    assert len(made.replay.demos) == held + 5


def test_foreign_episodes_are_refused():
    with pytest.raises(ReplayError, match="contract_sha256 is dddddd"):
        learner().add_episode(episode(1, 5, contract_sha256="d" * 64))
    with pytest.raises(ReplayError, match="relabel them"):
        learner().add_demos([episode(1, 5, True, mode=DEMO, base_sha256="")])


def test_normaliser_comes_from_the_demos_and_stays():
    made = learner()
    assert made.train() == {"updates": 0}
    for number in (1, 2):
        made.add_episode(episode(number, 10))
    made.train()
    expected = made.replay.demos.observations().mean(0)
    np.testing.assert_allclose(made.algorithm.normaliser.mean.numpy(), expected, rtol=1e-6)
    made.add_episode(episode(9, 10))
    made.train()
    np.testing.assert_allclose(made.algorithm.normaliser.mean.numpy(), expected, rtol=1e-6)


def test_weights_act_as_the_learner_would():
    made, acting = trained(), policy()
    data = made.weights_bytes(4)
    assert data == made.weights_bytes(4)
    assert acting.load(data, tensorfile.sha256(data)) == 4
    assert acting.updates == made.updates
    stored = made.replay.online.get((False, 3))
    batch = made.algorithm.batch(made.replay.online.windows(np.array([0, 1, 2]), 1, 0.9))
    residual = made.algorithm.actor(batch.actor_observation, batch.base_action, batch.chunk_phase)
    expected = batch.base_action + made.algorithm.scale * residual.tanh()
    acting.begin_episode(0, EVALUATE)
    first = made.replay.online.get((False, 1))
    action, explored = acting.act(first.observation[0], first.base_action[0], 0.0)
    assert not explored
    np.testing.assert_allclose(action, expected[0].clamp(-1, 1).detach().numpy(), atol=1e-6)
    assert np.abs(action - first.base_action[0]).max() > 1e-6
    assert stored.steps == 20


def test_without_weights_the_base_acts_to_the_bit():
    acting = policy()
    base = np.random.default_rng(0).uniform(-1, 1, (50, ACT)).astype(np.float32)
    for mode, explore in ((EVALUATE, True), (TRAIN, False), (DEMO, True)):
        acting.begin_episode(1, mode)
        for row in base:
            action, explored = acting.act(np.zeros(OBS), row, 0.5, explore=explore)
            assert action.tobytes() == row.tobytes()
            assert not explored


def test_scale_zero_equals_the_base_even_with_weights_and_noise():
    still = np.zeros(ACT, np.float32)
    made = learner(scale=still)
    for number in (1, 2, 3):
        made.add_episode(episode(number, 20))
    made.train()
    acting = policy(scale=still)
    acting.load(made.weights_bytes(1))
    base = np.array([0.3, -0.7], np.float32)
    for mode in (WARMUP, TRAIN, EVALUATE):
        acting.begin_episode(1, mode)
        np.testing.assert_array_equal(acting.act(np.ones(OBS), base, 0.5)[0], base)


def test_use_residual_false_passes_the_base_on():
    acting = policy()
    acting.load(trained().weights_bytes(1))
    acting.begin_episode(1, TRAIN, use_residual=False)
    base = np.array([0.3, -0.7], np.float32)
    action, explored = acting.act(np.ones(OBS), base, 0.5)
    assert action.tobytes() == base.tobytes()
    assert not explored


def test_noise_depends_on_run_seed_and_episode_alone():
    def play(acting, seed, mode=TRAIN):
        acting.begin_episode(seed, mode)
        return [acting.act(np.zeros(OBS), np.zeros(ACT), 0.0)[0].tolist() for _ in range(5)]

    one, other = policy(), policy()
    first = play(one, 3)
    play(other, 8)
    assert play(other, 3) == first
    assert play(one, 4) != first
    assert play(policy(small_config(seed=1)), 3) != first
    assert play(policy(small_config(warmup_std=0.5)), 3, WARMUP) != first


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: policy(contract="d" * 64), "contract_sha256 is cccc"),
        (lambda: policy(base="d" * 64), "base_sha256 is bbbb"),
        (lambda: policy(scale=np.array([0.2, 0.3])), "residual_scale differs"),
    ],
)
def test_foreign_weights_are_refused(made, words):
    with pytest.raises(WeightsError, match=words):
        made().load(trained().weights_bytes(1))


def test_damaged_weights_are_refused_and_the_old_ones_stay():
    made, acting = trained(), policy()
    good = made.weights_bytes(1)
    acting.load(good)
    bad = made.weights_bytes(2)
    with pytest.raises(WeightsError, match="ask for them again"):
        acting.load(bad[:-1] + b"x", tensorfile.sha256(bad))
    with pytest.raises(WeightsError, match="not a whole"):
        acting.load(bad[:50])
    with pytest.raises(WeightsError, match="format is 'resfit-episode-1'"):
        acting.load(episode(1, 3).to_bytes())
    assert acting.version == 1
