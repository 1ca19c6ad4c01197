"""When the residual acts and when it takes weights, in every order in which messages arrive."""

from types import SimpleNamespace

import numpy as np
import pytest

from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_core.control.residual_tick import ResidualTick, StepKeeper, Weights


class Policy:
    """Writes down what happens to it; refuses version 13."""

    def __init__(self):
        self.version, self.calls = 0, []

    def load(self, data, sha256=None):
        if data == b"13":
            raise ValueError("version 13 is damaged")
        self.version = int(data)
        self.calls.append(f"load {self.version}")
        return self.version

    def begin_episode(self, seed, mode, use_residual=True):
        self.calls.append(f"begin {seed}")

    def executed(self, action_norm):
        self.calls.append(f"executed {action_norm}")

    def act(self, observation, base_action, chunk_phase):
        self.calls.append("act")
        return base_action + self.version, False


@pytest.fixture(name="made")
def _made():
    refused = []
    policy = Policy()
    tick = ResidualTick(policy, refused.append)
    return SimpleNamespace(policy=policy, tick=tick, refused=refused)


def tick(stamp, episode=1, is_last=False):
    return SimpleNamespace(
        stamp_ns=stamp, episode=episode, is_last=is_last, chunk_phase=0.0,
        observation=np.zeros(1), base_action=np.zeros(1), images={},
    )  # fmt: skip


def state(phase, episode=1, **kw):
    return EpisodeState(phase=phase, episode=episode, seed=100 * episode, **kw)


def weights(version):
    return Weights(str(version).encode(), None, version)


def test_a_tick_that_overtakes_running_is_kept(made):
    made.tick.on_state(state(Phase.READY))
    assert made.tick.on_tick(tick(1)) is None
    assert made.tick.on_state(state(Phase.RUNNING)).tick.stamp_ns == 1
    assert made.policy.calls == ["begin 100", "act"]


def test_a_stamp_again_gets_the_same_answer_and_never_acts_twice(made):
    made.tick.on_state(state(Phase.RUNNING))
    first = made.tick.on_tick(tick(1))
    assert made.tick.on_tick(tick(1)) is first
    assert made.tick.on_tick(tick(0)) is None
    assert made.policy.calls.count("act") == 1


def test_a_tick_waits_for_what_was_executed_before_it_and_the_next_one_does_not():
    policy = Policy()
    made = ResidualTick(policy, print, observes_last_action=True)
    made.on_state(state(Phase.RUNNING))
    assert made.on_tick(tick(1)) is not None  # an episode's first
    assert made.on_executed(1, 0.5) is None
    assert made.on_tick(tick(2)) is not None
    assert made.on_tick(tick(3)) is None
    assert made.on_executed(1, 0.5) is None, "an old answer is not the one that is waited for"
    assert made.on_executed(2, 0.6).tick.stamp_ns == 3
    assert made.on_tick(tick(4)) is None
    assert made.on_tick(tick(5)).tick.stamp_ns == 5, "the answer to 3 was lost"
    assert policy.calls[1:6] == ["act", "executed 0.5", "act", "executed 0.6", "act"]
    made.on_state(state(Phase.RUNNING, 2))
    assert made.on_tick(tick(9, 2)) is not None


def test_weights_wait_for_the_episode_to_end(made):
    made.tick.on_weights(weights(1))
    made.tick.on_state(state(Phase.RUNNING))
    assert made.tick.on_tick(tick(1)).weights_version == 1
    made.tick.on_weights(weights(2))
    assert made.tick.on_tick(tick(2)).weights_version == 1
    made.tick.on_state(state(Phase.ENDED))
    assert made.policy.version == 2
    made.tick.on_state(state(Phase.RUNNING, 2))
    assert made.tick.on_tick(tick(9, 2)).action[0] == 2


def test_a_correction_of_an_older_episode_lets_no_weights_in(made):
    """It made the node believe that nothing runs, and new weights were applied in mid-episode."""
    made.tick.on_state(state(Phase.RUNNING, 2))
    made.tick.on_tick(tick(10, 2))
    made.tick.on_weights(weights(3))
    made.tick.on_state(state(Phase.ENDED, 1, revision=1))
    made.tick.on_state(state(Phase.RUNNING, 2))
    assert made.tick.on_tick(tick(20, 2)).weights_version == 0
    made.tick.on_state(state(Phase.ENDED, 2))
    assert made.policy.version == 3


def test_the_first_tick_waits_for_the_required_weights(made):
    made.tick.on_state(state(Phase.RUNNING, required_weights_version=3))
    assert made.tick.on_tick(tick(1)) is None
    assert made.tick.waits_for_version == 3
    assert made.tick.on_weights(weights(2)) is None
    assert made.tick.on_weights(weights(3)).weights_version == 3
    assert made.tick.waits_for_version == 0
    assert made.policy.calls == ["load 2", "load 3", "begin 100", "act"]


def test_refused_weights_leave_the_old_ones(made):
    made.tick.on_weights(weights(12))
    made.tick.on_weights(weights(13))
    assert made.refused == ["version 13 is damaged"] and made.policy.version == 12
    made.tick.on_weights(weights(14))
    assert made.policy.version == 14


@pytest.mark.parametrize(
    "kw", [{"mode": Mode.WARMUP}, {"mode": Mode.EVALUATE, "use_residual": False}]
)
def test_where_the_base_acts_alone_no_version_is_claimed(made, kw):
    made.tick.on_weights(weights(5))
    made.tick.on_state(state(Phase.RUNNING, **kw))
    assert made.tick.on_tick(tick(1)).weights_version == 0


def test_the_last_tick_is_passed_on_without_acting(made):
    made.tick.on_state(state(Phase.RUNNING))
    made.tick.on_tick(tick(1))
    made.tick.on_state(state(Phase.ENDED))
    made.tick.on_state(state(Phase.RESETTING, 2))
    last = made.tick.on_tick(tick(2, 1, is_last=True))
    assert last.action.size == 0 and made.policy.calls.count("act") == 1


def test_a_tick_that_ended_overtook_is_passed_on_without_acting(made):
    """It was dropped, and the episode lost: the recorder never had its last observation."""
    made.tick.on_state(state(Phase.RUNNING))
    made.tick.on_tick(tick(1))
    made.tick.on_state(state(Phase.ENDED))
    last = made.tick.on_tick(tick(2))
    assert last.action.size == 0
    assert made.policy.calls.count("act") == 1
    assert made.tick.on_tick(tick(2)) is last
    made.tick.on_state(state(Phase.RUNNING, 2))
    assert made.tick.on_tick(tick(3)) is None, "of the old episode"


def test_a_tick_of_an_ended_episode_is_not_kept_for_the_next(made):
    made.tick.on_state(state(Phase.ENDED))
    assert made.tick.on_tick(tick(5)) is None
    assert made.tick.on_state(state(Phase.RUNNING, 2)) is None


def test_the_keeper_forgets_the_oldest_episode():
    keeper = StepKeeper(episodes=2)
    for episode in (1, 2, 3):
        for step in (1, 0):
            keeper.keep(episode, step, f"{episode}.{step}")
    assert keeper.find(1) == []
    assert keeper.find(3) == ["3.0", "3.1"]
    assert keeper.find(2, [1, 7]) == ["2.1"]


def test_older_weights_that_come_after_newer_ones_are_refused(made):
    made.tick.on_weights(weights(12))
    made.tick.on_weights(weights(11))
    assert made.policy.version == 12
    assert made.refused == ["weights version 11 after version 12: too old"]
