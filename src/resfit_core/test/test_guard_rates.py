"""How often the trial's proof is right and wrong, simulated; `pytest -s` prints the table."""

import bisect

import numpy as np
import pytest

from resfit_core.control.guard import Guard, Verdict

RUNS, EPISODES, WARMUP, BASE = 400, 60, 10, 0.5


def proven_after(rng, rate):
    """Return the number of the residual's episodes before its proof; all: there was none."""
    guard = Guard(confidence=1 - 1e-9)  # the proof alone: hardly anything is a step back
    played = [Verdict(False, bool(x)) for x in rng.random(WARMUP) < BASE]
    played += [Verdict(True, bool(x)) for x in rng.random(EPISODES) < rate]
    return bisect.bisect(
        range(1, EPISODES + 1), False, key=lambda n: not guard.judge(played[: WARMUP + n]).on_trial
    )


@pytest.mark.parametrize(
    ("rate", "least", "most"),
    [(0.4, 0.0, 0.15), (0.5, 0.05, 0.3), (0.7, 0.45, 0.75), (0.8, 0.7, 0.9), (0.9, 0.9, 1.0)],
)
def test_a_proof_follows_the_gain(rate, least, most):
    rng = np.random.default_rng(int(rate * 100))
    seen = [proven_after(rng, rate) for _ in range(RUNS)]
    found = [episode + 1 for episode in seen if episode < EPISODES]
    print(f"residual {rate:.0%}: proven {len(found) / RUNS:.0%}, after {np.median(found):.0f}")
    assert least <= len(found) / RUNS <= most
