"""The learner's run: intake, publishing rules, checkpoints, a restart that goes on."""

import json
from threading import Event

import numpy as np
import pytest
from bag_maker import vega_contract, write_demo

from resfit_core import checkpoint, learner_session, tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.base.protocol import ChunkedBase
from resfit_core.best import Score
from resfit_core.data.episode import EVALUATE, TRAIN, Episode
from resfit_core.data.verdicts import Verdict, append_verdict
from resfit_core.learner import Learner
from resfit_core.learner_session import (
    SAVED,
    TRAINING,
    WAITING,
    LearnerSession,
    SessionSettings,
)
from resfit_core.weights import newest_weights, save_weights

BASE = "b" * 64
CONFIG = TrainConfig(
    warmup_episodes=2, critic_warmup_updates=4, utd=0.5, critic_width=16, actor_width=16,
    batch_size=16,
)  # fmt: skip


class Outlet:
    def __init__(self):
        self.told, self.versions, self.in_, self.warnings, self.points = [], [], [], [], []

    def status(self, status):
        self.told.append(status)

    def weights(self, version, data, updates):
        self.versions.append((version, updates))

    def taken(self, episode, revision):
        self.in_.append((episode, revision))

    def scalars(self, step, values):
        self.points.append(step)

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module", name="contract")
def _contract():
    return vega_contract()


@pytest.fixture(autouse=True)
def _whole_turns(monkeypatch):
    """A turn does all that is owed, however slow the machine: nothing here depends on time."""
    monkeypatch.setattr(learner_session, "_SLICE_S", 600.0)


def session(contract, run_dir, **settings):
    scale = resolve_scale(CONFIG.residual_scale, contract.groups())
    learner = Learner(CONFIG, contract.obs_dim, contract.action_dim, scale, contract.sha256, BASE)
    base = ChunkedBase(
        lambda o, i: np.zeros((4, contract.action_dim), np.float32), 4,
        ActionSpace.from_limits(contract), BASE, contract.sha256,
    )  # fmt: skip
    outlet = Outlet()
    made = LearnerSession(learner, base, contract, SessionSettings(run_dir, **settings), outlet)
    return made, learner, outlet


def episode(contract, number, steps=10, mode=TRAIN, base=BASE, **kw):
    rng = np.random.default_rng(number)
    return Episode(
        observation=rng.normal(size=(steps + 1, contract.obs_dim)),
        base_action=rng.uniform(-1, 1, (steps + 1, contract.action_dim)),
        chunk_phase=np.zeros(steps + 1),
        action=rng.uniform(-1, 1, (steps, contract.action_dim)),
        reward=np.eye(steps)[-1], terminated=True, truncated=False, success=True,
        intervention=np.zeros(steps), explored=np.zeros(steps), episode=number, mode=mode,
        contract_sha256=contract.sha256, base_sha256=base, **kw,
    )  # fmt: skip


def test_weights_come_when_nothing_is_owed_and_the_status_names_them(contract, tmp_path):
    made, learner, outlet = session(contract, tmp_path)
    made.submit(episode(contract, 1))
    made.once()
    assert (outlet.told[-1].state, outlet.told[-1].episodes) == (WAITING, 1)
    made.submit(episode(contract, 2))
    made.once()
    assert outlet.versions == [(1, 4)]  # the critic's warm-up
    made.submit(episode(contract, 3))
    made.once()
    told = outlet.told[-1]
    assert (told.updates, told.updates_owed, told.weights_version) == (9, 0, 2)
    assert (told.last_episode, told.env_steps, told.utd_achieved) == (3, 30, 0.5)
    assert told.critic_loss > 0 and told.updates_per_s > 0
    version, data = newest_weights(tmp_path)
    assert version == 2 and data == learner.weights_bytes(2)
    assert made.once() is False and len(outlet.versions) == 2


@pytest.mark.parametrize(("synchronous", "versions"), [(True, []), (False, [1])])
def test_a_synchronous_run_publishes_only_what_is_settled(
    contract, tmp_path, monkeypatch, synchronous, versions
):
    made, learner, outlet = session(contract, tmp_path, synchronous=synchronous)
    train = learner.train
    monkeypatch.setattr(learner, "train", lambda **_: train(max_updates=1))
    for number in (1, 2):
        made.submit(episode(contract, number))
    made.once()
    assert outlet.told[-1].state == TRAINING
    assert [v for v, _ in outlet.versions] == versions
    for _ in range(3):
        made.once()
    assert outlet.told[-1].state == WAITING and outlet.versions[-1][1] == 4


def test_evaluations_and_unfit_episodes_are_seen_and_not_learned_from(contract, tmp_path):
    made, _, outlet = session(contract, tmp_path)
    made.submit(episode(contract, 1, mode=EVALUATE))
    made.submit(5)
    made.once()
    told = outlet.told[-1]
    assert (told.last_episode, told.episodes, told.online_steps) == (5, 0, 0)


def test_an_episode_of_another_base_is_refused_in_words(contract, tmp_path):
    made, _, outlet = session(contract, tmp_path)
    made.submit(episode(contract, 1, base="d" * 64))
    made.once()
    assert "episode 1: base_sha256 is dddddddddddd" in outlet.warnings[0]
    assert outlet.in_ == []
    assert outlet.told[-1].last_episode == 1  # else the evaluation would wait for it for ever


def test_a_run_from_demos_to_the_end_and_a_restart_that_goes_on(contract, tmp_path):
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(6, contract.obs_dim)),
        rng.uniform(contract.lower, contract.upper, (5, contract.action_dim)),
        rng.uniform(-1, 1, (5, contract.action_dim)),
    )
    write_demo(tmp_path / "demos", contract, *arrays)
    run_dir = tmp_path / "run"
    made, learner, outlet = session(contract, run_dir, demos=tmp_path / "demos")
    for number in (1, 2, 3):
        made.submit(episode(contract, number))
    stop = Event()
    outlet.weights = lambda *a: (outlet.versions.append(a[:1]), stop.set())
    made.run(stop)
    assert outlet.told[-1].demo_steps == 5 and outlet.points
    line = json.loads((run_dir / "learner.jsonl").read_text().splitlines()[-1])
    assert line["state"] == "waiting" and line["updates"] == learner.updates == 9

    again, resumed, told = session(contract, run_dir, demos=tmp_path / "demos")
    stop.set()
    again.run(stop)
    assert resumed.replay.sha256() == learner.replay.sha256()
    assert resumed.updates == 9 and told.in_ == [(1, 0), (2, 0), (3, 0)]
    again.submit(episode(contract, 4))
    again.once()
    assert told.versions == [(2, 14)]  # versions count on


def test_asked_to_save_it_does_once_settled_and_says_so(contract, tmp_path, monkeypatch):
    made, learner, outlet = session(contract, tmp_path, checkpoint_every=100)
    for number in (1, 2, 3):
        made.submit(episode(contract, number))
    made.once()
    made.save_when_settled(True)
    save = learner.save
    refused = OSError("No space left on device")
    monkeypatch.setattr(learner, "save", lambda *_: (_ for _ in ()).throw(refused))
    made.once()
    assert outlet.told[-1].state == WAITING and "no checkpoint" in outlet.warnings[0]
    monkeypatch.setattr(learner, "save", save)
    made._clock = lambda: float("inf")
    made.once()
    assert (outlet.told[-1].state, outlet.told[-1].updates) == (SAVED, 9)
    made.submit(episode(contract, 4, mode=EVALUATE))
    made.once()
    assert (outlet.told[-1].state, outlet.told[-1].last_episode) == (SAVED, 4)
    again, resumed, _ = session(contract, tmp_path)
    again._start()
    assert (resumed.updates, resumed.episodes) == (9, 3)
    made.save_when_settled(False)
    made.submit(episode(contract, 5))
    made.once()
    assert outlet.told[-1].state == WAITING


def test_bags_of_the_run_are_read_at_the_start(contract, tmp_path):
    rng = np.random.default_rng(0)
    write_demo(
        tmp_path / "episodes", contract,
        rng.normal(size=(6, contract.obs_dim)),
        rng.uniform(contract.lower, contract.upper, (5, contract.action_dim)),
        rng.uniform(-1, 1, (5, contract.action_dim)),
    )  # fmt: skip
    made, learner, outlet = session(contract, tmp_path)
    stop = Event()
    stop.set()
    made.run(stop)
    assert (learner.episodes, outlet.in_, outlet.warnings) == (1, [(1, 0)], [])


@pytest.mark.parametrize(("keep", "left"), [(2, [4, 5]), (0, [1, 2, 3, 4, 5])])
def test_so_many_versions_stay_or_all(tmp_path, keep, left):
    """A version that is gone cannot be replayed; a run that wants all of them must get them."""
    for version in range(1, 6):
        save_weights(tmp_path, version, b"w", keep)
    found = sorted((tmp_path / "weights").iterdir())
    assert [int(path.stem.rpartition("_")[2]) for path in found] == left


def test_a_damaged_checkpoint_gives_way_to_the_one_before(contract, tmp_path):
    made, learner, _ = session(contract, tmp_path)
    for number in (1, 2, 3):
        made.submit(episode(contract, number))
        made.once()
        learner.save(tmp_path / "checkpoints", keep=3)
    updates = learner.updates
    newest = checkpoint.states(tmp_path / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:-5])  # the kept one shares its bytes
    (tmp_path / "checkpoints" / ".learner.safetensors.77.partial").write_bytes(b"half")
    again, resumed, told = session(contract, tmp_path)
    stop = Event()
    stop.set()
    again.run(stop)
    assert "the checkpoint before is tried" in told.warnings[0]
    assert 0 < resumed.updates < updates
    assert not list(tmp_path.rglob("*.partial"))
    for path in checkpoint.states(tmp_path / "checkpoints"):
        path.write_bytes(b"nothing")
    with pytest.raises(checkpoint.DamagedError):
        session(contract, tmp_path)[0].run(stop)


def test_episodes_in_the_checkpoint_are_not_read_again(contract, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    write_demo(
        tmp_path / "episodes", contract,
        rng.normal(size=(6, contract.obs_dim)),
        rng.uniform(contract.lower, contract.upper, (5, contract.action_dim)),
        rng.uniform(-1, 1, (5, contract.action_dim)),
    )  # fmt: skip
    stop = Event()
    stop.set()
    session(contract, tmp_path)[0].run(stop)
    read = []
    monkeypatch.setattr(learner_session, "read_episode", read.append)
    made, learner, _ = session(contract, tmp_path)
    made.run(stop)
    assert (learner.episodes, read) == (1, [])
    append_verdict(tmp_path, Verdict("test", 1, 1, 2, 4, "corrected"))
    session(contract, tmp_path)
    with pytest.raises(AttributeError):  # what the stand-in above gives back is no episode
        session(contract, tmp_path)[0].run(stop)
    assert len(read) == 1


def test_a_full_disk_stops_neither_learning_nor_the_node(contract, tmp_path, monkeypatch):
    """Bug: the learner left, was started again six times, and with it the run ended."""
    made, learner, outlet = session(contract, tmp_path, checkpoint_every=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tensorfile.os, "fsync", full)
        for number in (1, 2):
            made.submit(episode(contract, number))
            made.once()
    assert learner.updates == 4 and outlet.versions == []
    said = " ".join(outlet.warnings)
    assert "no checkpoint" in said and "weights are not published" in said
    made.submit(episode(contract, 3))
    made.once()
    assert outlet.versions == [(1, 9)]
    assert newest_weights(tmp_path)[0] == 1


def test_the_checkpoint_that_did_best_in_evaluation_is_kept(contract, tmp_path):
    made, learner, _ = session(contract, tmp_path)
    for number in (1, 2):
        made.submit(episode(contract, number))
    made.once()
    for scene, success in ((3, True), (4, True), (5, False)):
        made.submit(Score(scene, 1, success))
    made.once()
    told = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert (told["version"], told["scenes"], told["updates"]) == (1, 3, 4)
    made.submit(episode(contract, 6))
    made.once()
    made.submit(Score(7, 2, False))  # worse
    made.submit(Score(8, 1, True))  # of weights that are learned over: no state to keep
    made.once()
    _, best, _ = session(contract, tmp_path)
    best.load(tmp_path / "checkpoints", checkpoint.BEST)
    assert (best.updates, learner.updates) == (4, 9)
    for scene in range(9, 19):
        made.submit(Score(scene, 2, True))
    made.once()
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text())["version"] == 2
