"""FlatAdamW against torch's AdamW and clip_grad_norm_; the ensemble by hand against autograd."""

import copy

import pytest
import torch
from torch import nn

from resfit_core import machine
from resfit_core.nets import native
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.optimiser import FlatAdamW


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2))


def random_like(parameters, seed, size):
    generator = torch.Generator().manual_seed(seed)
    return [size * torch.randn(p.shape, generator=generator) for p in parameters]


@pytest.mark.parametrize("clip", [0.0, 0.5, 100.0])
def test_steps_equal_torchs(clip):
    ours, theirs = net(), net()
    fast = FlatAdamW(ours.parameters(), 1e-2, 0.1, clip)
    plain = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1, foreach=True)
    for step in range(20):
        gradients = random_like(fast.parameters, step, 3.0 if step % 2 else 0.01)
        for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        limit = clip or float("inf")
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), limit)
        plain.step()
        torch.testing.assert_close(fast.step_on(gradients), norm)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_state_goes_through_a_state_dict():
    first, second = net(), net()
    one, other = (FlatAdamW(n.parameters(), 1e-2, 0.1, 1.0) for n in (first, second))
    for step in range(3):
        one.step_on(random_like(one.parameters, step, 1.0))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    second.load_state_dict(first.state_dict())
    for optimiser in (one, other):
        optimiser.step_on(random_like(one.parameters, 9, 1.0))
    assert torch.equal(one.flat, other.flat)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def critic(layer_norm=True, width=32, use_native=False):
    made = EnsembleCritic(
        6, 3, width, 4, output_init=0.5, layer_norm=layer_norm, use_native=use_native
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return made


def inputs(batch=64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, n, generator=generator) for n in (6, 1, 3)]


def both(made, into=None):
    """Q and all gradients, by hand and by autograd."""
    names, parameters = zip(*made.ordered_parameters(), strict=True)
    answers = []
    for by_hand in (True, False):
        given = [x.requires_grad_() for x in inputs()]
        if by_hand:
            q = made(*given, into=into)
        else:
            q = made.batched(torch.cat(given, 1), list(parameters))
        weight = torch.linspace(-1, 1, q.numel()).reshape(q.shape)
        gradients = torch.autograd.grad((q * weight).sum(), [*given, *parameters])
        answers.append({"q": q, **dict(zip((0, 1, 2, *names), gradients, strict=True))})
    return answers


@pytest.mark.parametrize("layer_norm", [True, False])
def test_by_hand_equals_autograd(layer_norm):
    ours, theirs = both(critic(layer_norm=layer_norm))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=5e-5, rtol=1e-4, msg=str(name))


@pytest.mark.parametrize("layer_norm", [True, False])
def test_bfloat16_gradients_point_the_same_way(layer_norm):
    """Stated tolerance: gradients within 10 % (by norm) of the float32 ones, Q within 2 %.

    Most of it are ReLUs that switch on the other side of 0; autograd in bfloat16 has the same.
    """
    with machine.products("bfloat16", torch.device("cpu")):
        ours = both(critic(layer_norm))[0]
    exact = both(critic(layer_norm=layer_norm))[1]
    for name, value in exact.items():
        limit = 0.02 if name == "q" else 0.1
        assert (ours[name] - value).norm() < limit * value.norm(), name


def test_gradients_land_where_the_optimiser_reads_them():
    made = critic()
    optimiser = FlatAdamW(made.parameters(), 1e-3, 0.01)
    parameters = list(made.parameters())
    fresh = torch.autograd.grad(made(*inputs()).square().mean(), parameters)
    placed = torch.autograd.grad(made(*inputs(), into=optimiser).square().mean(), parameters)
    for parameter, one, other in zip(parameters, fresh, placed, strict=True):
        assert other.data_ptr() == parameter.grad.data_ptr()
        torch.testing.assert_close(one, other)


def test_two_uses_in_one_loss_add_up():
    """Only one may write in place; the other's gradient must not be lost or counted twice."""
    made = critic()
    optimiser = FlatAdamW(made.parameters(), 1e-3, 0.01)
    parameters = list(made.parameters())

    def loss(**options):
        observation, phase, action = inputs()
        first = made(observation, phase, action, **options).square().mean()
        return first + made(observation, phase, -action, **options).mean()

    expected = torch.autograd.grad(loss(), parameters)
    got = torch.autograd.grad(loss(into=optimiser), parameters)
    optimiser.step_on(got)
    for parameter, one, other in zip(parameters, expected, got, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(parameter.grad, one)


needs_compiler = pytest.mark.skipif(not native.available(), reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize("width", [32, 37])
def test_native_kernels_equal_autograd(width):
    ours, theirs = both(critic(use_native=True, width=width))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=5e-5, rtol=1e-4, msg=str(name))


@needs_compiler
def test_native_kernels_in_bfloat16():
    """Stated tolerance: gradients within 10 % (by norm) of the float32 ones, Q within 2 %."""
    with machine.products("bfloat16", torch.device("cpu")):
        ours = both(critic(use_native=True))[0]
    exact = both(critic())[1]
    for name, value in exact.items():
        limit = 0.02 if name == "q" else 0.1
        assert (ours[name] - value).norm() < limit * value.norm(), name


@needs_compiler
def test_native_kernels_pass_gradients_to_the_action_alone():
    answers = []
    for use_native in (True, False):
        observation, phase, action = inputs()
        action.requires_grad_()
        q = critic(use_native=use_native)(observation, phase, action, frozen=True)
        answers.append(torch.autograd.grad(q.square().mean(), action)[0])
    torch.testing.assert_close(*answers, atol=1e-6, rtol=1e-4)


def test_without_a_compiler_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    native.build.cache_clear()
    with pytest.raises(native.NativeError, match="set kernels: torch"):
        native.compiled()
    assert not native.available()
    native.build.cache_clear()
