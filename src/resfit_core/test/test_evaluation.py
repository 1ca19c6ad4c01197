"""Intervals, and the rollout behind every figure."""

import dataclasses
import shutil

import numpy as np
import pytest
from bag_maker import CONFIG, vega_contract
from fake_env import FakeEnv, Pushing

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import BaseError
from resfit_core.control.combine import combine
from resfit_core.evaluation import EvaluationError, Job, evaluate, rollout, wilson
from resfit_core.intervals import difference
from resfit_core.report_numbers import paired

JOB = Job(
    str(CONFIG / "robot/vega_1.yaml"),
    str(CONFIG / "task/woolly_ball_pnp.yaml"),
    "state",
    "fake_env:Pushing",
    "fake_env:FakeEnv",
)


@pytest.fixture
def contract():
    # The fake's joints start at zero, where Vega's hands would lie in the table.
    return dataclasses.replace(vega_contract(), safety=None)


def test_the_interval_of_a_difference_by_hand():
    """Newcombe (1998), his example (a): 56 of 70 against 48 of 80, 95 %: .0524 to .3339."""
    low, high = difference((56, 70), (48, 80))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    other = difference((48, 80), (56, 70))
    assert other == pytest.approx((-high, -low))
    assert difference((56, 70), (48, 80), 0.8)[0] > low
    with pytest.raises(ValueError, match="0 of 0 trials"):
        difference((1, 2), (0, 0))


def test_wilson_by_hand():
    # z = 1.959964; centre (k + z^2/2)/(n + z^2), half z/(n + z^2) sqrt(k(n-k)/n + z^2/4)
    low, high = wilson(90, 200)
    z, k, n = 1.959964, 90, 200
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="0 trials"):
        wilson(0, 0)


def test_paired_by_hand():
    base = dict(enumerate([True, True, False, False, False, False]))
    residual = dict(enumerate([True, False, True, True, True, False]))
    found = paired(base, residual)
    assert [found[k] for k in ("both", "base_only", "residual_only", "neither")] == [1, 1, 3, 1]
    # Exact, two-sided: 2 * P(X <= 1), X ~ Binomial(4, 1/2) = 2 * (1 + 4) / 16
    assert found["p"] == pytest.approx(0.625)


def test_the_base_alone_goes_through_the_filter(contract):
    """The first joint may move 2.4 rad/s * .05 s = .12 rad a step, the base asks for .2."""
    env, ticks = FakeEnv(contract), []
    seed = next(s for s in range(100) if 0.7 < np.random.default_rng(s).uniform(0.1, 2.0) < 0.9)
    result = rollout(env, Pushing(contract), contract, seed, on_tick=ticks.append)
    np.testing.assert_allclose([t[0] for t in env.targets[:3]], [0.12, 0.24, 0.36], atol=1e-6)
    assert result.success and result.steps == len(ticks) == int(np.ceil(env.goal / 0.12))
    assert ticks[0].reasons == 2
    np.testing.assert_array_equal(ticks[1].action_rad, env.targets[1])
    np.testing.assert_allclose([t.chunk_phase for t in ticks[:6]], [0, 0.2, 0.4, 0.6, 0.8, 0])


def test_out_of_reach_ends_at_the_horizon(contract):
    env = FakeEnv(contract)
    seed = next(s for s in range(100) if np.random.default_rng(s).uniform(0.1, 2.0) > 1.2)
    result = rollout(env, Pushing(contract), contract, seed)
    assert not result.success and result.steps == contract.horizon_steps == len(env.targets)


class Further:
    """A residual that lifts the first joint by .5 in normalised space."""

    def begin_episode(self, seed, mode, use_residual=True):
        self.began = (seed, mode, use_residual)

    def executed(self, action_norm):
        self.last = action_norm

    def act(self, observation, base_action, chunk_phase, *, explore=True):
        assert not explore, "an evaluation has no noise"
        residual = np.zeros_like(base_action)
        residual[0] = 10.0
        return combine(base_action, residual, 0.5), False


def test_the_residual_acts_on_top(contract):
    env, residual, ticks = FakeEnv(contract), Further(), []
    seed = next(s for s in range(100) if 1.2 < np.random.default_rng(s).uniform(0.1, 2.0) < 1.9)
    result = rollout(env, Pushing(contract), contract, seed, residual, ticks.append)
    assert residual.began == (seed, 2, True) and result.success
    space = ActionSpace.from_limits(contract)
    shift = space.to_rad(ticks[0].action_norm)[0] - space.to_rad(ticks[0].base_action)[0]
    assert shift == pytest.approx(0.5 * contract.upper[0], rel=1e-4)


def test_processes_do_not_change_results(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(CONFIG.parent / "src/resfit_core/test"))
    # Without the safety file beside it, for the reason above.
    robot = shutil.copy(CONFIG / "robot/vega_1.yaml", tmp_path / "vega_1.yaml")
    job = dataclasses.replace(JOB, robot_file=str(robot))
    seeds = list(range(1_000_000, 1_000_008))
    here = evaluate(job, seeds, processes=0)
    assert [r.seed for r in here] == seeds
    assert 0 < sum(r.success for r in here) < len(seeds)
    seen = []
    assert evaluate(job, seeds, processes=2, on_result=seen.append) == here
    assert sorted(seen) == sorted(here)


def test_what_cannot_be_loaded_is_said_here(tmp_path):
    missing = Job(JOB.robot_file, JOB.task_file, "state", str(tmp_path / "x.pt"), JOB.env)
    with pytest.raises(BaseError, match="cannot be read"):
        evaluate(missing, [1], processes=2)
    nowhere = Job(JOB.robot_file, JOB.task_file, "state", JOB.base, "fake_env:Nowhere")
    with pytest.raises(EvaluationError, match="env 'fake_env:Nowhere' cannot be had"):
        evaluate(nowhere, [1], processes=2)
