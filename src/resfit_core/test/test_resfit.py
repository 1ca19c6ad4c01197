"""The update rule: targets worked by hand, what moves and what must not, each penalty."""

import numpy as np
import pytest
import torch
from learning_cases import ACT, OBS, episode, small_config

from resfit_core.algorithms.resfit import ResFiT
from resfit_core.data.episode import DEMO
from resfit_core.data.mixed import MixedReplay
from resfit_core.data.replay import ReplayBuffer
from resfit_core.nets.combine import combine

SCALE = np.array([0.2, 0.0], np.float32)


def algorithm(**changes):
    return ResFiT(small_config(**{"critic_warmup_updates": 0, **changes}), OBS, ACT, SCALE)


def windows(size=16, seed=0):
    replay = MixedReplay(
        ReplayBuffer(OBS, ACT, 200),
        ReplayBuffer(OBS, ACT, 200),
        n_step=3,
        gamma=0.9,
        demo_fraction=0.5,
        seed=seed,
    )
    replay.add_demo(episode(1, 8, True, mode=DEMO))
    replay.add(episode(2, 9, False))
    return replay.sample(size)


def snapshot(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(before, net):
    return all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def constant_heads(net, values):
    """Make head i answer values[i] whatever it sees."""
    with torch.no_grad():
        net.weight3.zero_()
        net.bias3.copy_(torch.tensor(values).reshape(-1, 1, 1))


def test_target_by_hand():
    """All heads but one say 3, that one 1: y = r + discount * 1 or * 3, as the pair has it."""
    rule = algorithm()
    constant_heads(rule.target_critic, [3.0, 1.0, 3.0, 3.0])
    batch = rule.batch(windows())
    with_one = batch.reward + batch.discount * 1.0
    without = batch.reward + batch.discount * 3.0
    seen = []
    for _ in range(200):
        target = rule.target(batch)
        low = torch.allclose(target, with_one)
        assert low or torch.allclose(target, without)
        seen.append(low)
    # Head 1 is in half of the pairs of four heads.
    assert 0.38 < np.mean(seen) < 0.62


def test_target_of_all_heads_is_their_minimum():
    rule = algorithm(target_heads=4)
    constant_heads(rule.target_critic, [0.4, 0.1, 0.3, 0.2])
    batch = rule.batch(windows())
    torch.testing.assert_close(rule.target(batch), batch.reward + 0.1 * batch.discount)


def test_target_clip():
    rule = algorithm(target_clip=True)
    constant_heads(rule.target_critic, [7.0] * 4)
    target = rule.target(rule.batch(windows()))
    assert target.max() <= 1


def test_target_noise_is_clipped_and_spares_joints_of_scale_zero(monkeypatch):
    """Noise of 100 scales clipped at 1.5 scales: the first joint moves by +-0.3, the other not."""
    rule = algorithm(target_noise_std=100.0, target_noise_clip=1.5)
    batch = rule.batch(windows())
    seen = []
    original = rule.target_critic.forward

    def forward(observation, phase, action, heads):
        seen.append(action)
        return original(observation, phase, action, heads)

    monkeypatch.setattr(rule.target_critic, "forward", forward)
    rule.target(batch)
    moved = seen[0] - batch.next_base_action
    inside = (batch.next_base_action[:, 0].abs() < 0.69) & (moved[:, 0].abs() > 1e-6)
    assert inside.any()
    torch.testing.assert_close(
        moved[inside, 0].abs(), torch.full((int(inside.sum()),), 0.3), atol=0.05, rtol=0
    )
    assert (moved[:, 1] == 0).all()


def test_critic_loss_is_the_mean_of_squares_over_heads():
    """The bug pinned: the square of the mean error, where heads hide behind each other.

    Two heads err by +1 and two by -1: the mean of squares is 1, the square of the mean 0.
    """
    rule = algorithm(target_heads=4)
    constant_heads(rule.target_critic, [0.0] * 4)
    constant_heads(rule.critic, [1.0, 1.0, -1.0, -1.0])
    plain = windows()
    plain.reward[:] = 0
    assert rule.update_critic(rule.batch(plain))["critic_loss"].item() == pytest.approx(1.0)


def test_critic_update_moves_the_critic_and_drags_its_target():
    rule = algorithm(tau=0.25)
    critic, target, actor = map(snapshot, (rule.critic, rule.target_critic, rule.actor))
    rule.update_critic(rule.batch(windows()))
    assert not same(critic, rule.critic)
    assert same(actor, rule.actor)
    for name, value in rule.target_critic.state_dict().items():
        expected = target[name] + 0.25 * (rule.critic.state_dict()[name] - target[name])
        torch.testing.assert_close(value, expected)


def test_actor_update_moves_the_actor_alone_and_raises_q():
    rule = algorithm(critic_lr=1e-2)
    data = windows(64)
    for _ in range(100):
        rule.update_critic(rule.batch(data))
    critic = snapshot(rule.critic)
    batch = rule.batch(data)
    first = rule.update_actor(batch)["actor_q"]
    assert all(parameter.grad is not None for parameter in rule.actor.parameters())
    for _ in range(50):
        last = rule.update_actor(batch)["actor_q"]
    assert same(critic, rule.critic)
    assert last > first


def test_schedule_of_warm_up_and_actor():
    rule = algorithm(critic_warmup_updates=5, actor_every=3)
    actor = snapshot(rule.actor)
    for number in range(1, 15):
        metrics = rule.update(windows())
        assert ("actor_loss" in metrics) == (number in (8, 11, 14)), number
        if number < 8:
            assert same(actor, rule.actor)
    assert (rule.critic_updates, rule.actor_updates) == (14, 3)


def test_gradient_is_clipped():
    plain, clipped = algorithm(grad_clip=0.0), algorithm(grad_clip=1e-3)
    for rule in (plain, clipped):
        rule.update_critic(rule.batch(windows()))
    norms = [
        torch.sqrt(sum(p.grad.square().sum() for p in rule.critic.parameters())).item()
        for rule in (plain, clipped)
    ]
    assert norms[0] > 2e-3
    assert norms[1] == pytest.approx(1e-3, rel=1e-2)


def test_demo_pull_reaches_what_the_residual_can_reach():
    """Scale .2 and 0: with Q flat, the first joint goes to the nearest reachable demo action."""
    rule = algorithm(actor_bc_weight=1.0, actor_lr=1e-2)
    with torch.no_grad():
        rule.critic.weight3.zero_()
    data = windows(64)
    batch = rule.batch(data)
    first = rule.update_actor(batch)["actor_bc"]
    for _ in range(400):
        last = rule.update_actor(batch)["actor_bc"]
    assert last < 0.2 * first
    residual = rule.actor(batch.actor_observation, batch.base_action, batch.chunk_phase)
    action = combine(batch.base_action, residual, rule.scale)
    assert torch.equal(action[:, 1], batch.base_action[:, 1])
    far = (batch.action[:32, 0] - batch.base_action[:32, 0]) > 0.4
    assert far.any()
    reached = (action - batch.base_action)[:32, 0][far]
    assert reached.mean() > 0.1


def test_q_filter_pulls_only_where_q_prefers_the_demo():
    rule = algorithm(actor_bc_weight=1.0, actor_bc_q_filter=True)
    constant_heads(rule.critic, [0.5] * 4)  # Q(demo) > Q(policy) nowhere
    assert rule.update_actor(rule.batch(windows()))["actor_bc"] == 0


def test_demo_pull_decays_linearly():
    config = small_config(actor_bc_weight=1.0, actor_bc_min=0.2, actor_bc_decay_updates=10)
    assert [config.actor_bc(n) for n in (0, 5, 10, 99)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert small_config(actor_bc_weight=0.3).actor_bc(10**6) == 0.3


def test_base_weight_shrinks_the_residual():
    rule = algorithm(actor_base_weight=1.0, actor_lr=1e-2)
    torch.nn.init.constant_(rule.actor.net[-1].bias, 0.5)
    with torch.no_grad():
        rule.critic.weight3.zero_()
    batch = rule.batch(windows())
    first = rule.update_actor(batch)["residual_size"]
    for _ in range(50):
        last = rule.update_actor(batch)["residual_size"]
    assert last < 0.3 * first


def test_same_seed_same_weights():
    rules = [algorithm(), algorithm()]
    for rule in rules:
        for seed in range(5):
            rule.update(windows(seed=seed))
    assert same(snapshot(rules[0].critic), rules[1].critic)
    assert same(snapshot(rules[0].actor), rules[1].actor)


def test_target_actor_follows_only_when_it_is_wanted():
    for wanted in (False, True):
        rule = algorithm(target_actor=wanted, actor_every=1)
        before = snapshot(rule.target_actor)
        for _ in range(3):
            rule.update(windows())
        assert same(before, rule.target_actor) != wanted


@pytest.mark.parametrize(("second", "moves"), [(-0.3, False), (0.7, True)])
def test_the_actor_moves_only_where_the_heads_agree(second, moves):
    """Slopes 1 and -0.3 rise on average, but their spread is larger; 1 and 0.7 agree."""
    sizes = {}
    for pessimism in (0.0, 1.0):
        rule = algorithm(
            heads=2,
            target_heads=1,
            actor_pessimism=pessimism,
            actor_base_weight=0.0,
            actor_lr=1e-2,
        )
        with torch.no_grad():
            for parameter in rule.critic.parameters():
                parameter[1] = parameter[0]
            rule.critic.weight3[0] *= 100.0
            rule.critic.weight3[1] = second * rule.critic.weight3[0]
        batch = rule.batch(windows())
        for _ in range(100):
            metrics = rule.update_actor(batch)
        sizes[pessimism] = float(metrics["residual_size"])
    assert sizes[0.0] > 0.05
    assert (sizes[1.0] > 0.05) if moves else (sizes[1.0] < 0.01)


def test_an_action_equal_to_the_base_is_neither_gain_nor_doubt():
    metrics = algorithm(actor_pessimism=1.0, actor_lr=0.0).update_actor(
        algorithm().batch(windows())
    )
    assert float(metrics["actor_gain"]) == 0.0
    assert float(metrics["actor_doubt"]) < 2e-4
    assert np.isfinite(float(metrics["actor_grad_norm"]))


def test_the_average_of_the_actor_acts_over_a_growing_window():
    made = algorithm(actor_average=0.5)
    batch = made.batch(windows())
    flat, average = made.actor_optimizer.flat, made.actor_optimizer.flat.detach().clone()
    for number in range(1, 5):
        made.update_actor(batch)
        average += (flat.detach() - average) / (1 + 0.5 * number)
        acting = torch.cat([p.reshape(-1) for p in made.published()["actor"].parameters()])
        torch.testing.assert_close(acting, average)
    assert not torch.equal(acting, flat)
