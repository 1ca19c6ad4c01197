"""Checkpoints: a restart goes on to the bit; damage and mismatch are refused in words."""

import numpy as np
import pytest
import torch
from learning_cases import ACT, BASE, CONTRACT, OBS, episode, learner, small_config

from resfit_core import checkpoint, tensorfile
from resfit_core.checkpoint import CheckpointError, DamagedError
from resfit_core.learner import Learner


def half_way(config=None):
    made = learner(config)
    for number, success in ((1, False), (2, True), (3, False)):
        made.add_episode(episode(number, 20, success))
    made.add_episode(episode(2, 20, False, revision=1))
    made.train(max_updates=25)
    return made


def empty(config=None, contract=CONTRACT, scale=(0.2, 0.1)):
    return Learner(config or small_config(), OBS, ACT, np.array(scale), contract, BASE)


def test_resume_is_bit_equal_over_100_updates(tmp_path):
    config = small_config(successes_to_demos=True, target_actor=True)
    going_on = half_way(config)
    going_on.save(tmp_path)
    resumed = empty(config)
    resumed.load(tmp_path)
    assert resumed.replay.sha256() == going_on.replay.sha256()
    for one in (going_on, resumed):
        one.add_episode(episode(4, 120, True))
    results = [one.train(max_updates=100) for one in (going_on, resumed)]
    assert results[0] == results[1]
    assert results[0]["updates"] == 100
    assert going_on.weights_bytes(1) == resumed.weights_bytes(1)
    for name in ("critic", "target_critic", "target_actor"):
        states = [getattr(one.algorithm, name).state_dict() for one in (going_on, resumed)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]), name
    for name in ("updates", "updates_owed", "env_steps", "episodes", "seen", "utd_achieved"):
        assert getattr(going_on, name) == getattr(resumed, name), name


def test_checkpoint_before_learning(tmp_path):
    learner().save(tmp_path)
    resumed = empty()
    resumed.load(tmp_path)
    assert resumed.replay.demos.episodes == 3
    assert not resumed.learning_started


def test_a_second_checkpoint_replaces_the_first_and_forgets_what_it_dropped(tmp_path):
    made = half_way()
    made.save(tmp_path)
    first = set((tmp_path / "episodes").iterdir())
    assert len(first) == 6
    made.add_episode(episode(1, 12, True, revision=1))
    made.save(tmp_path)
    second = set((tmp_path / "episodes").iterdir())
    assert len(second) == 6
    assert len(first & second) == 5
    assert not list(tmp_path.rglob("*.partial"))
    resumed = empty()
    resumed.load(tmp_path)
    assert resumed.replay.sha256() == made.replay.sha256()


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    made = half_way()
    made.save(tmp_path)
    updates = made.updates
    made.train(max_updates=5)
    monkeypatch.setattr(tensorfile.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        made.save(tmp_path)
    monkeypatch.undo()
    resumed = empty()
    resumed.load(tmp_path)
    assert resumed.updates == updates
    assert not list(tmp_path.rglob("*.partial"))


def test_foreign_checkpoints_are_refused_and_change_nothing(tmp_path):
    half_way().save(tmp_path)
    for other, words in (
        (empty(contract="d" * 64), "contract_sha256 is cccc.*new run_dir"),
        (empty(small_config(gamma=0.5)), "gamma 0.99 -> 0.5"),
        (empty(scale=(0.3, 0.1)), "scale per joint differs"),
    ):
        with pytest.raises(CheckpointError, match=words):
            other.load(tmp_path)
        assert (other.updates, other.episodes) == (0, 0)


def test_a_setting_that_came_later_is_at_its_default_in_an_old_checkpoint(tmp_path):
    """A run that was cut short before a release with a new setting was refused for it."""
    state = half_way().save(tmp_path)
    tensors, header = tensorfile.unpack_sealed(state.read_bytes(), "checkpoint")
    del header["config"]["actor_dropout"]
    state.write_bytes(tensorfile.pack_sealed(tensors, header))
    resumed = empty()
    resumed.load(tmp_path)
    assert resumed.updates == 25
    with pytest.raises(CheckpointError, match=r"actor_dropout 0\.0 -> 0\.5"):
        empty(small_config(actor_dropout=0.5)).load(tmp_path)


def test_damage_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        empty().load(tmp_path / "nowhere")
    state = half_way().save(tmp_path)
    whole = state.read_bytes()
    state.write_bytes(whole[:-10])
    with pytest.raises(DamagedError, match="not a whole"):
        empty().load(tmp_path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # still a sound file of its format
    state.write_bytes(flipped)
    with pytest.raises(DamagedError, match="damaged or forged"):
        empty().load(tmp_path)
    state.write_bytes(whole)
    some = next((tmp_path / "episodes").iterdir())
    some.write_bytes(some.read_bytes()[:-1] + b"x")
    other = empty()
    with pytest.raises(CheckpointError, match="damaged"):
        other.load(tmp_path)
    assert other.updates == 0


def test_the_last_states_are_kept_and_the_best_with_its_episodes(tmp_path):
    made = half_way()
    folder = tmp_path
    made.save(folder, keep=2)
    checkpoint.keep_best(folder)
    first = made.updates
    made.add_episode(episode(1, 12, True, revision=1))  # its first revision is best's alone
    for _ in range(3):
        made.train(max_updates=1)
        made.save(folder, keep=2)
    names = [path.name for path in checkpoint.states(folder)]
    assert names == [
        "learner.safetensors", f"learner_{first + 3:09d}.safetensors",
        f"learner_{first + 2:09d}.safetensors",
    ]  # fmt: skip
    best, newest = empty(), empty()
    best.load(folder, checkpoint.BEST)
    newest.load(folder)
    assert (best.updates, newest.updates) == (first, first + 3)
    assert best.replay.sha256() != newest.replay.sha256() == made.replay.sha256()


def test_tensors_that_do_not_fit_change_nothing(tmp_path):
    state = half_way().save(tmp_path)
    tensors, header = tensorfile.unpack_sealed(state.read_bytes(), "state")
    name = next(n for n in tensors if n.startswith("target_critic/"))
    state.write_bytes(
        tensorfile.pack_sealed({**tensors, name: np.zeros((3, 3), np.float32)}, header)
    )
    other = empty()
    before = other.weights_bytes(1)
    with pytest.raises(CheckpointError, match=r"target_critic/.* has shape \(3, 3\)"):
        other.load(tmp_path)
    assert other.weights_bytes(1) == before
