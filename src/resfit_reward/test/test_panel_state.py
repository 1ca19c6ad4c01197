"""What the panel shows, case by case, as plain Python: no ROS, no page, time by hand."""

import pytest

from resfit_core.control.press import Press
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase, Source
from resfit_core.intervals import wilson
from resfit_core.run_log import EpisodeLine
from resfit_reward.panel import chart, render
from resfit_reward.panel.cameras import WATCHED_S, Cameras
from resfit_reward.panel.estop import LATE_S, REPEAT_S, EStop
from resfit_reward.panel.health import Driver, Learner
from resfit_reward.panel.history import MOST_POINTS, WINDOW, History
from resfit_reward.panel.state import GO, PanelState
from resfit_reward.panel.view import BAD, OK, WARN

NODES = ("twin", "vega_driver", "learner")
ACTIVE, HOLDING, ESTOPPED = 1, 2, 3


def state(phase, episode=3, *, mode=Mode.TRAIN, ended_by=EndedBy.NONE, reason="why", **fields):
    return EpisodeState(
        phase,
        episode,
        mode,
        "a_run",
        ended_by=ended_by,
        reason=reason,
        episodes_planned=10,
        **fields,
    )


@pytest.fixture
def panel():
    made = PanelState(NODES)
    made.nodes(NODES)
    return made


def texts(panel, now_s=1.0):
    return [b.text for b in panel.view(now_s).banners]


# --- the state of the run ------------------------------------------------------------------------


def test_before_anything_was_heard(panel):
    view = panel.view(0.0)
    assert (view.run, view.phase, view.lit) == ("", "WAITING", {"ESTOP"})
    assert view.banners == ()


def test_every_change_shows_its_reason(panel):
    panel.episode(state(Phase.READY, reason="waits for: the learner owes updates"), 0.0)
    view = panel.view(0.0)
    assert (view.phase, view.reason) == ("READY", "waits for: the learner owes updates")
    assert view.headline == "Episode 3 of 10 · training"
    assert view.progress == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("phase", "lit"),
    [
        (Phase.IDLE, {GO, "STOP", "PAUSE"}),
        (Phase.RESETTING, {GO, "STOP", "PAUSE"}),
        (Phase.READY, {"STOP", "PAUSE"}),
        (Phase.RUNNING, {"SUCCESS", "FAILURE", "ABORT", "STOP", "PAUSE"}),
        (Phase.ENDED, {"STOP", "PAUSE"}),
        (Phase.PAUSED, {GO, "STOP", "PAUSE"}),
        (Phase.FINISHED, set()),
    ],
)
def test_buttons_that_would_be_taken_are_lit(panel, phase, lit):
    panel.episode(state(phase), 0.0)
    assert panel.view(0.0).lit == lit | {"ESTOP"}


def test_verdict_can_be_taken_back_until_the_next_episode_runs(panel):
    panel.episode(state(Phase.ENDED, ended_by=EndedBy.SUCCESS), 0.0)
    assert "UNDO" in panel.view(0.0).lit
    panel.episode(state(Phase.ENDED, ended_by=EndedBy.ABORTED, revision=1), 0.0)
    lit = panel.view(0.0).lit
    assert {"SUCCESS", "FAILURE"} <= lit
    assert "UNDO" not in lit
    panel.episode(state(Phase.RUNNING, 4), 0.0)
    assert "UNDO" not in panel.view(0.0).lit


def test_correction_of_the_last_episode_leaves_the_running_one_on_show(panel):
    panel.episode(state(Phase.ENDED, 3, ended_by=EndedBy.SUCCESS), 0.0)
    panel.episode(state(Phase.RUNNING, 4), 0.0)
    assert "UNDO" in panel.view(0.0).lit
    panel.press(Press.UNDO, "panel", 0.0)
    undone = state(
        Phase.ENDED, 3, ended_by=EndedBy.ABORTED, revision=1, reason="verdict undone by panel"
    )
    panel.episode(undone, 0.1)
    view = panel.view(0.1)
    assert (view.phase, view.headline) == ("RUNNING", "Episode 4 of 10 · training")
    assert view.episodes[0].ended_by == "aborted"
    assert view.answer.text == "Episode 3: verdict taken back"


def test_one_button_starts_or_confirms_and_one_pauses_or_resumes(panel):
    panel.episode(state(Phase.PAUSED), 0.0)
    assert (panel.meaning(GO), panel.meaning("PAUSE")) == (Press.START, Press.RESUME)
    panel.episode(state(Phase.READY), 0.0)
    assert (panel.meaning(GO), panel.meaning("PAUSE")) == (Press.RESET_DONE, Press.PAUSE)
    with pytest.raises(ValueError, match=r"'LAUNCH'.*SUCCESS"):
        panel.meaning("LAUNCH")


# --- banners -------------------------------------------------------------------------------------


def test_node_that_left_is_named_until_it_is_back(panel):
    panel.nodes(("twin", "vega_driver"))
    assert texts(panel) == ["learner is gone; the run starts it again if it can"]
    assert dict(panel.view(1.0).nodes)["learner"] == BAD
    panel.nodes(NODES)
    assert texts(panel) == []


def test_node_that_never_came_is_told_only_after_a_while():
    panel = PanelState(NODES)
    panel.nodes(("twin", "vega_driver"))
    assert texts(panel, 5.0) == []
    assert texts(panel, 25.0) == ["not there yet: learner"]


def test_silent_driver_and_learner(panel):
    panel.driver(Driver(ACTIVE), 0.0)
    panel.learner(Learner(2), 0.0)
    assert texts(panel, 1.0) == []
    assert texts(panel, 9.0) == [
        "vega_driver is silent for 9 s; the robot holds",
        "The learner is silent for 9 s; the robot goes on with the last good weights",
    ]


def test_hold_shows_its_reason_while_an_episode_runs(panel):
    panel.driver(Driver(HOLDING, "no command in time"), 0.0)
    panel.episode(state(Phase.READY), 0.0)
    assert texts(panel) == []
    panel.episode(state(Phase.RUNNING), 0.0)
    assert texts(panel) == ["The robot holds: no command in time"]


def test_failed_learner_and_fall_back_to_the_base(panel):
    panel.learner(Learner(3, "out of memory"), 0.0)
    panel.episode(state(Phase.RUNNING, use_residual=False, reason="stepped back"), 0.0)
    assert texts(panel) == [
        "The learner failed: out of memory",
        "The base acts alone: stepped back",
    ]


def test_finished_run_names_no_node_that_left(panel):
    panel.nodes(())
    panel.episode(state(Phase.FINISHED, reason="all episodes are done"), 0.0)
    assert texts(panel) == ["The run is finished: all episodes are done"]


# --- e-stop --------------------------------------------------------------------------------------


def test_estop_is_told_until_the_driver_has_latched():
    stop = EStop()
    assert not stop.due(0.0)
    stop.press("panel", 0.0)
    assert stop.due(0.0)
    assert not stop.due(REPEAT_S / 2)
    assert stop.due(REPEAT_S)
    assert not stop.unanswered(LATE_S)
    assert stop.unanswered(LATE_S + 0.1)
    stop.driver(True)
    assert not stop.due(10.0)
    assert not stop.unanswered(10.0)


def test_estop_outlives_the_drivers_restart_and_ends_by_rearm_only():
    stop = EStop()
    stop.press("keypad", 0.0)
    stop.driver(True)
    stop.driver(False)
    assert stop.due(5.0)
    stop.rearm()
    assert not stop.due(6.0)
    assert not stop.wanted


def test_estop_is_the_first_banner_and_lights_rearm(panel):
    panel.nodes(())
    panel.estop.press("panel", 0.0)
    view = panel.view(0.1)
    assert (view.estop, "REARM" in view.lit) == ("asked", True)
    assert view.banners[0].text == "E-stop by panel: the driver is told"
    assert "NOT confirmed" in panel.view(1.0).banners[0].text
    panel.driver(Driver(ESTOPPED, "e-stop"), 1.0)
    view = panel.view(1.0)
    assert (view.estop, view.banners[0].text) == ("latched", "E-stop by panel: the driver holds")


def test_start_is_not_offered_while_the_driver_is_latched(panel):
    panel.episode(state(Phase.PAUSED), 0.0)
    panel.driver(Driver(ESTOPPED), 0.0)
    assert GO not in panel.view(0.0).lit
    panel.driver(Driver(ACTIVE), 0.0)
    assert GO in panel.view(0.0).lit


def test_latch_that_somebody_else_set_is_shown(panel):
    panel.driver(Driver(ESTOPPED, "e-stop"), 0.0)
    assert (panel.view(0.0).estop, "REARM" in panel.view(0.0).lit) == ("latched", True)


# --- what became of a press ----------------------------------------------------------------------


def test_press_is_confirmed_by_the_state_that_names_it(panel):
    panel.press(Press.SUCCESS, "panel", 0.0)
    assert panel.view(0.1).answer.number == 0
    ended = state(
        Phase.ENDED, ended_by=EndedBy.SUCCESS, reason="success by panel", credited_step=84
    )
    panel.episode(ended, 0.1)
    answer = panel.view(0.1).answer
    assert (answer.number, answer.tone, answer.text) == (1, OK, "Episode 3: success, step 84")
    panel.episode(ended, 0.2)
    assert panel.view(5.0).answer.number == 1


def test_anothers_end_is_no_answer(panel):
    panel.press(Press.SUCCESS, "panel", 0.0)
    panel.episode(state(Phase.ENDED, ended_by=EndedBy.TIMEOUT, reason="160 steps done"), 0.1)
    assert panel.view(0.2).answer.number == 0


def test_ignored_press_tells_why(panel):
    panel.press(Press.SUCCESS, "keypad", 0.0)
    why = "SUCCESS from keypad ignored: no episode is running"
    panel.message("episode_manager", why, error=False)
    answer = panel.view(0.1).answer
    assert (answer.tone, answer.text) == (WARN, why)


def test_driver_that_does_not_rearm_tells_why(panel):
    panel.press(Press.REARM, "panel", 0.0)
    panel.message("vega_driver", "not re-armed, as panel asked: the robot moves", error=False)
    assert panel.view(0.1).answer.text == "Not re-armed, as panel asked: the robot moves"


def test_press_that_nobody_answers_is_told(panel):
    panel.press(Press.UNDO, "panel", 0.0)
    assert panel.view(0.9).answer.number == 0
    answer = panel.view(1.1).answer
    assert (answer.tone, answer.text) == (BAD, "UNDO: no answer from the episode manager")


def test_oracle_is_no_person(panel):
    panel.press(Press.SUCCESS, "oracle", 0.0)
    assert panel.view(5.0).answer.number == 0


def test_repeated_estop_flashes_once(panel):
    for now_s in (0.0, 0.2, 0.4):
        panel.press(Press.ESTOP, "panel", now_s)
    assert panel.view(0.5).answer.number == 1


# --- numbers -------------------------------------------------------------------------------------


def line(number, ended_by, mode="train", revision=0, use_residual=True):
    return EpisodeLine(
        number, mode, use_residual, 7, ended_by, ended_by == "success", 5, 0.0, 1.0,
        revision=revision,
    )  # fmt: skip


def test_curve_is_the_wilson_interval_of_the_last_window():
    history = History()
    for n in range(1, 31):
        history.line(line(n, "success" if n % 3 else "timeout", "warmup" if n <= 6 else "train"))
    curve = history.curve
    successes = sum(1 for n in range(11, 31) if n % 3)
    assert (curve.recent.successes, curve.recent.trials) == (successes, WINDOW)
    last = curve.points[-1]
    assert (last.episode, last.rate) == (30, successes / WINDOW)
    assert (last.low, last.high) == wilson(successes, WINDOW)
    assert (curve.base.successes, curve.base.trials) == (4, 6)
    assert curve.warmup_end == 6


def test_correction_replaces_the_verdict_and_aborted_ones_do_not_count():
    history = History()
    history.line(line(1, "success"))
    assert history.curve.recent.successes == 1
    history.line(line(1, "aborted", revision=1))
    assert history.curve.recent.trials == 0
    history.line(line(1, "success"))  # an older word comes late
    assert history.curve.recent.trials == 0


def test_evaluation_does_not_mix_with_practice():
    history = History()
    history.line(line(1, "success", "evaluate", use_residual=False))
    history.line(line(2, "failure", "evaluate"))
    curve = history.curve
    assert [(r.successes, r.trials) for r in curve.evaluated] == [(1, 1), (0, 1)]
    assert (curve.recent.trials, curve.base.trials) == (0, 0)


def test_long_runs_are_thinned_to_the_newest_point():
    history = History()
    for n in range(1, 2001):
        history.line(line(n, "success"))
    assert len(history.curve.points) <= MOST_POINTS
    assert history.curve.points[-1].episode == 2000


def test_weights_age_and_starved_learner(panel):
    panel.learner(Learner(2, utd_target=1.0, utd_achieved=0.5, weights_version=3, updates=9), 0.0)
    panel.learner(Learner(2, utd_target=1.0, utd_achieved=0.5, weights_version=3, updates=9), 60.0)
    tiles = {t.label: t for t in panel.view(60.0).learner}
    assert (tiles["weights"].value, tiles["weights"].note) == ("v3", "60 s old")
    assert tiles["updates per step"].tone == WARN


def test_step_rate_comes_from_the_drivers_count(panel):
    for k in range(11):
        panel.driver(Driver(ACTIVE, commands=4 * k, altered=k), 0.2 * k)
    tiles = {t.label: t for t in panel.view(2.0).control}
    assert tiles["steps"].value == "20/s"
    assert tiles["altered"].value == "25.0%"


def test_repeated_warnings_are_counted(panel):
    for _ in range(3):
        panel.message("recorder", "slow disk", error=False)
    (message,) = panel.view(0.0).messages
    assert (message.text, message.count) == ("slow disk", 3)


# --- cameras and HTML ----------------------------------------------------------------------------


def test_pictures_only_while_somebody_watches():
    import numpy as np

    cameras = Cameras(("left",), rate_hz=5.0)
    assert cameras.watched(0.0) == frozenset()
    assert cameras.ask("left", 0.0) is None
    assert cameras.watched(1.0) == {"left"}
    cameras.put("left", np.zeros((720, 1280, 3), np.uint8), 1.0)
    assert not cameras.due("left", 1.1)
    assert cameras.due("left", 1.25)
    first = cameras.ask("left", 1.2)
    assert first.jpeg[:2] == b"\xff\xd8"
    cameras.put("left", np.zeros((90, 160, 3), np.uint8), 1.3)
    assert cameras.ask("left", 1.3).number > first.number
    assert cameras.watched(1.3 + WATCHED_S + 0.1) == frozenset()
    assert cameras.ask("left", 9.0) is None  # an old picture is not shown as a live one
    with pytest.raises(KeyError):
        cameras.ask("right", 9.0)


def test_text_from_outside_cannot_become_html(panel):
    bad = "<img src=x onerror=alert(1)>\" '"
    panel.episode(state(Phase.ENDED, ended_by=EndedBy.ABORTED, reason=bad), 0.0)
    panel.message(bad, bad, error=True)
    panel.learner(Learner(3, bad), 0.0)
    panel.press(Press.UNDO, "panel", 0.0)
    panel.message("episode_manager", f"UNDO from panel ignored: {bad}", error=False)
    html = "".join(render.sections(panel.view(0.0), 1).values())
    assert "<img" not in html
    assert "&lt;img" in html


def test_chart_without_and_with_points():
    assert "after five practice episodes" in chart.svg(History().curve)
    history = History()
    for n in range(1, 9):
        history.line(line(n, "success", "warmup" if n < 7 else "train"))
    svg = chart.svg(history.curve)
    assert svg.count('class="base-band"') == svg.count('class="curve"') == 1


def test_an_episode_that_a_person_drove_is_not_rated(panel):
    for number, source in ((3, Source.TELEOP), (4, Source.POLICY)):
        panel.episode(state(Phase.RUNNING, number), 0.0)
        panel.driver(Driver(ACTIVE, source=source), 0.1)
        panel.episode(state(Phase.ENDED, number, ended_by=EndedBy.SUCCESS), 0.2)
    # Between two episodes a person may drive as they like.
    panel.driver(Driver(ACTIVE, source=Source.TELEOP), 0.3)
    assert panel.history.curve.recent.trials == 1
    assert [e.taken_over for e in panel.history.last(2)] == [False, True]
