"""Late ticks, periods and stages of a node of the control loop."""

import pytest

from resfit_core.control.loop_stats import LoopStats

PERIOD = 50_000_000


def test_periods_without_a_tick_are_late_but_a_pause_is_not() -> None:
    stats = LoopStats(PERIOD, ("act",), exact=False)
    for episode, at in ((1, 0), (1, 1), (1, 2.4), (1, 4.4), (2, 40), (2, 41)):
        stats.tick(round(at * PERIOD), episode, (1_000_000,))
    found = stats.summary()
    assert (found.ticks, found.late) == (6, 1)  # 2.4 is jitter; from there to 4.4 one is missing
    assert found.period.max_ms == pytest.approx(100)
    assert found.period.p50_ms == pytest.approx(60)


def test_stages_and_drops() -> None:
    stats = LoopStats(PERIOD, ("a", "b"), exact=True, window=2)
    stats.drop()
    for value in (9, 1, 3):
        stats.tick(0, 1, (value * 1_000_000, 0))
    found = stats.summary()
    assert found.dropped == 1
    assert found.stages["a"].p50_ms == pytest.approx(2)  # the window holds the newest two
    assert found.stages["a"].max_ms == pytest.approx(3)
    with pytest.raises(ValueError, match="1 stages were measured, 2 are named"):
        stats.tick(0, 1, (1,))


def test_nobody_is_late_in_lock_step() -> None:
    stats = LoopStats(PERIOD, (), exact=True)
    stats.tick(0, 1, ())
    stats.tick(10 * PERIOD, 1, ())
    assert stats.summary().late == 0
    assert LoopStats(PERIOD, ("a",), exact=False).summary().stages["a"].max_ms == 0
