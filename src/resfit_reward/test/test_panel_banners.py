"""What is said of how it goes: the learner's complaints, missing rewards, the loop's times."""

import pytest

from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase, Source
from resfit_reward.panel.health import Driver, Learner
from resfit_reward.panel.history import WINDOW
from resfit_reward.panel.loop import Loop, Spread
from resfit_reward.panel.state import PanelState
from resfit_reward.panel.view import CALM, WARN


@pytest.fixture
def panel():
    return PanelState()


def texts(panel):
    return [b.text for b in panel.view(1.0).banners]


def test_learner_that_complains_while_it_works(panel):
    panel.learner(Learner(0, "loads demos and checkpoint"), 0.0)
    assert texts(panel) == []
    panel.learner(Learner(2, "Q does not see the action"), 0.0)
    assert texts(panel) == ["The learner says: Q does not see the action"]


def test_who_moves_the_robot_is_said(panel):
    panel.driver(Driver(mode=1, source=Source.POLICY), 0.5)
    assert texts(panel) == []
    panel.driver(Driver(mode=1, source=Source.TELEOP), 0.5)
    assert texts(panel) == ["A person drives the robot"]
    panel.driver(Driver(mode=1, source=Source.RESET), 0.5)
    assert texts(panel) == ["The robot goes to its start pose: nobody reaches in"]


def test_rewards_that_never_come(panel):
    for number in range(1, WINDOW + 1):
        assert texts(panel) == []
        ended = EpisodeState(Phase.ENDED, number, Mode.TRAIN, "r", ended_by=EndedBy.TIMEOUT)
        panel.episode(ended, 0.0)
    assert texts(panel)[0].startswith(f"No reward in the last {WINDOW} episodes")
    panel.episode(EpisodeState(Phase.ENDED, 99, Mode.TRAIN, "r", ended_by=EndedBy.SUCCESS), 0.0)
    assert texts(panel) == []


def test_question_of_the_classifier_is_shown_while_the_episode_runs(panel):
    panel.guess("thinks success (70% sure at step 84): confirm it or go on")
    assert texts(panel) == []
    panel.episode(EpisodeState(Phase.RUNNING, 3, Mode.TRAIN, "r"), 0.0)
    assert texts(panel) == [
        "The classifier thinks success (70% sure at step 84): confirm it or go on"
    ]
    panel.guess("")
    assert texts(panel) == []


def test_loop_statistics_become_tiles(panel):
    spread = Spread(21.0, 30.0, 44.0)
    panel.driver(Driver(1, commands=1), 0.0)
    panel.loop(Loop("base_policy", 2, 1, Spread(50.0, 52.0, 61.0)), 0.0)
    panel.loop(Loop("vega_driver", stages={"observation_to_command": spread}), 0.0)
    tiles = {t.label: t for t in panel.view(0.5).control}
    assert tiles["loop"].value == "20.0 Hz"
    assert tiles["latency"].value == "21.0 ms"
    assert (tiles["late, dropped"].value, tiles["late, dropped"].tone) == ("2, 1", CALM)
    panel.loop(Loop("base_policy", 3, 1, Spread(50.0, 52.0, 61.0)), 1.0)
    assert {t.label: t.tone for t in panel.view(2.0).control}["late, dropped"] == WARN
    panel.loop(Loop("vega_driver"), 3.0)  # lock-step: stamps are the twin's
    assert "latency" not in [t.label for t in panel.view(3.0).control]
