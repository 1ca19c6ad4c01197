"""The statistics of the reports, against a library and by hand."""

import pytest

from resfit_core.intervals import mcnemar, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 10), (3, 20), (90, 200), (199, 200), (7, 7)])
def test_wilson_is_scipys(k, n):
    stats = pytest.importorskip("scipy.stats")
    for confidence in (0.8, 0.95):
        theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        assert wilson(k, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 3), (5, 5), (2, 40), (300, 400)])
def test_mcnemar_is_scipys_binomial_test(a, b):
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(theirs, rel=1e-9)


def test_no_trial_has_no_interval():
    with pytest.raises(ValueError, match="0 of 0 trials"):
        wilson(0, 0)
