"""When the twin shows, moves, presses and gives up; with a twin of paper, without ROS."""

import numpy as np
import pytest

from resfit_core.control.press import Press
from resfit_core.control.records import EpisodeState, Phase
from resfit_sim.freerun import FreeRun
from resfit_sim.lockstep import LockStep, LockStepError, Scene

S = 1_000_000_000
T = 50_000_000
TARGET = np.zeros(29)


class Paper:
    """A twin that only counts, and everything that is said."""

    def __init__(self, success_after=10**9):
        self.success_after, self.moved, self.seeds = success_after, 0, []
        self.shown, self.pressed, self.targets = [], [], []

    @property
    def success(self):
        return self.moved >= self.success_after

    def reset(self, seed):
        self.seeds.append(seed)
        self.moved = 0

    def step(self, target_rad):
        self.moved += 1
        self.targets.append(float(target_rad[0]))

    def sensors(self):
        return type("Sensors", (), {"joint_position": np.full(29, float(len(self.seeds)))})

    def show(self, stamp_ns):
        self.shown.append(stamp_ns)

    def press(self, event):
        self.pressed.append(event)


def lockstep(paper, horizon=160, **options):
    return LockStep(
        paper,
        paper,
        period_ns=T,
        horizon_steps=horizon,
        gap_ns=S // 2,
        timeout_ns=2 * S,
        retries=3,
        **options,
    )


def running(episode, start):
    return EpisodeState(Phase.RUNNING, episode=episode, start_ns=start)


def ended(episode, end):
    return EpisodeState(Phase.ENDED, episode=episode, end_ns=end)


@pytest.fixture
def started():
    paper = Paper(success_after=3)
    machine = lockstep(paper)
    scene = machine.reset(1, 42)
    machine.state(running(1, scene.first_stamp_ns), 0)
    return machine, paper, scene.first_stamp_ns


def test_nothing_is_shown_before_the_episode_runs():
    paper = Paper()
    machine = lockstep(paper)
    scene = machine.reset(1, 42)
    assert scene == Scene(True, "", S)
    assert (paper.seeds, paper.shown) == ([42], [])
    machine.state(running(2, S), 0)  # another episode
    assert paper.shown == []
    machine.state(running(1, S), 0)
    machine.state(running(1, S), 0)
    assert paper.shown == [S]


def test_each_command_of_the_right_stamp_moves_once(started):
    machine, paper, first = started
    machine.command(first - T, TARGET, 0)
    machine.command(first + T, TARGET, 0)
    assert paper.moved == 0
    machine.command(first, TARGET, 0)
    machine.command(first, TARGET, 0)
    assert paper.moved == 1
    assert paper.shown == [first, first + T]


def test_success_is_pressed_and_the_last_set_waits_for_the_end(started):
    machine, paper, first = started
    for k in range(3):
        machine.command(first + k * T, TARGET, 0)
    event = paper.pressed[0]
    assert (event.kind, event.stamp_ns, event.episode) == (Press.SUCCESS, first + 3 * T, 1)
    assert paper.shown[-1] == first + 2 * T  # t_3 is not out
    machine.state(ended(1, first + 3 * T), 0)
    machine.state(ended(1, first + 3 * T), 0)
    assert paper.shown[-2:] == [first + 2 * T, first + 3 * T]
    machine.command(first + 3 * T, TARGET, 0)  # nobody may move it any more
    assert paper.moved == 3


def test_time_is_called_at_the_horizon():
    paper = Paper()
    machine = lockstep(paper, horizon=2)
    machine.reset(1, 0)
    machine.state(running(1, S), 0)
    for k in range(2):
        machine.command(S + k * T, TARGET, 0)
    assert [(e.kind, e.stamp_ns) for e in paper.pressed] == [(Press.TIMEOUT, S + 2 * T)]


def test_abort_in_between_stops_the_waiting(started):
    machine, paper, first = started
    machine.command(first, TARGET, 0)
    machine.state(ended(1, first), 0)
    assert paper.shown == [first, first + T]  # t_1 was out before: it is not shown again
    machine.tick(100 * S)
    assert paper.shown == [first, first + T]
    machine.command(first + T, TARGET, 0)
    assert paper.moved == 1


def test_silence_is_answered_by_the_same_set_again(started):
    machine, paper, first = started
    machine.tick(2 * S)
    assert paper.shown == [first]
    machine.tick(2 * S + 1)
    assert (paper.shown, machine.resent) == ([first, first], 1)
    machine.command(first, TARGET, 3 * S)
    machine.tick(5 * S)
    assert paper.shown == [first, first, first + T]


def test_lost_press_is_pressed_again(started):
    machine, paper, first = started
    for k in range(3):
        machine.command(first + k * T, TARGET, 0)
    machine.tick(3 * S)
    assert paper.pressed[0] == paper.pressed[1]


def test_it_gives_up_with_a_reason(started):
    machine, paper, _ = started
    for k in range(1, 4):
        machine.tick(3 * S * k)
    with pytest.raises(LockStepError, match=r"8 s for joint_command.*1\.000 s.*base_policy"):
        machine.tick(12 * S)
    assert len(paper.shown) == 4


def test_waiting_for_the_learner_has_no_end(started):
    machine, paper, first = started
    machine.state(ended(1, first), 0)
    machine.reset(2, 43)
    machine.tick(10**6 * S)
    assert paper.seeds == [42, 43]


def test_stamps_grow_over_episodes_with_a_gap(started):
    machine, _, first = started
    machine.command(first, TARGET, 0)
    second = machine.reset(2, 43).first_stamp_ns
    assert second == 2 * S
    assert second - (first + T) >= S // 2


def test_asked_twice_for_a_scene_it_stands_already():
    paper = Paper()
    machine = lockstep(paper)
    assert machine.reset(1, 42) == machine.reset(1, 42)
    assert paper.seeds == [42]
    assert machine.reset(1, 43).success
    assert paper.seeds == [42, 43]


def test_running_episode_is_not_reset_under_its_own_number(started):
    machine, paper, _ = started
    assert not machine.reset(1, 42).success
    assert paper.seeds == [42]
    assert machine.reset(2, 42).success  # whoever gives a new number means it


# --- real time -----------------------------------------------------------------------------------


@pytest.fixture
def free():
    paper = Paper()
    return FreeRun(paper, paper, period_ns=T, success_steps=3), paper


def test_real_time_follows_the_clock(free):
    machine, paper = free
    machine.advance(0, S)
    machine.advance(T // 2, S + 1)  # too early
    machine.advance(3 * T, S + 3 * T)
    assert paper.moved == 4
    assert paper.shown == [S, S + 3 * T]
    assert machine.slipped == 0


def test_real_time_never_leaps(free):
    machine, paper = free
    machine.advance(0, S)
    machine.advance(100 * T, S + 100 * T)
    assert (paper.moved, machine.slipped) == (6, 95)
    machine.advance(101 * T, S + 101 * T)
    assert paper.moved == 7


def test_real_time_obeys_the_newest_command_and_forgets_it_at_a_reset(free):
    machine, paper = free
    machine.command(S, np.full(29, 7.0))
    machine.advance(0, S)
    machine.reset(1, 5, 2 * S)
    machine.command(2 * S - 1, np.full(29, 8.0))  # for an observation before the reset
    machine.advance(T, 2 * S)
    machine.command(2 * S, np.full(29, 9.0))
    machine.advance(2 * T, 3 * S)
    assert paper.targets == [7.0, 1.0, 9.0]


def test_real_time_success_must_last_and_is_pressed_once(free):
    machine, paper = free
    machine.reset(4, 5, 0)
    paper.success_after = 2
    machine.advance(0, S)
    for k in range(1, 10):
        if k == 5:
            machine.state(running(4, S))
        machine.advance(k * T, S + k)
    assert [(e.kind, e.episode, e.stamp_ns) for e in paper.pressed] == [(Press.SUCCESS, 4, S + 7)]


def test_oracle_that_leaves_success_to_others_still_calls_the_time():
    paper = Paper(success_after=2)
    machine = lockstep(paper, horizon=4, sees_success=False)
    scene = machine.reset(1, 42)
    machine.state(running(1, scene.first_stamp_ns), 0)
    for step in range(4):
        machine.command(scene.first_stamp_ns + step * T, TARGET, 0)
    assert [e.kind for e in paper.pressed] == [Press.TIMEOUT]
