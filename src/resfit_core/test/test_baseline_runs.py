"""Each baseline on the toy: seconds of training must beat a stated bar, and resume."""

import baseline_cases as cases
import numpy as np
import pytest
import torch
from learning_cases import episode

from resfit_core.baselines.filtered_bc import FilteredBc, StudentPolicy
from resfit_core.baselines.students import Chunks, ScriptStudent, copy_of, masked_l1, plans
from resfit_core.data.episode import EVALUATE
from resfit_core.train.job import ALGORITHMS

FAST = {
    **{"heads": 3, "critic_width": 32, "actor_width": 32, "batch_size": 32},
    **{"critic_lr": 1e-3, "actor_lr": 1e-3, "utd": 1.0, "actor_every": 1},
}


def test_rlpd_learns_the_whole_action(tmp_path):
    """From actions of 0, which never succeed (base: .38), to more than the base."""
    result, base, learned = cases.outcome(cases.job("rlpd", tmp_path, steps=2500, **FAST))
    assert learned > base + 0.1
    assert result.updates > 1000


def test_ibrl_beats_its_base(tmp_path):
    _, base, learned = cases.outcome(cases.job("ibrl", tmp_path, steps=1500, **FAST))
    assert learned > base + 0.1


@pytest.mark.parametrize("algo", ["rlpd", "ibrl"])
def test_a_resumed_run_ends_as_one_that_went_through(algo, tmp_path):
    settings = {**FAST, "warmup_episodes": 2, "critic_warmup_updates": 10, "final": 3}
    whole = cases.job(algo, tmp_path / "whole", steps=160, **settings)
    ALGORITHMS[algo](whole)
    first = cases.job(algo, tmp_path / "cut", steps=80, **settings)
    ALGORITHMS[algo](first)
    records = cases.Records(one for one in first.records if one["kind"] != "final")
    rest = cases.job(algo, tmp_path / "cut", steps=160, resume=True, records=records, **settings)
    ALGORITHMS[algo](rest)
    timeless = [
        [{k: v for k, v in one.items() if not k.endswith("_s")} for one in work.records]
        for work in (whole, rest)
    ]
    assert timeless[0] == timeless[1]


def test_filtered_bc_learns_from_successes_only():
    data = Chunks(4)
    assert not data.add(episode(1, 9, False))
    assert len(data) == data.episodes == 0
    assert data.add(episode(2, 6, True))
    assert (len(data), data.episodes) == (6, 1)
    obs, action, mask = data.sample(np.random.default_rng(0), 200)
    good = episode(2, 6, True)
    for seen, chunk, within in zip(obs, action, mask, strict=True):
        start = int(seen[0]) - 200  # observation t is [200 + t] * 3
        left = min(4, 6 - start)
        assert within.sum() == left
        np.testing.assert_array_equal(chunk[:left], good.action[start : start + left])


def test_what_lies_past_the_end_does_not_count():
    found, wanted = torch.zeros(1, 3, 2), torch.tensor([[[1.0, 3.0], [2.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[[1.0], [1.0], [0.0]]])
    assert float(masked_l1(found, wanted, mask)) == 2.0


def test_a_script_is_copied_and_the_original_kept():
    module = torch.jit.script(cases.OffsetPolicy())
    student = copy_of(cases.chunked_base(module), 4)
    assert isinstance(student, ScriptStudent)
    with torch.no_grad():
        next(student.parameters()).add_(1.0)
    assert float(module.offset.detach()[0]) == pytest.approx(0.16)


def test_scripts_without_gradients_and_other_bases_are_black_boxes():
    frozen = torch.jit.freeze(torch.jit.script(cases.OffsetPolicy().eval()))
    assert copy_of(cases.chunked_base(frozen), 4) is None
    assert copy_of(cases.chunked_base(), 4) is None


def test_plans_of_a_black_box_are_its_chunks():
    seen = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    with torch.no_grad():
        wanted = cases.OffsetPolicy()(torch.from_numpy(seen))
    np.testing.assert_array_equal(plans(cases.chunked_base(), seen), wanted)


def test_a_fresh_copy_acts_as_the_base(tmp_path):
    module = torch.jit.script(cases.OffsetPolicy())
    work = cases.job("filtered_bc", tmp_path, steps=1, base=cases.chunked_base(module))
    policy = StudentPolicy(FilteredBc(work.config, work.base, 4, work.demos))
    for use_residual in (True, False):
        policy.begin_episode(1, EVALUATE, use_residual)
        seen = np.float32([0.1, 0.4, 0.2, -0.3])
        work.base.reset()
        for _ in range(7):
            proposal = work.base.act(seen)
            action, noisy = policy.act(seen, *proposal[:2])
            np.testing.assert_allclose(action, proposal.action_norm, atol=1e-6)
            assert not noisy
            seen = seen + 0.05


BC = {"bc_every": 5, "bc_updates": 60, "bc_batch": 32, "bc_lr": 2e-3}


def test_filtered_bc_on_a_copied_script_beats_the_base(tmp_path):
    module = torch.jit.script(cases.OffsetPolicy())
    work = cases.job("filtered_bc", tmp_path, steps=400, base=cases.chunked_base(module), **BC)
    result, base, learned = cases.outcome(work)
    assert learned > base + 0.2
    assert result.extra["distilled"] is False
    successes = sum(one["success"] for one in work.records.of("episode"))
    assert result.extra["success_episodes"] == 10 + successes


def test_filtered_bc_on_a_black_box_first_becomes_the_base(tmp_path):
    work = cases.job(
        "filtered_bc",
        tmp_path,
        steps=400,
        base=cases.chunked_base(),
        bc_distil_updates=400,
        bc_distil_lr=3e-3,
        bc_width=32,
        **BC,
    )
    result, base, learned = cases.outcome(work)
    losses = [one["distil_loss"] for one in work.records if "distil_loss" in one]
    assert len(losses) == 1
    assert losses[0] < 0.1
    assert result.extra["distilled"] is True
    assert learned > base - 0.1


@pytest.mark.parametrize("black_box", [False, True])
def test_filtered_bc_resumes_at_its_last_training(black_box, tmp_path):
    settings = {**BC, "bc_updates": 5, "bc_distil_updates": 10, "bc_width": 16, "final": 5}

    def base():
        return cases.chunked_base(None if black_box else torch.jit.script(cases.OffsetPolicy()))

    whole = cases.job("filtered_bc", tmp_path / "whole", steps=400, base=base(), **settings)
    ALGORITHMS["filtered_bc"](whole)
    first = cases.job("filtered_bc", tmp_path / "cut", steps=200, base=base(), **settings)
    ALGORITHMS["filtered_bc"](first)
    records = cases.Records(one for one in first.records if one["kind"] != "final")
    rest = cases.job(
        "filtered_bc",
        tmp_path / "cut",
        steps=400,
        base=base(),
        resume=True,
        records=records,
        **settings,
    )
    ALGORITHMS["filtered_bc"](rest)
    assert rest.records == whole.records
