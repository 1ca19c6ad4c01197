"""A thousand episodes with presses at random moments: every reward on the right step."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import press_trial

from resfit_core.control.episode_parts import Ended
from resfit_core.control.press import EpisodeSteps


def test_every_reward_lies_on_the_right_step():
    tally = press_trial.run(seed=1, episodes=1000)
    assert tally.episodes >= 1000
    assert set(tally.kinds) == set(press_trial.SCENARIOS)
    assert tally.wrong == []


def test_the_trial_sees_a_reward_one_step_off(monkeypatch):
    right = EpisodeSteps.credit
    monkeypatch.setattr(EpisodeSteps, "credit", lambda self, at: right(self, at) + 1)
    assert len(press_trial.run(seed=2, episodes=60).wrong) > 20


def test_the_trial_sees_a_second_word_that_wins(monkeypatch):
    monkeypatch.setattr(Ended, "credit", lambda self, at: (self.state.credited_step, ""))
    assert press_trial.run(seed=3, episodes=120).wrong
