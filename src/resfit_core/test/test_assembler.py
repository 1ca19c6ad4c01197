"""Joining steps and answers, cutting at the verdict, gaps and lost tails."""

import pytest

from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_core.control.safety import Reason
from resfit_core.data.assembler import EXECUTED, STEP, EpisodeAssembler, Move


def feed(assembler, steps, *, episode=1, answered=None, last=None, t0=100):
    for n in steps:
        assembler.add_step(t0 + n, episode, n, False, f"s{n}")
    for n in steps if answered is None else answered:
        assembler.add_executed(t0 + n, 0, f"e{n}")
    if last is not None:
        assembler.add_step(t0 + last, episode, last, True, "last")


def ended(credited, by=EndedBy.SUCCESS, episode=1, **kw):
    return EpisodeState(
        phase=Phase.ENDED, episode=episode, ended_by=by, credited_step=credited, **kw
    )


def test_a_whole_episode_is_ready_and_closes_with_its_last_observation():
    a = EpisodeAssembler()
    feed(a, range(3))
    a.on_state(ended(2))
    assert not a.ready and a.missing() == [3]
    a.add_step(103, 1, 3, True, "last")
    assert a.ready
    got = a.close()
    assert (got.steps, got.dropped, got.reason, got.verdict_lost) == (3, 0, "", False)
    assert [m for m in got.messages if m[0] == STEP] == [
        (STEP, 100, "s0"), (STEP, 101, "s1"), (STEP, 102, "s2"), (STEP, 103, "last"),
    ]  # fmt: skip
    assert [m[2] for m in got.messages if m[0] == EXECUTED] == ["e0", "e1", "e2"]
    assert a.ended is None


def test_a_late_press_cuts_the_steps_after_it():
    a = EpisodeAssembler()
    feed(a, range(6))
    a.on_state(ended(2))
    got = a.close()
    assert (got.steps, got.dropped, got.reason) == (3, 3, "")
    assert [m[2] for m in got.messages if m[0] == STEP] == ["s0", "s1", "s2", "s3"]


def test_answers_and_steps_may_come_before_the_state_and_in_any_order():
    a = EpisodeAssembler()
    a.add_executed(101, 0, "e1")
    a.add_step(102, 1, 2, True, "last")
    a.add_step(101, 1, 1, False, "s1")
    a.add_step(100, 1, 0, False, "s0")
    a.on_state(ended(1))
    assert not a.ready
    a.add_executed(100, 0, "e0")
    assert a.ready


def test_a_gap_is_named_and_can_be_filled():
    a = EpisodeAssembler()
    feed(a, [0, 2], answered=range(3), last=3)
    a.on_state(ended(2))
    assert a.missing() == [1]
    a.add_step(101, 1, 1, False, "again")
    assert a.ready and a.close().steps == 3


def test_a_gap_that_stays_cuts_the_tail_and_loses_the_verdict():
    a = EpisodeAssembler()
    feed(a, [0, 1, 2, 4], answered=range(5), last=5)
    a.on_state(ended(4))
    got = a.close()
    # The observation after step 2 is missing too, so step 2 has no next one.
    assert (got.steps, got.dropped, got.verdict_lost) == (2, 3, True)
    assert "the observation after step 2 never arrived; 3 of 5 steps" in got.reason
    assert [m[2] for m in got.messages if m[0] == STEP] == ["s0", "s1", "s2"]


def test_a_step_without_its_answer_is_incomplete_with_all_after_it():
    a = EpisodeAssembler()
    feed(a, range(4), answered=[0, 1, 3], last=4)
    a.on_state(ended(3, EndedBy.TIMEOUT))
    got = a.close()
    assert (got.steps, got.verdict_lost) == (2, False)
    assert "the driver's answer to step 2 never arrived" in got.reason


def test_an_aborted_episode_keeps_its_complete_steps():
    a = EpisodeAssembler()
    feed(a, range(4), answered=range(3))
    a.on_state(ended(-1, EndedBy.ABORTED))
    got = a.close()
    assert (got.steps, got.dropped, got.reason, got.verdict_lost) == (3, 1, "", False)


def test_no_complete_step_leaves_nothing():
    a = EpisodeAssembler()
    feed(a, [0], answered=[])
    a.on_state(ended(-1, EndedBy.ABORTED))
    got = a.close()
    assert (got.steps, got.messages, got.reason) == (0, (), "no complete step")


def test_an_episode_of_which_nothing_was_heard_closes_empty():
    """Regression: closing looked for the observation of step 0."""
    a = EpisodeAssembler()
    a.on_state(ended(-1, EndedBy.ABORTED))
    assert a.close().messages == ()


def test_what_comes_twice_or_too_late_changes_nothing():
    a = EpisodeAssembler()
    feed(a, range(2), last=2)
    a.add_step(100, 1, 0, False, "again")
    a.add_executed(100, 0, "again")
    a.on_state(ended(1))
    got = a.close()
    assert {m[2] for m in got.messages} == {"s0", "s1", "last", "e0", "e1"}
    feed(a, range(2))
    a.on_state(ended(1))
    assert a.ended is None
    feed(a, range(2), episode=2, last=2, t0=200)
    a.on_state(ended(1, episode=2))
    assert a.ready


def test_the_watchdogs_hold_answers_no_step():
    a = EpisodeAssembler()
    feed(a, [0], answered=[], last=1)
    a.add_executed(100, Reason.WATCHDOG, "hold")
    a.on_state(ended(0))
    assert not a.ready
    a.add_executed(100, 0, "e0")
    assert a.close().messages[-1] == (EXECUTED, 100, "e0")


@pytest.mark.parametrize(("first", "reason"), [(0, ""), (3, "recorder came up while episode 7")])
def test_coming_up_within_an_episode_is_told_by_its_first_step(first, reason):
    a = EpisodeAssembler()
    a.on_state(EpisodeState(phase=Phase.RUNNING, episode=7))
    assert a.abort_reason == ""
    a.add_step(100, 7, first, False, "s")
    assert a.abort_reason.startswith(reason) and bool(a.abort_reason) == bool(reason)
    a.on_state(ended(-1, EndedBy.ABORTED, 7))
    assert a.abort_reason == ""


def test_it_waits_then_asks_once_then_closes_with_what_is_there():
    a = EpisodeAssembler(patience_s=0.5)
    assert a.move(0.0) is Move.WAIT
    feed(a, [0, 2], answered=range(3), last=3)
    a.on_state(ended(2))
    assert [a.move(t) for t in (10.0, 10.4, 10.5, 10.9)] == [
        Move.WAIT, Move.WAIT, Move.ASK, Move.WAIT,
    ]  # fmt: skip
    a.answered()
    assert a.move(10.91) is Move.CLOSE
    assert a.close().steps == 0
    assert a.move(11.0) is Move.WAIT


def test_an_answer_that_comes_too_late_does_not_shorten_the_next_episodes_wait():
    a = EpisodeAssembler(patience_s=0.5)
    feed(a, range(2), last=2)
    a.on_state(ended(1))
    a.close()
    a.answered()
    feed(a, range(2), episode=2, answered=[0], last=2, t0=200)
    a.on_state(ended(1, episode=2))
    assert a.move(10.0) is Move.WAIT


def test_it_closes_at_once_when_all_is_there():
    a = EpisodeAssembler()
    feed(a, range(2), last=2)
    a.on_state(ended(1))
    assert a.move(0.0) is Move.CLOSE


def test_it_does_not_ask_where_only_the_drivers_answer_is_missing():
    a = EpisodeAssembler(patience_s=0.5)
    feed(a, range(2), answered=[0], last=2)
    a.on_state(ended(1))
    assert [a.move(0.0), a.move(0.5)] == [Move.WAIT, Move.CLOSE]
