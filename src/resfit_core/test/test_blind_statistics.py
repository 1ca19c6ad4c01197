"""Statistics of a blind evaluation against published figures and simulated error rates."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed ('make setup' installs it)")

from resfit_core import intervals
from resfit_core.blind import statistics
from resfit_core.blind.statistics import Table


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table II, method 10.
        (Table(36, 12, 2, 0), (-0.3404, -0.0569)),
        # Airway hyper-responsiveness, as in Fagerland, Lydersen and Laake (2014).
        (Table(1, 1, 7, 12), (0.026, 0.507)),
    ],
)
def test_newcombe_s_interval_is_the_published_one(table, wanted):
    _, interval = statistics.difference(table)
    assert interval == pytest.approx(wanted, abs=5e-4)
    swapped = Table(table.both, table.second_only, table.first_only, table.neither)
    assert statistics.difference(swapped)[1] == pytest.approx(
        (-interval[1], -interval[0]), abs=1e-12
    )


def test_the_interval_covers_the_truth_as_often_as_it_says():
    chance = np.random.default_rng(0)
    shares = np.array([0.5, 0.05, 0.3, 0.15])  # both, first only, second only, neither
    tables = chance.multinomial(40, shares, size=1500)
    inside = 0
    for row in tables:
        _, (low, high) = statistics.difference(Table(*(int(n) for n in row)))
        inside += low <= 0.25 <= high
    assert 0.93 <= inside / len(tables) <= 0.985


@pytest.mark.parametrize("table", [Table(9, 0, 0, 0), Table(0, 0, 0, 9), Table(0, 9, 0, 0)])
def test_the_ends_are_sound(table):
    middle, (low, high) = statistics.difference(table)
    assert -1 <= low <= middle <= high <= 1


def test_the_library_agrees_with_the_training_report():
    """The report of a training has its own two, without SciPy: both must say the same."""
    for first_only, second_only in ((0, 0), (3, 3), (1, 9), (12, 2)):
        table = Table(20, first_only, second_only, 5)
        assert statistics.mcnemar(table) == pytest.approx(
            intervals.mcnemar(first_only, second_only)
        )
    assert statistics.wilson(7, 20) == pytest.approx(intervals.wilson(7, 20))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])


def test_evidence_by_hand():
    # Uniform chance: B(w + 1, l + 1) 2^n; five wins: 2^5 / 6.
    assert np.exp(statistics.log_e_value(0, 5)) == pytest.approx(32 / 6)
    assert np.exp(statistics.log_e_value(1, 1)) == pytest.approx(4 / 6)
    never, always = [False] * 9, [True] * 9
    found = statistics.sequential(never, always)
    assert found.enough_after == 8  # 2^8 / 9 = 28.4 >= 20 > 2^7 / 8 = 16
    assert found.p == pytest.approx(10 / 2**9)
    assert statistics.sequential(always, always).enough_after == 0


def test_looking_after_every_round_gives_no_more_false_alarms_than_it_says():
    """200 rounds, looked at after each: a test for a fixed number would cry wolf every third time.

    The fixed seed makes the rates what they are; the bounds are what the method promises.
    """
    chance = np.random.default_rng(1)
    runs, rounds = 1000, 200
    alarms = naive = found = 0
    for _ in range(runs):
        same = chance.random((2, rounds)) < 0.6
        alarms += bool(statistics.enough(same.tolist()))
        only_first = np.cumsum(same[0] & ~same[1])
        only_second = np.cumsum(~same[0] & same[1])
        spread = np.sqrt(np.maximum(only_first + only_second, 1))
        naive += bool(np.any(np.abs(only_first - only_second)[9:] / spread[9:] > 1.96))
        better = chance.random((2, rounds)) < np.array([[0.55], [0.9]])
        found += bool(statistics.enough(better.tolist()))
    assert alarms / runs <= 0.05
    assert naive / runs > 0.15
    assert found / runs > 0.99


def test_several_policies_share_the_level():
    chance = np.random.default_rng(2)
    runs = 500
    alarms = 0
    for _ in range(runs):
        verdicts = (chance.random((4, 100)) < 0.6).tolist()
        first, *others = verdicts
        alarms += any(
            statistics.sequential(first, other, statistics.ALPHA / 3).enough_after
            for other in others
        )
    assert alarms / runs <= 0.05


def test_steps_to_success():
    assert statistics.steps_summary([]) == {"n": 0, "median": None, "q25": None, "q75": None}
    assert statistics.steps_summary([10, 20, 30])["median"] == 20
    slower = statistics.steps_difference([10] * 8, [20] * 8)
    assert (slower["n"], slower["median"]) == (8, 10)
    assert slower["p"] == pytest.approx(2 / 2**8)  # all eight signs alike
    assert statistics.steps_difference([5], [5])["p"] is None
