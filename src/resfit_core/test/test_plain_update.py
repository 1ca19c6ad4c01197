"""Our update against the plain eager one of the benchmark: same numbers, with and without images.

Without image shift and target noise, and with all target heads in the minimum, nothing is random.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_cases import ACT, OBS
from test_vision import SHAPES, config, windows

from resfit_core.algorithms.resfit import ResFiT

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from plain_update import PlainCritic, PlainUpdate

SETTINGS = {"image_shift": 0, "target_noise_std": 0.0, "target_heads": 4, "actor_pessimism": 0.0}
SETTINGS |= {"actor_base_weight": 0.0, "critic_output_init": 0.5}


@pytest.mark.parametrize("shapes", [None, SHAPES])
def test_updates_agree(shapes):
    """Stated tolerance: Q within 1e-4 of the plain update's after eight updates, two of the actor.

    The learning rate is 1e-3, so that eight updates move Q by far more.
    """
    rule = ResFiT(config(**SETTINGS, actor_every=4), OBS, ACT, np.float32(0.2), None, shapes)
    rule.normaliser.mean.zero_()
    plain = PlainUpdate(rule)
    data = windows(32)
    for name in ("observation", "next_observation"):
        getattr(data, name)[:] = np.random.default_rng(0).standard_normal((32, OBS))
    before = PlainCritic(rule.critic)
    for _ in range(8):
        rule.update(data)
        plain.update(data)
    batch, tokens = plain.batch(data), plain.tokens(data.images)
    if shapes:
        ours = rule.encoder(
            {c: torch.from_numpy(i).permute(0, 3, 1, 2) for c, i in data.images.items()}
        )
        torch.testing.assert_close(ours, tokens, atol=1e-4, rtol=1e-3)
    given = (tokens, batch["observation"], batch["action"])
    ours, theirs, first = (c(*given) for c in (PlainCritic(rule.critic), plain.critic, before))
    assert (theirs - first).abs().max() > 1e-2
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    action = rule.actor.actor if shapes else rule.actor
    for one, other in zip(action.net.parameters(), plain.body.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
