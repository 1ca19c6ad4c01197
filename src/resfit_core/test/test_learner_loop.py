"""The whole recipe on a toy: a base that misses by an offset must get better within seconds."""

import json

import numpy as np
import pytest
import toy
from learning_cases import BASE, CONTRACT

from resfit_core.algorithms.config import TrainConfig
from resfit_core.data.episode import TRAIN, WARMUP
from resfit_core.learner import Learner
from resfit_core.loop import LoopConfig, evaluate, rollout, train
from resfit_core.nets import native
from resfit_core.residual import ResidualPolicy, WeightsError

SCALE = np.full(2, 0.3, np.float32)


def parts(seed=0, **changes):
    settings = {
        "heads": 4,
        "critic_width": 64,
        "actor_width": 64,
        "batch_size": 64,
        "n_step": 3,
        "gamma": 0.97,
        "warmup_episodes": 5,
        "critic_warmup_updates": 200,
        "utd": 2,
        "actor_every": 2,
        "critic_lr": 1e-3,
        "actor_lr": 1e-3,
        "seed": seed,
        **changes,
    }
    config = TrainConfig.from_mapping(settings)
    learner = Learner(config, 4, 2, SCALE, CONTRACT, BASE)
    learner.add_demos(toy.demos(10, CONTRACT, BASE))
    return learner, ResidualPolicy(config, SCALE, CONTRACT, BASE, 20.0)


FAST = {"matmul_dtype": "bfloat16", "kernels": "native"}


@pytest.mark.parametrize("settings", [{}, FAST], ids=["plain", "fast"])
def test_learning_beats_the_base(tmp_path, settings):
    if settings and not native.available():
        pytest.skip("no C++ compiler")
    # One seed says little: on another processor's last bits it ends elsewhere.
    config = LoopConfig(episodes=60, eval_every=30, eval_episodes=10, final_episodes=60)
    base, residual = [], []
    for seed in range(3):
        learner, policy = parts(seed=seed, **settings)
        log = tmp_path / f"log_{seed}.jsonl"
        result = train(toy.PegEnv(), toy.MissingBase(), learner, policy, config, log)
        base += result["base"]
        residual += result["residual"]
    assert np.mean(base) < 0.6
    assert np.mean(residual) > np.mean(base) + 0.25
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert (kinds.count("episode"), kinds.count("eval"), kinds[-1]) == (60, 2, "final")
    modes = [line["mode"] for line in lines if line["kind"] == "episode"]
    assert modes == [WARMUP] * 5 + [TRAIN] * 55
    assert learner.updates_owed == 0
    budget = 200 + 2 * learner.steps_since_start
    assert result["updates"] == learner.updates == budget


def test_acting_and_learning_see_the_same_last_action():
    learner, policy = parts(observe_last_action=True, warmup_episodes=1, critic_warmup_updates=9)
    seen = []
    policy.seen = lambda observation, see=policy.seen: seen.append(see(observation)) or seen[-1]
    config = LoopConfig(episodes=2, final_episodes=0)
    train(toy.PegEnv(), toy.MissingBase(), learner, policy, config)
    # Of the second episode, the first that weights act in; the first one has as many rows.
    steps = len(seen)
    stored = learner.replay.online.observations()[-steps:]
    assert steps > 3 and stored[1:, 4:].any()
    assert np.array_equal(np.concatenate(seen), stored)
    other = parts()[1]
    with pytest.raises(WeightsError, match="observe_last_action"):
        other.load(learner.weights_bytes(1))


def test_same_seed_same_run():
    results = []
    for _ in range(2):
        learner, policy = parts(warmup_episodes=2, critic_warmup_updates=20)
        config = LoopConfig(episodes=5, final_episodes=5)
        train(toy.PegEnv(), toy.MissingBase(), learner, policy, config)
        results.append(learner.weights_bytes(1))
    assert results[0] == results[1]


def test_base_and_residual_meet_the_same_scenes_and_start_equal():
    _, policy = parts()
    verdicts = [
        evaluate(toy.PegEnv(), toy.MissingBase(), policy, 20, use_residual=flag)
        for flag in (False, True)
    ]
    assert verdicts[0] == verdicts[1]


def test_a_time_out_is_truncated_and_keeps_its_last_observation():
    _, policy = parts()
    env, base = toy.PegEnv(), toy.MissingBase(3.0)
    played = (rollout(env, base, policy, seed=s, mode=WARMUP, number=1) for s in range(9))
    episode = next(one for one in played if not one.success)
    assert episode.truncated
    assert not episode.terminated
    assert episode.steps == toy.HORIZON
    assert episode.explored.all()
    assert episode.reward.sum() == 0
    # 25 steps in chunks of 5: the observation after the last step plans a chunk of its own.
    assert episode.chunk_phase[-1] == 0
