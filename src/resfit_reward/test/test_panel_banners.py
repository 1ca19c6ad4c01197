"""Banners on how the learning goes: what the learner says of itself, and missing rewards."""

import pytest

from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase
from resfit_reward.panel.health import Learner
from resfit_reward.panel.history import WINDOW
from resfit_reward.panel.state import PanelState


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


def test_rewards_that_never_come(panel):
    for number in range(1, WINDOW + 1):
        assert texts(panel) == []
        ended = EpisodeState(Phase.ENDED, number, Mode.TRAIN, "r", ended_by=EndedBy.TIMEOUT)
        panel.episode(ended, 0.0)
    assert texts(panel)[0].startswith(f"No reward in the last {WINDOW} episodes")
    panel.episode(EpisodeState(Phase.ENDED, 99, Mode.TRAIN, "r", ended_by=EndedBy.SUCCESS), 0.0)
    assert texts(panel) == []
