"""Whether the critic tells actions apart: a Q that does not teaches the actor nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from resfit_core.doctor.finding import Finding, bad, good, skipped
from resfit_core.nets.combine import combine

if TYPE_CHECKING:
    from resfit_core.algorithms.resfit import Batch, ResFiT
    from resfit_core.learner import Learner

CHECK = "q_sensitivity"
LEAST = 0.01
"""Spread of Q over a state's actions, as a share of its spread over states, that is too little."""
_ACTIONS, _ROWS = 8, 64


def measure(learner: Learner, seed: int = 0) -> float | None:
    """Return how much Q changes with the action, as a share of how much it changes with the state.

    The actions are drawn within the residual's reach of the base's. Neither the replay's nor the
    algorithm's generators move: a run that is looked at stays the same run.

    Returns:
        The share; None: nothing was learned yet, or there is no data.
    """
    online = learner.replay.online if len(learner.replay.online) else learner.replay.demos
    if not learner.updates or not len(online):
        return None
    algorithm, replay = learner.algorithm, learner.replay
    kept, state = algorithm.generator.get_state(), replay.rng.bit_generator.state
    try:
        batch = algorithm.batch(replay.sample(_ROWS))
        return spread(algorithm, batch, seed)
    finally:
        algorithm.generator.set_state(kept)
        replay.rng.bit_generator.state = state


@torch.no_grad()
def spread(algorithm: ResFiT, batch: Batch, seed: int = 0) -> float:
    """Return the ratio of both spreads (standard deviations) for a batch."""
    generator = torch.Generator().manual_seed(seed)
    values: list[Tensor] = []
    for _ in range(_ACTIONS):
        residual = torch.randn(batch.base_action.shape, generator=generator)
        action = combine(batch.base_action, residual.to(algorithm.device), algorithm.scale)
        seen = algorithm.view.critic_action(batch.anchor, action)
        q = algorithm.critic(batch.critic_observation, batch.chunk_phase, seen)
        values.append(q.float().mean(0))
    table = torch.stack(values).cpu().numpy().astype(np.float64)  # (actions, rows)
    over_actions, over_states = float(table.std(0).mean()), float(table.mean(0).std())
    return over_actions / over_states if over_states > 0 else 0.0


def sensitivity(share: float | None) -> Finding:
    """Say what `measure` found."""
    if share is None:
        return skipped(CHECK, "the critic has learned nothing yet")
    says = f"within the residual's reach, Q changes by {share:.1%} of what it changes over states"
    if share < LEAST:
        return bad(
            CHECK,
            f"{says}: it does not see the action, so the actor learns nothing from it",
            "check residual_scale (0?), critic_view, and that executed actions differ from the "
            "base's (exploration_std, an over-cautious safety filter)",
        )
    return good(CHECK, says)
