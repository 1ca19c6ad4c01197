"""Training from bags alone: the buffers of a run by hash, several runs, words for mistakes."""

import dataclasses
from threading import Event

import numpy as np
import pytest
from bag_maker import CONFIG as CONFIG_FOLDER
from bag_maker import vega_contract, write_demo

from resfit_core import offline
from resfit_core.action_space import ActionSpace
from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.protocol import ChunkedBase
from resfit_core.build import build_learner
from resfit_core.data.episode import DEMO, EVALUATE, TRAIN, WARMUP
from resfit_core.data.verdicts import Verdict, append_verdict
from resfit_core.learner import LearnerError
from resfit_core.learner_session import LearnerSession, SessionSettings
from resfit_core.weights import newest_weights

BASE = "b" * 64
CONFIG = TrainConfig(
    warmup_episodes=2, critic_warmup_updates=4, utd=0.5, critic_width=16, actor_width=16,
    batch_size=16,
)  # fmt: skip


@pytest.fixture(scope="module", name="contract")
def _contract():
    return vega_contract()


@pytest.fixture(name="base")
def _base(contract):
    return ChunkedBase(
        lambda o, i: np.full((4, contract.action_dim), o[0] % 1, np.float32), 4,
        ActionSpace.from_limits(contract), BASE, contract.sha256,
    )  # fmt: skip


def record(folder, contract, episode, steps=6, **fields):
    rng = np.random.default_rng([episode, steps])
    rad = rng.uniform(contract.lower, contract.upper, (steps, contract.action_dim))
    norm = rng.uniform(-1, 1, (steps, contract.action_dim))
    observation = rng.normal(size=(steps + 1, contract.obs_dim))
    return write_demo(
        folder, contract, observation, rad, norm, episode=episode,
        **{"mode": TRAIN, "run_id": "run", **fields},
    )  # fmt: skip


class Silent:
    def __getattr__(self, name):
        return lambda *args: None


def test_the_buffers_are_those_of_the_run_by_hash(tmp_path, contract, base):
    """Mixed halves, an evaluation, a lost episode and a corrected verdict included."""
    run, demos = tmp_path / "run", tmp_path / "demos"
    for episode in (1, 2):
        record(demos, contract, episode, steps=5, mode=DEMO, base_sha256="e" * 64)
    record(demos, contract, 3, mode=DEMO, success=False)
    record(run / "episodes", contract, 1, mode=WARMUP)
    record(run / "episodes", contract, 2, steps=9)
    record(run / "episodes", contract, 3, mode=EVALUATE)
    record(run / "episodes", contract, 4, complete=False, reason="lost")
    record(run / "episodes", contract, 5, steps=7, success=False)
    append_verdict(run, Verdict("run", 5, 1, 1, 6, "corrected"))
    config = CONFIG.replace(successes_to_demos=True)

    online = build_learner(config, contract, base)
    session = LearnerSession(online, base, contract, SessionSettings(run, demos), Silent())
    stop = Event()
    stop.set()
    session.run(stop)

    said = []
    alone = build_learner(config, contract, base)
    filled = offline.fill(alone, base, contract, str(run), str(demos), said.append)
    assert alone.replay.sha256() == online.replay.sha256()
    assert (alone.env_steps, alone.episodes) == (online.env_steps, online.episodes) == (22, 3)
    assert dataclasses.astuple(filled) == (2, 3, 1, 2)
    assert any("lost" in text for text in said) and any("failed" in text for text in said)
    # And so are the next batches and the nets that come of them.
    assert alone.updates_owed == online.updates_owed > 0
    for learner in (alone, online):
        learner.train(max_updates=3)
    assert alone.weights_bytes(1) == online.weights_bytes(1)


def test_runs_are_added_up_and_another_base_is_relabelled(tmp_path, contract, base):
    for name, steps, of in (("a", 6, BASE), ("b", 8, "f" * 64)):
        for episode in (1, 2):
            folder = tmp_path / name / "episodes"
            record(folder, contract, episode, steps=steps, base_sha256=of)
    learner = build_learner(CONFIG, contract, base)
    offline.fill(learner, base, contract, f"{tmp_path / 'a'},{tmp_path / 'b'}")
    assert [key for key, _ in learner.replay.online.entries()] == [
        (False, n) for n in (1, 2, 3, 4)
    ]
    assert learner.env_steps == 28
    relabelled = learner.replay.online.get((False, 3))
    assert relabelled.base_sha256 == BASE
    np.testing.assert_allclose(relabelled.base_action[0], relabelled.observation[0, 0] % 1)


def test_it_trains_saves_and_goes_on(tmp_path, contract, base):
    for episode in (1, 2, 3):
        record(tmp_path / "run" / "episodes", contract, episode)
    out, bags = tmp_path / "out", str(tmp_path / "run")
    owed = offline.run(out, contract, base, CONFIG, bags)
    assert owed["updates"] == 4 + 3 and owed["buffer_sha256"].startswith(":") is False
    more = offline.run(out, contract, base, CONFIG, bags, updates=20)
    assert more["updates"] == 20 and more["episodes"] == 0  # taken in before
    version, data = newest_weights(out)
    assert version == 2 and len(data) > 1000
    with pytest.raises(LearnerError, match=r"no update is owed: 20 are done"):
        offline.run(out, contract, base, CONFIG, bags, updates=20)


def test_bad_input_is_one_line_and_code_2(tmp_path, contract, capsys):
    root = CONFIG_FOLDER
    code = offline.main(
        ["--bags", str(tmp_path), "--robot", str(root / "robot/vega_1.yaml"),
         "--task", str(root / "task/woolly_ball_pnp.yaml"), "--out", str(tmp_path / "out"),
         "--base", str(root / "shipped/woolly_ball_pnp/base_state.safetensors")]
    )  # fmt: skip
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and said[-1].startswith("offline: ") and "no recorded episode" in said[-1]
