"""Nets: the twins of combine agree, the residual starts at 0, batched heads equal plain ones."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resfit_core import machine
from resfit_core.control.combine import combine as combine_numpy
from resfit_core.nets.actor import ResidualActor
from resfit_core.nets.combine import combine
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.normaliser import Normaliser

NAMES = ("weight1", "bias1", "gain1", "shift1", "weight2", "bias2", "gain2", "shift2")
NAMES += ("weight3", "bias3")


def inputs(batch=6, obs=5, act=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shapes = ((batch, obs), (batch, 1), (batch, act))
    return [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]


def plain_critic(critic, observation, phase, action):
    """Each head on its own, as one would write it first, in float64."""
    heads = []
    x0 = torch.cat((observation, phase, action), 1).double()
    for head in range(critic.heads):
        p = {name: getattr(critic, name)[head].double() for name in NAMES}
        x = x0
        for n in "12":
            x = F.layer_norm(x @ p["weight" + n] + p["bias" + n], (16,))
            x = F.relu(x * p["gain" + n] + p["shift" + n])
        heads.append((x @ p["weight3"] + p["bias3"])[:, 0])
    return torch.stack(heads)


def shaken_critic(**changes):
    """A critic whose gains and shifts are not the initial ones and zeros."""
    critic = EnsembleCritic(5, 3, 16, 4, output_init=0.5, **changes)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return critic


@pytest.mark.parametrize("noise", [None, 0.3])
@pytest.mark.parametrize("scale", [0.0, 0.2, "per joint"])
def test_combine_twins_agree(noise, scale):
    rng = np.random.default_rng(0)
    base = rng.uniform(-1, 1, (64, 4)).astype(np.float32)
    residual = (rng.standard_normal((64, 4)) * 5).astype(np.float32)
    reach = [0.0, 0.1, 0.5, 2.0] if scale == "per joint" else np.full(4, scale)
    reach = np.array(reach, np.float32)
    shift = None if noise is None else (noise * rng.standard_normal((64, 4))).astype(np.float32)
    expected = combine_numpy(base, residual, reach, shift)
    got = combine(
        *(torch.from_numpy(x) for x in (base, residual, reach)),
        None if shift is None else torch.from_numpy(shift),
    )
    np.testing.assert_allclose(got.numpy(), expected, atol=3e-7)
    assert np.abs(got.numpy()).max() <= 1
    if noise is None:
        still = reach == 0
        np.testing.assert_array_equal(got.numpy()[:, still], base[:, still])


def test_combine_by_hand():
    action = combine(
        torch.tensor([0.5, 0.95, -0.2]),
        torch.tensor([0.0, 100.0, -100.0]),
        torch.tensor([0.2, 0.2, 0.1]),
    )
    torch.testing.assert_close(action, torch.tensor([0.5, 1.0, -0.3]))


def test_residual_is_exactly_zero_at_the_start():
    actor = ResidualActor(5, 3, 16)
    observation, phase, base = inputs()
    residual = actor(observation, base, phase)
    assert (residual == 0).all()
    base = base.clamp(-1, 1)
    assert torch.equal(combine(base, residual, torch.full((3,), 0.5)), base)


def test_critic_equals_heads_on_their_own():
    critic = shaken_critic()
    fast, plain = critic(*inputs()), plain_critic(critic, *inputs())
    assert fast.shape == (4, 6)
    torch.testing.assert_close(fast.double(), plain, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_heads_on_their_own():
    critic = shaken_critic()
    observation, phase, action = inputs()
    action.requires_grad_()
    wanted = [action, *(getattr(critic, name) for name in NAMES)]
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    fast = torch.autograd.grad((critic(observation, phase, action) * weight).sum(), wanted)
    plain = torch.autograd.grad(
        (plain_critic(critic, observation, phase, action) * weight).sum(), wanted
    )
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other.float(), atol=2e-5, rtol=1e-4)


def test_bfloat16_products_stay_near():
    critic = shaken_critic()
    with machine.products("bfloat16", torch.device("cpu")):
        low = critic(*inputs())
    difference = (critic(*inputs()) - low).abs().max()
    assert difference < 0.05 * critic(*inputs()).abs().max()


def test_chosen_heads_are_those_heads():
    critic = shaken_critic()
    chosen = torch.tensor([3, 1])
    torch.testing.assert_close(critic(*inputs(), heads=chosen), critic(*inputs())[chosen])


def test_heads_differ():
    q = EnsembleCritic(5, 3, 16, 4)(*inputs())
    assert q.std(0).min() > 0


def test_frozen_critic_passes_gradients_to_the_action_only():
    critic = shaken_critic()
    observation, phase, action = inputs()
    action.requires_grad_()
    critic(observation, phase, action, frozen=True).mean().backward()
    assert action.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_without_layer_norm_there_is_none():
    critic = EnsembleCritic(5, 3, 16, 4, layer_norm=False)
    assert "gain1" not in dict(critic.named_parameters())
    observation, phase, action = inputs()
    x = torch.cat((observation, phase, action), 1)
    x = F.relu(x @ critic.weight1[2] + critic.bias1[2])
    x = F.relu(x @ critic.weight2[2] + critic.bias2[2])
    expected = (x @ critic.weight3[2] + critic.bias3[2])[:, 0]
    torch.testing.assert_close(critic(observation, phase, action)[2], expected)


def test_normaliser_by_hand():
    normaliser = Normaliser(2, std_floor=0.1, clip=3.0)
    data = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    assert torch.equal(normaliser(data * 0.1), data * 0.1)  # identity until fitted
    normaliser.fit(data.numpy())
    # Means 1 and 5; deviations 1 and 0, the latter raised to the floor.
    torch.testing.assert_close(
        normaliser(torch.tensor([[3.0, 5.2], [100.0, 5.0]])),
        torch.tensor([[2.0, 2.0], [3.0, 0.0]]),
    )
