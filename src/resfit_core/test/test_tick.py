"""The base policy's tick in every order in which messages can arrive."""

import numpy as np
import pytest

from resfit_core.control.records import EpisodeState, Phase
from resfit_core.control.tick import ActionError, BaseTick, Seen

T = 50_000_000


class Chunks:
    """A base of chunks of four; its action tells the chunk and the place in it."""

    def __init__(self):
        self.chunk, self.place, self.seeds = 0, 0, []

    def reset(self, seed):
        self.seeds.append(seed)
        self.chunk, self.place = self.chunk + 1, 0

    def act(self, observation, images):
        action = np.array([self.chunk, self.place], np.float32)
        phase, self.place = self.place / 4, self.place + 1
        return type("A", (), {"action_norm": action, "chunk_phase": phase, "planned": phase == 0})


@pytest.fixture(name="make")
def _make():
    def make(lockstep=True):
        base = Chunks()
        tick = BaseTick(
            base, lambda j: Seen(np.array([j], np.float32)), "c", "b",
            period_ns=T, lockstep=lockstep, born_ns=8 * T,
        )  # fmt: skip
        return base, tick

    return make


def state(phase, episode=1, **kw):
    return EpisodeState(phase=phase, episode=episode, seed=episode * 100, **kw)


def begin(tick, episode=1, start=10 * T):
    tick.on_state(state(Phase.RESETTING, episode))
    tick.on_state(state(Phase.READY, episode))
    return tick.on_state(state(Phase.RUNNING, episode, start_ns=start))


def test_steps_are_numbered_and_the_chunk_goes_on(make):
    base, tick = make()
    assert begin(tick) is None
    steps = [tick.on_set((10 + i) * T, i) for i in range(3)]
    assert [s.step for s in steps] == [0, 1, 2]
    assert [s.is_first for s in steps] == [True, False, False]
    assert [s.chunk_phase for s in steps] == [0, 0.25, 0.5]
    assert [float(s.observation[0]) for s in steps] == [0, 1, 2]
    assert set(base.seeds) == {100}


def test_a_set_that_overtakes_running_is_kept(make):
    _, tick = make()
    tick.on_state(state(Phase.RESETTING))
    assert tick.on_set(10 * T, 5) is None
    answer = tick.on_state(state(Phase.RUNNING, start_ns=10 * T))
    assert (answer.stamp_ns, answer.step) == (10 * T, 0)


def test_a_correction_of_an_older_episode_does_not_touch_the_running_one(make):
    base, tick = make()
    begin(tick, 2)
    tick.on_set(10 * T, 0)
    resets = len(base.seeds)
    assert tick.on_state(state(Phase.ENDED, 1, revision=1, credited_step=3)) is None
    tick.on_state(state(Phase.RUNNING, 2, start_ns=10 * T))
    assert (tick.on_set(11 * T, 0).step, len(base.seeds)) == (1, resets)


def test_a_set_older_than_the_start_is_not_answered(make):
    _, tick = make()
    tick.on_state(state(Phase.RESETTING))
    tick.on_set(9 * T, 5)
    assert tick.on_state(state(Phase.RUNNING, start_ns=10 * T)) is None
    assert tick.on_set(9 * T + 1, 5) is None


def test_a_stamp_sent_again_gets_the_same_answer_and_never_acts_twice(make):
    base, tick = make()
    begin(tick)
    first = tick.on_set(10 * T, 0)
    assert tick.on_set(10 * T, 99) is first
    assert base.place == 1
    assert tick.on_set(9 * T, 1) is None


def test_the_last_observation_comes_from_the_unreset_chunk(make):
    base, tick = make()
    begin(tick)
    chunk = [tick.on_set((10 + i) * T, i) for i in range(2)][-1].base_action[0]
    assert tick.on_state(state(Phase.ENDED, credited_step=1, end_ns=12 * T)) is None
    last = tick.on_set(12 * T, 7)
    assert last.is_last and last.step == 2 and last.episode == 1
    np.testing.assert_array_equal(last.base_action, [chunk, 2])
    assert base.place == 0  # reset right after
    assert tick.on_set(12 * T, 7) is last


def test_the_last_observation_may_come_after_the_next_reset_began(make):
    base, tick = make()
    begin(tick)
    chunk = tick.on_set(10 * T, 0).base_action[0]
    tick.on_state(state(Phase.ENDED, credited_step=0, end_ns=11 * T))
    tick.on_state(state(Phase.RESETTING, 2))
    last = tick.on_set(11 * T, 7)
    assert (last.is_last, last.episode, last.base_action[0]) == (True, 1, chunk)
    assert base.seeds[-1] == 200
    tick.on_state(state(Phase.RUNNING, 2, start_ns=20 * T))
    fresh = tick.on_set(20 * T, 0)
    assert (fresh.step, fresh.episode, fresh.is_first) == (0, 2, True)
    assert fresh.base_action[0] > chunk


def test_the_last_set_may_overtake_ended(make):
    """It is answered as the next step; the recorder takes it as the last observation."""
    base, tick = make()
    begin(tick)
    tick.on_set(10 * T, 0)
    after = tick.on_set(11 * T, 1)
    assert not after.is_last and after.step == 1
    assert tick.on_state(state(Phase.ENDED, credited_step=0, end_ns=11 * T)) is None
    assert tick.on_set(12 * T, 2) is None
    assert base.place == 0


def test_an_episode_without_the_last_set_does_not_leak_into_the_next(make):
    _, tick = make()
    begin(tick)
    tick.on_set(10 * T, 0)
    tick.on_state(state(Phase.ENDED, credited_step=0))
    begin(tick, 2, 20 * T)
    answer = tick.on_set(20 * T, 0)
    assert (answer.episode, answer.step, answer.is_last) == (2, 0, False)


def test_coming_up_within_an_episode_asks_for_abort_and_stays_silent(make):
    base, tick = make()
    tick.on_state(state(Phase.RUNNING, 4, start_ns=10 * T))
    assert tick.on_set(13 * T, 0) is None
    assert "episode 4 was running already" in tick.abort_reason
    assert tick.on_set(14 * T, 0) is None
    assert (tick.episode, base.place) == (4, 0)
    assert tick.on_state(state(Phase.ENDED, 4, credited_step=2)) is None
    assert tick.abort_reason == ""
    begin(tick, 5, 20 * T)
    assert tick.on_set(20 * T, 0).step == 0


def test_coming_up_before_the_first_answer_of_an_episode_is_no_reason_to_abort(make):
    """In lock-step the twin still waits for the answer to the first stamp: nothing was missed."""
    _, tick = make()
    tick.on_state(state(Phase.RUNNING, 1, start_ns=10 * T))
    assert tick.on_set(10 * T, 0).step == 0
    assert tick.on_set(11 * T, 0).step == 1
    assert tick.abort_reason == ""


@pytest.mark.parametrize(("start", "answered"), [(5, False), (15, True)])
def test_in_real_time_an_episode_that_began_after_this_node_is_no_reason_to_abort(
    make, start, answered
):
    """Regression: RUNNING overtook READY at the start of a run, and episode 1 was aborted."""
    _, tick = make(lockstep=False)
    tick.on_state(state(Phase.RUNNING, 1, start_ns=start * T))
    assert (tick.on_set(20 * T, 0) is not None) is answered
    assert (tick.abort_reason == "") is answered


def test_a_long_hold_plans_anew_in_a_bag_of_real_time_played_in_lockstep(make):
    """Replayed, the base went on with the old chunk after each hold and was never the same."""
    _, tick = make()
    tick.on_state(state(Phase.RUNNING, start_ns=10 * T))
    assert tick.on_set(10 * T, 0).chunk_phase == 0
    assert tick.on_set(11 * T, 1).chunk_phase > 0
    assert (tick.on_set(15 * T, 2).chunk_phase, tick.replans) == (0, 1)


def test_a_dropped_tick_counts_and_a_long_hold_plans_anew(make):
    _, tick = make(lockstep=False)
    begin(tick)
    tick.on_set(10 * T, 0)
    tick.on_drop()
    jitter = tick.on_set(12 * T, 1)  # one period missed: the chunk goes on
    assert (jitter.step, jitter.chunk_phase) == (1, 0.25)
    for _ in range(3):
        tick.on_drop()
    held = tick.on_set(16 * T, 2)
    assert (held.step, held.chunk_phase, held.is_first) == (2, 0, False)
    assert (tick.dropped, tick.replans) == (4, 1)


def test_drops_outside_of_an_episode_are_not_counted(make):
    _, tick = make(lockstep=False)
    tick.on_drop()
    assert tick.dropped == 0


def test_an_action_that_is_no_number_is_refused_in_words(make):
    """Bug: NaN went on to the recorder, and five episodes in a row were lost to it."""
    base, tick = make()
    base.act = lambda o, i: type("A", (), {"action_norm": np.array([0.0, np.nan], np.float32)})
    begin(tick)
    with pytest.raises(ActionError, match=r"nan for joint 1 at step 0 of episode 1; check"):
        tick.on_set(10 * T, 0)


def test_base_plans_anew_while_a_person_drives_and_at_hand_back(make):
    """Its chunk was planned for where the person has not led the robot (DESIGN section 6)."""
    _, tick = make()
    begin(tick)
    phases = []
    for k in range(7):
        phases.append(tick.on_set((10 + k) * T, k).chunk_phase)
        tick.on_executed((10 + k) * T, person=2 <= k <= 4)
    assert phases == [0, 0.25, 0.5, 0, 0, 0, 0.25]


def test_next_episode_begins_with_a_chunk_of_its_own_after_a_person(make):
    _, tick = make()
    begin(tick)
    tick.on_set(10 * T, 0)
    tick.on_executed(10 * T, person=True)
    tick.on_state(state(Phase.ENDED, credited_step=0))
    assert tick.on_set(11 * T, 1).is_last
    begin(tick, 2, 30 * T)
    assert [tick.on_set((30 + k) * T, k).chunk_phase for k in range(3)] == [0, 0.25, 0.5]


def test_set_waits_for_the_drivers_word_where_a_person_may_take_over(make):
    """Else it would depend on the network whether the base plans anew at this step or the next."""
    _, tick = make()
    tick.follows_driver = True
    begin(tick)
    assert tick.on_set(10 * T, 0).step == 0
    assert tick.on_set(11 * T, 1) is None
    assert tick.on_set(11 * T, 1) is None  # the twin says it again
    assert tick.on_executed(9 * T, person=False) is None
    answer = tick.on_executed(10 * T, person=True)
    assert (answer.step, answer.chunk_phase) == (1, 0)
    # The other order: the driver's word was first.
    tick.on_executed(11 * T, person=False)
    assert tick.on_set(12 * T, 2).chunk_phase == 0.25
    tick.on_state(state(Phase.ENDED, credited_step=2))
    assert tick.on_set(13 * T, 3) is None
    assert tick.on_executed(12 * T, person=False).is_last


def test_an_episode_given_up_is_answered_no_more_until_the_next(make):
    _, tick = make(lockstep=False)
    tick.on_fault("between episodes nobody minds")
    assert (tick.abort_reason, tick.dropped) == ("", 0)
    begin(tick)
    assert tick.on_set(10 * T, 0).step == 0
    tick.on_fault("camera 'left' is frozen")
    tick.on_fault("camera 'left' is silent")  # the first reason stays
    assert (tick.abort_reason, tick.dropped) == ("camera 'left' is frozen", 2)
    assert tick.on_set(11 * T, 0) is None  # it works again: too late for this episode
    tick.on_state(state(Phase.ENDED, credited_step=0, end_ns=12 * T))
    assert tick.abort_reason == ""
    begin(tick, 2, start=20 * T)
    assert tick.on_set(20 * T, 0).step == 0


@pytest.mark.parametrize("lockstep", [False, True])
def test_an_episode_that_nobody_ends_is_given_up_after_its_horizon(lockstep):
    """With the manager dead or hung the policy acted on for ever."""
    tick = BaseTick(
        Chunks(), lambda j: Seen(np.array([j], np.float32)), "c", "b",
        period_ns=T, lockstep=lockstep, born_ns=8 * T, horizon_steps=5,
    )  # fmt: skip
    begin(tick)
    answers = [tick.on_set((10 + k) * T, k) for k in range(30)]
    most = 30 if lockstep else 5 + 20
    assert [a is not None for a in answers] == [k < most for k in range(30)]
    assert ("is the manager alive" in tick.abort_reason) is not lockstep
