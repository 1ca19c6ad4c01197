"""The episode manager, case by case: endings, presses, waiting, crashes. Times are worked by hand.

Lock-step: period 50 ms, first stamp 1 s: t_k = 1 s + k x 50 ms.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from resfit_core.control.budget import FAILED, SAVED, LearnerNews, UpdateBudget
from resfit_core.control.episode import EpisodeManager
from resfit_core.control.episode_log import EpisodeLog
from resfit_core.control.episode_parts import Clocks, EpisodeError, EpisodeSettings, Record
from resfit_core.control.plan import make_plan
from resfit_core.control.press import OperatorEvent, Press
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase
from resfit_core.control.run_book import RunBook
from resfit_core.control.safety import Reason

T = 50_000_000
FIRST = 1_000_000_000
SECOND = 1_000_000_000
WAITING, TRAINING = 1, 2


class Rig:
    """A manager with hand-driven clocks, and everything it says."""

    def __init__(self, run_dir: Path, *, plan=None, budget=None, lockstep=True, **settings):
        self.now = 0
        self.states: list[EpisodeState] = []
        self.resets: list[tuple[int, int]] = []
        self.warnings: list[str] = []
        self.missing = ""
        self.run_dir, self.lockstep = run_dir, lockstep
        chosen = EpisodeSettings(
            **{
                "run_id": "r",
                "lockstep": lockstep,
                "period_ns": T,
                "horizon_steps": 160,
                **settings,
            }
        )
        slots = make_plan("train", episodes=2) if plan is None else plan
        self.manager = EpisodeManager(
            RunBook(slots, EpisodeLog(run_dir), chosen.failures_allowed),
            chosen,
            budget or UpdateBudget(max_owed=200, wait=False),
            self,
            Clocks(lambda: self.now, lambda: self.now / 1e9, lambda: self.now),
        )
        self.manager.start()

    def publish(self, state: EpisodeState) -> None:
        self.states.append(state)

    def reset_scene(self, episode: int, seed: int) -> None:
        self.resets.append((episode, seed))

    def absent(self) -> str:
        return self.missing

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @property
    def phases(self) -> list[tuple[Phase, int]]:
        return [(Phase(s.phase), s.episode) for s in self.states]

    @property
    def last(self) -> EpisodeState:
        return self.states[-1]

    def lines(self) -> list[dict]:
        path = self.run_dir / "episodes.jsonl"
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

    def scene(self, first: int = FIRST) -> None:
        self.manager.scene(self.resets[-1][0], True, "", first)

    def press(self, kind: Press, at: int = 0, source: str = "keyboard", episode: int = 0) -> None:
        self.manager.event(OperatorEvent(kind, source, stamp_ns=at, episode=episode))

    def step(self, stamp: int, reasons: int = 0) -> None:
        self.manager.executed(stamp, reasons)

    def steps(self, count: int, first: int = FIRST) -> None:
        for k in range(count):
            self.step(first + k * T)

    def close(self, weights_version: int = 0) -> None:
        ended = self.last
        self.manager.recorded(
            Record(ended.episode, ended.credited_step + 1, weights_version, has_bag=True)
        )

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)
        self.manager.tick()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = Rig(tmp_path)
    made.scene()
    return made


def ending(state: EpisodeState) -> tuple:
    fields = ("ended_by", "credited_step", "reward", "terminated", "truncated")
    return tuple(getattr(state, f) for f in fields)


# --- the way of an episode -----------------------------------------------------------------------


def test_two_episodes_to_the_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for number in (1, 2):
        rig.scene(number * FIRST)
        assert rig.last.start_ns == number * FIRST
        rig.steps(3, number * FIRST)
        rig.press(Press.SUCCESS, number * FIRST + 3 * T, "oracle")
        rig.close(weights_version=number)
    order = [Phase.RESETTING, Phase.READY, Phase.RUNNING, Phase.ENDED]
    assert rig.phases == [(p, n) for n in (1, 2) for p in order] + [(Phase.FINISHED, 2)]
    assert rig.resets == [(1, 10_000_000), (2, 10_000_001)]
    assert all(s.reason and s.run_id == "r" and s.episodes_planned == 2 for s in rig.states)
    assert [(x["episode"], x["steps"], x["weights_version"]) for x in rig.lines()] == [
        (1, 3, 1),
        (2, 3, 2),
    ]


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        (Press.SUCCESS, "oracle", (EndedBy.SUCCESS, 4, 1.0, True, False)),
        (Press.FAILURE, "keyboard", (EndedBy.FAILURE, 4, 0.0, True, False)),
        (Press.TIMEOUT, "oracle", (EndedBy.TIMEOUT, 4, 0.0, False, True)),
        (Press.ABORT, "recorder", (EndedBy.ABORTED, 4, 0.0, False, True)),
        (Press.STOP, "keyboard", (EndedBy.ABORTED, 4, 0.0, False, True)),
    ],
)
def test_table_of_endings(rig: Rig, kind: Press, source: str, expected: tuple) -> None:
    rig.steps(5)
    rig.press(kind, FIRST + 5 * T, source)
    assert rig.last.phase == Phase.ENDED
    assert ending(rig.last) == expected
    assert rig.last.end_ns == FIRST + 5 * T
    rig.close()
    line = rig.lines()[0]
    assert line["ended_by"] == expected[0].name.lower()
    assert line["success"] == (kind == Press.SUCCESS)
    assert line["steps"] == 5


def test_plan_warms_up_trains_and_evaluates_in_pairs(tmp_path: Path) -> None:
    plan = make_plan("train", episodes=3, warmup_episodes=1, evaluate_episodes=2, seed=4)
    rig = Rig(tmp_path, plan=plan)
    seen, reasons = [], []
    for number in range(1, 8):
        rig.scene(number * FIRST)
        seen.append((rig.last.mode, rig.last.use_residual, rig.last.seed))
        reasons.append(rig.last.reason)
        rig.press(Press.TIMEOUT, number * FIRST + T, "oracle")
        rig.close()
    assert seen == [
        (Mode.WARMUP, True, 50_000_000),
        (Mode.TRAIN, True, 50_000_001),
        (Mode.TRAIN, True, 50_000_002),
        (Mode.EVALUATE, False, 1_000_000),
        (Mode.EVALUATE, True, 1_000_000),
        (Mode.EVALUATE, False, 1_000_001),
        (Mode.EVALUATE, True, 1_000_001),
    ]
    trial = "on trial: the residual had nothing to show yet, the base 0 of "
    assert reasons == ["running", f"{trial}1", f"{trial}2", *["running"] * 4]
    assert rig.last.phase == Phase.FINISHED


def test_next_scene_waits_until_the_recorder_closed(rig: Rig) -> None:
    rig.press(Press.SUCCESS, FIRST + T, "oracle")
    rig.wait(5)
    assert rig.last.phase == Phase.ENDED
    assert len(rig.resets) == 1
    rig.close()
    assert rig.last.phase == Phase.RESETTING
    rig.scene(2 * FIRST)
    rig.press(Press.SUCCESS, 2 * FIRST + T, "oracle")
    rig.close()
    assert [x["wait_s"] for x in rig.lines()] == [0.0, 5.0]


def test_silent_recorder_hears_of_the_end_again_and_then_the_episode_is_run_again(
    rig: Rig,
) -> None:
    rig.press(Press.SUCCESS, FIRST + T, "oracle")
    for _ in range(5):
        rig.wait(10.1)
        told = rig.last
        assert (told.phase, told.ended_by, told.revision) == (Phase.ENDED, EndedBy.SUCCESS, 0)
        assert told.reason == "waits for: recorder to close it"
    rig.wait(10.1)
    assert "recorder" in rig.warnings[-1]
    ended, resetting = rig.states[-2:]
    assert (ended.episode, ended.ended_by, ended.revision) == (1, EndedBy.ABORTED, 1)
    assert (resetting.phase, rig.resets) == (Phase.RESETTING, [(1, 10_000_000), (2, 10_000_000)])
    assert [x["ended_by"] for x in rig.lines()] == ["aborted"]


def test_a_recorder_that_is_gone_is_waited_for(rig: Rig) -> None:
    """It may have closed the episode and died before it said so.

    Bug: after 10 s the episode counted as lost and was run again, though its bag was whole.
    """
    rig.press(Press.SUCCESS, FIRST + T, "oracle")
    rig.missing = "recorder"
    for _ in range(20):
        rig.wait(10.1)
    assert rig.last.phase == Phase.ENDED
    assert rig.last.reason == "waits for: recorder is not there"
    rig.missing = ""
    rig.close()
    assert [x["ended_by"] for x in rig.lines()] == ["success"]


def test_an_episode_that_the_disk_refuses_is_waited_for(rig: Rig) -> None:
    rig.press(Press.SUCCESS, FIRST + T, "oracle")
    for _ in range(20):
        rig.wait(9.9)
        rig.manager.recorded(Record(1, 1, 0, False, lost="disk full", pending=True))
        assert rig.last.phase == Phase.ENDED
        assert rig.last.reason == "waits for: recorder: disk full"
    rig.close()
    assert rig.last.phase == Phase.RESETTING
    assert [(x["ended_by"], x["revision"]) for x in rig.lines()] == [("success", 0)]
    rig.scene(2 * FIRST)
    rig.press(Press.SUCCESS, 2 * FIRST + T, "oracle")
    rig.close()
    assert rig.lines()[1]["wait_s"] == pytest.approx(198.0)


def test_episode_recorded_in_part_is_run_again(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.SUCCESS, FIRST + 5 * T, "oracle")
    rig.manager.recorded(Record(1, 3, 0, has_bag=True, lost="step 3 never arrived"))
    assert "step 3 never arrived" in rig.warnings[-1]
    assert rig.states[-2].ended_by == EndedBy.ABORTED
    assert rig.resets[-1] == (2, 10_000_000)
    rig.press(Press.SUCCESS, episode=1)
    assert "lost" in rig.warnings[-1]
    assert len(rig.lines()) == 1


def test_failed_reset_is_tried_again_and_then_ends_the_run(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(4):
        rig.manager.scene(1, False, "no ball", 0)
        rig.wait(1.1)
    assert len(rig.resets) == 5
    with pytest.raises(EpisodeError, match="no ball"):
        rig.manager.scene(1, False, "no ball", 0)


def test_lost_reset_request_is_sent_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.wait(10.1)
    assert rig.resets == [(1, 10_000_000)] * 2


def test_episode_waits_for_the_nodes_it_needs(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.missing = "recorder"
    rig.scene()
    rig.wait(100)
    assert (rig.last.phase, rig.last.reason) == (Phase.READY, "waits for: recorder")
    rig.missing = ""
    rig.wait(0.05)
    assert rig.last.phase == Phase.RUNNING


# --- which step a press credits ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "step"), [(1, 0), (T, 0), (T + 1, 1), (2 * T, 1), (3 * T, 2), (100 * T, 9)]
)
def test_press_credits_the_step_whose_interval_holds_it(rig: Rig, at: int, step: int) -> None:
    rig.steps(10)
    rig.press(Press.SUCCESS, FIRST + at)
    assert rig.last.credited_step == step
    assert rig.last.end_ns == FIRST + (step + 1) * T


def test_oracle_may_overtake_the_drivers_answers(rig: Rig) -> None:
    rig.steps(2)
    rig.press(Press.SUCCESS, FIRST + 5 * T, "oracle")
    assert rig.last.credited_step == 4


def test_press_without_stamp_credits_the_newest_step(rig: Rig) -> None:
    rig.steps(7)
    rig.press(Press.FAILURE)
    assert rig.last.credited_step == 6


def test_reaction_time_is_taken_off_a_persons_press_only(tmp_path: Path) -> None:
    for source, step in (("keyboard", 4), ("oracle", 9)):
        rig = Rig(tmp_path / source, reaction_ns=5 * T)
        rig.scene()
        rig.steps(10)
        rig.press(Press.SUCCESS, FIRST + 10 * T, source)
        assert rig.last.credited_step == step


def test_press_before_the_first_step_is_refused(rig: Rig) -> None:
    rig.press(Press.SUCCESS, FIRST)
    rig.press(Press.SUCCESS)
    assert rig.last.phase == Phase.RUNNING
    assert len(rig.warnings) == 2
    rig.press(Press.ABORT)
    assert ending(rig.last) == (EndedBy.ABORTED, -1, 0.0, False, True)
    assert rig.last.end_ns == FIRST


# --- emergency stop ------------------------------------------------------------------------------


def test_estop_aborts_and_nothing_goes_on_by_itself(rig: Rig) -> None:
    rig.steps(5)
    for _ in range(3):  # said again until the driver has latched
        rig.press(Press.ESTOP, source="panel")
    assert ending(rig.last) == (EndedBy.ABORTED, 4, 0.0, False, True)
    assert rig.last.reason == "e-stop by panel"
    rig.close()
    rig.press(Press.REARM, source="panel")
    assert (rig.last.phase, len(rig.resets)) == (Phase.PAUSED, 1)
    rig.press(Press.START, source="panel")
    assert rig.last.phase == Phase.RESETTING


def test_estop_while_the_scene_is_reset_pauses_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.press(Press.ESTOP, source="panel")
    rig.press(Press.ESTOP, source="panel")
    assert rig.phases == [(Phase.RESETTING, 1), (Phase.PAUSED, 0)]


# --- late, double, contradictory, undo -----------------------------------------------------------


def test_second_press_changes_nothing(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.SUCCESS)
    said = len(rig.states)
    for kind in (Press.SUCCESS, Press.FAILURE, Press.TIMEOUT, Press.ABORT):
        rig.press(kind)
    rig.press(Press.SUCCESS, FIRST + 5 * T, "oracle")  # the twin repeats a press nobody answered
    assert len(rig.states) == said
    assert len(rig.warnings) == 5


def test_press_for_another_episode_is_ignored(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.ABORT, episode=7, source="recorder")
    assert rig.last.phase == Phase.RUNNING
    assert "episode 7" in rig.warnings[-1]


def test_late_press_turns_a_time_out_into_a_verdict(rig: Rig) -> None:
    rig.steps(10)
    rig.press(Press.TIMEOUT, FIRST + 10 * T, "oracle")
    rig.press(Press.SUCCESS, FIRST + 8 * T)
    assert ending(rig.last) == (EndedBy.SUCCESS, 7, 1.0, True, False)
    assert (rig.last.phase, rig.last.revision) == (Phase.ENDED, 1)
    rig.close()
    assert [(x["ended_by"], x["steps"], x["revision"]) for x in rig.lines()] == [("success", 8, 1)]


def test_late_press_after_closing_revises_the_log(rig: Rig) -> None:
    rig.steps(10)
    rig.press(Press.TIMEOUT, FIRST + 10 * T, "oracle")
    rig.close()
    rig.press(Press.FAILURE, FIRST + 9 * T + 1)
    corrected, present = rig.states[-2:]
    assert (corrected.phase, corrected.episode, corrected.revision) == (Phase.ENDED, 1, 1)
    assert ending(corrected) == (EndedBy.FAILURE, 9, 0.0, True, False)
    assert (present.phase, present.episode) == (Phase.RESETTING, 2)
    assert [(x["episode"], x["ended_by"], x["revision"]) for x in rig.lines()] == [
        (1, "timeout", 0),
        (1, "failure", 1),
    ]


def test_press_after_a_timed_out_episode_is_too_late(rig: Rig) -> None:
    rig.steps(10)
    rig.press(Press.TIMEOUT, FIRST + 10 * T, "oracle")
    rig.press(Press.SUCCESS, FIRST + 10 * T + 1)
    assert rig.last.ended_by == EndedBy.TIMEOUT
    assert "over" in rig.warnings[-1]


def test_undo_takes_the_verdict_back_and_another_may_follow(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.SUCCESS, FIRST + 3 * T)
    rig.press(Press.UNDO)
    assert ending(rig.last) == (EndedBy.ABORTED, 2, 0.0, False, True)
    rig.press(Press.FAILURE)
    assert ending(rig.last) == (EndedBy.FAILURE, 2, 0.0, True, False)
    assert rig.last.revision == 2


def test_undone_episode_is_run_again_on_its_scene(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.SUCCESS)
    rig.close()
    rig.press(Press.UNDO, episode=1)  # episode 2 is being reset
    rig.scene(2 * FIRST)
    rig.press(Press.TIMEOUT, 2 * FIRST + T, "oracle")
    rig.close()
    assert rig.resets == [(1, 10_000_000), (2, 10_000_001), (3, 10_000_000)]
    assert [(x["episode"], x["ended_by"]) for x in rig.lines()] == [
        (1, "success"),
        (1, "aborted"),
        (2, "timeout"),
    ]


def test_undo_while_the_next_episode_runs_is_a_correction(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.SUCCESS)
    rig.close()
    rig.scene(2 * FIRST)
    running = rig.last
    rig.press(Press.UNDO)
    corrected, present = rig.states[-2:]
    assert (corrected.episode, corrected.revision, corrected.ended_by) == (1, 1, EndedBy.ABORTED)
    assert present == running
    assert [(x["episode"], x["ended_by"]) for x in rig.lines()] == [(1, "success"), (1, "aborted")]


def test_press_that_names_the_last_episode_never_falls_on_the_running_one(rig: Rig) -> None:
    """A verdict for episode 1 was credited to episode 2 once that was running."""
    rig.steps(5)
    rig.press(Press.SUCCESS)
    rig.close()
    rig.scene(2 * FIRST)
    rig.steps(3, 2 * FIRST)
    rig.press(Press.FAILURE, episode=1)
    assert (rig.last.phase, rig.last.episode) == (Phase.RUNNING, 2)
    assert "ended by success already" in rig.warnings[-1]
    rig.press(Press.UNDO, episode=1)
    rig.press(Press.FAILURE, episode=1)
    assert ending(rig.states[-2]) == (EndedBy.FAILURE, 4, 0.0, True, False)
    assert (rig.last.phase, rig.last.episode) == (Phase.RUNNING, 2)
    rig.press(Press.SUCCESS, 2 * FIRST + T)
    assert (rig.last.episode, rig.last.credited_step) == (2, 0)


def test_undo_takes_the_press_in_flight_first(tmp_path: Path) -> None:
    """In real time a verdict may wait for steps under way: that is the last word then."""
    rig = Rig(tmp_path, lockstep=False)
    rig.scene(0)
    rig.step(T)
    rig.press(Press.SUCCESS, 2 * T)
    rig.press(Press.UNDO)
    rig.wait(1.0)
    assert rig.last.phase == Phase.RUNNING


def test_time_out_cannot_be_undone(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.TIMEOUT, FIRST + 5 * T, "oracle")
    rig.press(Press.UNDO)
    assert (rig.last.ended_by, rig.last.revision) == (EndedBy.TIMEOUT, 0)


# --- start, pause, abort, stop -------------------------------------------------------------------


def test_operator_starts_and_confirms_each_scene(tmp_path: Path) -> None:
    rig = Rig(tmp_path, auto_start=False)
    assert rig.phases == [(Phase.IDLE, 0)]
    rig.press(Press.START)
    rig.scene()
    assert (rig.last.phase, rig.last.reason) == (Phase.READY, "waits for: RESET_DONE")
    rig.press(Press.RESET_DONE)
    assert rig.last.phase == Phase.RUNNING


def test_pause_holds_after_the_running_episode(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.PAUSE)
    assert rig.last.phase == Phase.RUNNING
    rig.press(Press.SUCCESS)
    rig.close()
    assert rig.last.phase == Phase.PAUSED
    rig.press(Press.RESUME)
    assert rig.phases[-1] == (Phase.RESETTING, 2)


def test_pause_before_running_frees_the_number(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.press(Press.PAUSE)
    assert rig.phases[-1] == (Phase.PAUSED, 0)
    rig.scene()  # the answer comes too late to matter
    assert rig.phases[-1] == (Phase.PAUSED, 0)
    rig.press(Press.RESUME)
    assert rig.resets == [(1, 10_000_000)] * 2


def test_resume_before_the_pause_came_cancels_it(rig: Rig) -> None:
    rig.press(Press.PAUSE)
    rig.press(Press.RESUME)
    rig.steps(1)
    rig.press(Press.SUCCESS)
    rig.close()
    assert rig.phases[-1] == (Phase.RESETTING, 2)


def test_aborted_episode_is_run_again_on_its_scene(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.ABORT, source="recorder")
    rig.close()
    assert rig.resets == [(1, 10_000_000), (2, 10_000_000)]


def test_abort_while_nothing_runs_is_ignored(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.press(Press.ABORT, source="base_policy")
    assert rig.last.phase == Phase.RESETTING
    assert rig.warnings


def test_five_lost_episodes_in_a_row_end_the_run(rig: Rig) -> None:
    with pytest.raises(EpisodeError, match=r"5 episodes in a row.*aborted by recorder"):
        for number in range(1, 6):
            rig.press(Press.ABORT, source="recorder")
            rig.close()
            rig.scene((number + 1) * FIRST)
    assert len(rig.lines()) == 5


def test_a_person_may_abort_as_often_as_they_like(rig: Rig) -> None:
    for number in range(1, 8):
        rig.press(Press.ABORT)
        rig.close()
        rig.scene((number + 1) * FIRST)
    assert rig.phases[-1] == (Phase.RUNNING, 8)


def test_stop_closes_the_episode_first(rig: Rig) -> None:
    rig.steps(5)
    rig.press(Press.STOP)
    assert rig.last.phase == Phase.ENDED
    rig.close()
    assert rig.last.phase == Phase.FINISHED


def test_stop_between_episodes_finishes_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.press(Press.STOP)
    assert rig.last.phase == Phase.FINISHED


# --- real time -----------------------------------------------------------------------------------


def running_in_real_time(tmp_path: Path, **settings) -> Rig:
    rig = Rig(tmp_path, lockstep=False, **settings)
    rig.now = FIRST
    rig.scene(first=0)
    assert rig.last.start_ns == FIRST
    return rig


def test_real_time_counts_executed_steps_to_the_time_out(tmp_path: Path) -> None:
    rig = running_in_real_time(tmp_path, horizon_steps=3)
    rig.step(FIRST - 1)  # before the start
    for k in range(2):
        rig.step(FIRST + k * T)
        rig.step(FIRST + k * T)  # told twice
        rig.step(FIRST + k * T + 1, Reason.WATCHDOG)  # a hold is no step
    assert rig.last.phase == Phase.RUNNING
    rig.step(FIRST + 7 * T)  # ticks were dropped in between
    assert ending(rig.last) == (EndedBy.TIMEOUT, 2, 0.0, False, True)
    assert rig.last.end_ns == FIRST + 8 * T


def test_real_time_press_waits_for_steps_in_flight(tmp_path: Path) -> None:
    rig = running_in_real_time(tmp_path)
    stamps = [FIRST, FIRST + 60_000_000, FIRST + 110_000_000]
    rig.step(stamps[0])
    rig.press(Press.SUCCESS, at=stamps[1] + 10)  # step 1 has happened, its answer is under way
    assert rig.last.phase == Phase.RUNNING
    rig.step(stamps[1])
    assert rig.last.phase == Phase.RUNNING
    rig.step(stamps[2])
    assert (rig.last.credited_step, rig.last.end_ns) == (1, stamps[2])


def test_real_time_press_does_not_wait_for_ever(tmp_path: Path) -> None:
    rig = running_in_real_time(tmp_path)
    rig.step(FIRST)
    rig.press(Press.SUCCESS, at=FIRST + 10)
    rig.wait(0.05)
    assert rig.last.phase == Phase.RUNNING
    rig.wait(0.06)
    assert (rig.last.credited_step, rig.last.end_ns) == (0, FIRST + T)


def test_real_time_undo_takes_back_a_press_that_still_waits(tmp_path: Path) -> None:
    rig = running_in_real_time(tmp_path)
    rig.step(FIRST)
    rig.press(Press.SUCCESS, at=FIRST + 10)
    rig.press(Press.UNDO)
    rig.wait(1)
    assert rig.last.phase == Phase.RUNNING


def test_real_time_operator_resets_the_scene_without_a_service(tmp_path: Path) -> None:
    rig = Rig(tmp_path, lockstep=False, auto_start=False)
    rig.press(Press.START)
    rig.now = FIRST
    rig.press(Press.RESET_DONE)
    assert (rig.last.phase, rig.last.start_ns) == (Phase.RUNNING, FIRST)


# --- waiting for the learner ---------------------------------------------------------------------


def learner(owed: int = 0, version: int = 0, last: int = 0, state: int = TRAINING) -> LearnerNews:
    return LearnerNews(state, owed, version, last)


def test_run_waits_while_too_many_updates_are_owed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget=UpdateBudget(max_owed=200))
    rig.manager.learner(learner(owed=201))
    rig.scene()
    assert (rig.last.phase, rig.last.reason) == (
        Phase.READY,
        "waits for: the learner owes updates",
    )
    rig.now += SECOND
    rig.manager.learner(learner(owed=200))
    assert rig.last.phase == Phase.RUNNING
    assert rig.last.required_weights_version == 0
    rig.steps(1)
    rig.press(Press.SUCCESS)
    rig.close()
    assert rig.lines()[0]["wait_s"] == 1.0


def test_run_goes_on_without_a_learner(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget=UpdateBudget(max_owed=200))
    rig.manager.learner(learner(owed=10**6, state=FAILED))
    rig.scene()
    assert rig.last.phase == Phase.RUNNING


@pytest.mark.parametrize("news", [None, learner(state=0)])
def test_training_begins_with_the_learner_up(tmp_path: Path, news: LearnerNews | None) -> None:
    """Bug: the last episodes of a continued run were over before the learner had loaded."""
    plan = make_plan("train", episodes=2, warmup_episodes=1)
    rig = Rig(tmp_path, plan=plan, budget=UpdateBudget(max_owed=200))
    rig.scene()
    assert rig.last.phase == Phase.RUNNING  # warm-up needs no learner
    rig.steps(1)
    rig.press(Press.SUCCESS)
    rig.close()
    if news is not None:
        rig.manager.learner(news)
    rig.scene(2 * FIRST)
    assert (rig.last.phase, rig.last.reason) == (Phase.READY, "waits for: the learner starts")
    rig.manager.learner(learner(state=WAITING))
    assert rig.last.phase == Phase.RUNNING


def test_a_learner_that_never_comes_up_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget=UpdateBudget(max_owed=200))
    rig.scene()
    rig.wait(59.9)
    assert rig.last.phase == Phase.READY
    rig.wait(0.2)
    assert rig.last.phase == Phase.RUNNING


def test_run_goes_on_when_the_learner_falls_silent(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget=UpdateBudget(max_owed=200))
    rig.manager.learner(learner(owed=1000))
    rig.scene()
    rig.wait(9.9)
    assert rig.last.phase == Phase.READY
    rig.wait(0.2)
    assert rig.last.phase == Phase.RUNNING


def test_evaluation_waits_for_everything_learnt(tmp_path: Path) -> None:
    plan = make_plan("train", episodes=1, evaluate_episodes=1)
    rig = Rig(tmp_path, plan=plan, budget=UpdateBudget(max_owed=200))
    rig.manager.learner(learner())
    rig.scene()
    rig.steps(3)
    rig.press(Press.SUCCESS)
    rig.close()
    rig.scene(2 * FIRST)
    assert rig.last.reason == "waits for: the learner takes in episode 1"
    rig.manager.learner(learner(last=1, owed=3, version=4))
    assert rig.last.reason == "waits for: the learner owes updates"
    rig.manager.learner(learner(last=1, owed=0, version=5))
    assert rig.last.reason == "waits for: the learner saves"
    rig.manager.learner(learner(last=1, version=5, state=SAVED))
    assert (rig.last.phase, rig.last.required_weights_version) == (Phase.RUNNING, 5)
    # Nothing is learned from an evaluation: what was saved stays safe, even without a learner.
    for first in (3 * FIRST, 4 * FIRST):
        rig.now += 200 * SECOND
        rig.steps(1, rig.last.start_ns)
        rig.press(Press.SUCCESS)
        rig.close()
        rig.scene(first)
    assert (rig.last.phase, rig.last.reason) == (Phase.FINISHED, "all episodes are done")


def train_one(run_dir: Path) -> Rig:
    """A run of one episode, which is closed; its learner has been heard of before."""
    plan = make_plan("train", episodes=1)
    rig = Rig(run_dir, plan=plan, budget=UpdateBudget(max_owed=200))
    rig.manager.learner(learner())
    rig.scene()
    rig.steps(3)
    rig.press(Press.SUCCESS)
    rig.close()
    return rig


def test_a_run_ends_when_its_learner_has_saved(tmp_path: Path) -> None:
    """Bug: the run was over while its learner was down, and the last episodes were not learned."""
    rig = train_one(tmp_path)
    done = "all episodes are done; waits for: the learner"
    assert (rig.last.phase, rig.last.reason) == (Phase.IDLE, f"{done} takes in episode 1")
    rig.wait(20)
    assert rig.last.reason == f"{done}, which is silent, for at most 120 s"
    for news, word in (
        (learner(state=0), "starts"),
        (learner(last=0, state=SAVED), "takes in episode 1"),
        (learner(last=1, owed=7), "owes updates"),
        (learner(last=1, state=WAITING), "saves"),
    ):
        rig.manager.learner(news)
        assert (rig.last.phase, rig.last.reason) == (Phase.IDLE, f"{done} {word}")
    rig.manager.learner(learner(last=1, state=SAVED))
    assert (rig.last.phase, rig.last.reason) == (Phase.FINISHED, "all episodes are done")


def test_a_run_whose_learner_stays_away_ends_in_words_and_can_be_continued(tmp_path: Path) -> None:
    rig = train_one(tmp_path)
    rig.wait(60)
    rig.manager.learner(learner(state=FAILED))  # a word, though a bad one
    rig.wait(119)
    assert rig.last.phase == Phase.IDLE
    with pytest.raises(EpisodeError, match=r"silent for 120 s .* up to episode 1; .* run_dir:="):
        rig.wait(2)
    plan = make_plan("train", episodes=1)
    again = Rig(tmp_path, plan=plan, budget=UpdateBudget(max_owed=200))
    assert again.last.phase == Phase.IDLE
    again.manager.learner(learner(last=1, state=SAVED))
    assert again.last.phase == Phase.FINISHED


def test_while_the_learner_saves_a_person_may_stop_or_undo(tmp_path: Path) -> None:
    rig = train_one(tmp_path / "undone")
    rig.press(Press.UNDO)
    rig.wait(0.1)
    assert (rig.last.phase, rig.last.episode) == (Phase.RESETTING, 2)
    rig = train_one(tmp_path / "stopped")
    rig.press(Press.STOP)
    assert (rig.last.phase, rig.last.reason) == (Phase.FINISHED, "stopped by keyboard")


def test_synchronous_run_gives_the_learner_its_turn(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget=UpdateBudget(max_owed=200, synchronous=True))
    rig.scene()
    rig.wait(100)
    assert rig.last.phase == Phase.READY  # even without a learner: it would be another training
    rig.manager.learner(learner(state=0))
    assert rig.last.phase == Phase.READY
    rig.manager.learner(learner(owed=1))
    assert rig.last.phase == Phase.READY
    rig.manager.learner(learner(version=3, state=WAITING))
    assert (rig.last.phase, rig.last.required_weights_version) == (Phase.RUNNING, 3)


# --- after a crash -------------------------------------------------------------------------------


def test_restart_goes_on_where_the_log_ends(rig: Rig) -> None:
    rig.steps(1)
    rig.press(Press.SUCCESS)
    rig.close()
    again = Rig(rig.run_dir)
    assert again.resets == [(2, 10_000_001)]


def test_restart_aborts_the_open_episode_and_never_uses_its_number_again(rig: Rig) -> None:
    rig.steps(5)
    again = Rig(rig.run_dir)
    assert again.phases == [(Phase.ENDED, 1)]
    assert ending(again.last) == (EndedBy.ABORTED, -1, 0.0, False, True)
    again.press(Press.SUCCESS)
    again.press(Press.UNDO)
    again.close()
    assert again.resets == [(2, 10_000_000)]
    assert [(x["episode"], x["ended_by"]) for x in again.lines()] == [(1, "aborted")]
    assert not (rig.run_dir / "episode_open.json").exists()


@pytest.mark.parametrize("revision", [0, 2])
def test_restart_takes_over_what_was_closed_before(rig: Rig, revision: int) -> None:
    """Bug: killed between the bag's closing and the log's line, a success counted as aborted.

    The learner had it, and its scene was run a second time.
    """
    rig.steps(5)
    again = Rig(rig.run_dir)
    assert again.last.ended_by == EndedBy.ABORTED
    record = Record(1, 5, 3, True, ended_by=EndedBy.SUCCESS, revision=revision)
    again.manager.recorded(record)
    ended = again.states[-2]
    assert ending(ended) == (EndedBy.SUCCESS, 4, 1.0, True, False)
    assert ended.revision == revision
    assert again.resets == [(2, 10_000_001)]
    (line,) = again.lines()
    assert (line["ended_by"], line["steps"], line["revision"]) == ("success", 5, revision)
    assert line["weights_version"] == 3
    again.press(Press.UNDO)
    assert again.lines()[-1]["ended_by"] == "aborted"


def test_restart_after_half_a_line_cuts_it_off(rig: Rig) -> None:
    rig.steps(1)
    rig.press(Press.SUCCESS)
    rig.close()
    with (rig.run_dir / "episodes.jsonl").open("a") as file:
        file.write('{"episode": 2, "mo')
    again = Rig(rig.run_dir)
    assert again.resets == [(2, 10_000_001)]
    assert len(again.lines()) == 1


def test_killed_between_line_and_mark_the_line_counts(rig: Rig) -> None:
    rig.steps(1)
    mark = (rig.run_dir / "episode_open.json").read_text()
    rig.press(Press.SUCCESS)
    rig.close()
    (rig.run_dir / "episode_open.json").write_text(mark)
    assert Rig(rig.run_dir).resets == [(2, 10_000_001)]


def test_finished_run_finishes_again_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, plan=make_plan("demo", episodes=1))
    rig.scene()
    rig.steps(1)
    rig.press(Press.SUCCESS)
    rig.close()
    assert Rig(tmp_path, plan=make_plan("demo", episodes=1)).phases == [(Phase.FINISHED, 1)]


def test_states_are_whole(rig: Rig) -> None:
    rig.steps(2)
    rig.press(Press.SUCCESS)
    assert dataclasses.asdict(rig.last) | {"stamp_ns": 0, "reason": ""} == dataclasses.asdict(
        EpisodeState(
            Phase.ENDED,
            episode=1,
            mode=Mode.TRAIN,
            run_id="r",
            seed=10_000_000,
            use_residual=True,
            end_ns=FIRST + 2 * T,
            ended_by=EndedBy.SUCCESS,
            credited_step=1,
            reward=1.0,
            terminated=True,
            episodes_planned=2,
        )
    )
