"""An episode that a person drove teaches, but says nothing of the policies' success."""

import dataclasses

from test_episode import FIRST, Rig, T

from resfit_core.control.plan import make_plan
from resfit_core.control.press import Press
from resfit_core.control.records import EndedBy, Phase
from resfit_core.run_log import read_episodes


def test_steps_that_count_are_counted(tmp_path):
    rig = Rig(tmp_path)
    rig.scene()
    for step in range(6):
        rig.manager.executed(FIRST + step * T, 0, driven=step in (1, 2, 5))
        rig.manager.executed(FIRST + step * T, 0, driven=step in (1, 2, 5))  # said again
    rig.press(Press.SUCCESS, FIRST + 4 * T)  # credits step 3: the last driven one is cut off
    rig.close()
    (line,) = read_episodes(tmp_path / "episodes.jsonl")
    assert (line.steps, line.interventions) == (4, 2)
    assert line.success
    assert line.counts
    assert not line.rated
    assert dataclasses.replace(line, interventions=0).rated


def test_the_guard_does_not_see_them(tmp_path):
    """A residual that a person rescues each time was never stepped back from."""
    rig = Rig(tmp_path)
    verdicts = rig.manager._book._verdicts
    rig.scene()
    rig.manager.executed(FIRST, 0, driven=True)
    rig.press(Press.SUCCESS, FIRST + T)
    rig.close()
    assert verdicts == {}
    rig.scene(2 * FIRST)
    rig.steps(1, 2 * FIRST)
    rig.press(Press.SUCCESS, 2 * FIRST + T)
    rig.close()
    assert list(verdicts) == [2]


def test_an_evaluation_is_run_again(tmp_path):
    rig = Rig(tmp_path, plan=make_plan("train", episodes=0, evaluate_episodes=1))
    rig.scene()
    rig.steps(3)
    rig.manager.executed(FIRST + 3 * T, 0, driven=True)
    assert rig.last.phase == Phase.ENDED
    assert rig.last.ended_by == EndedBy.ABORTED
    assert "took over" in rig.last.reason
    seed = rig.last.seed
    rig.close()
    assert (rig.last.phase, rig.last.seed) == (Phase.RESETTING, seed)
