"""What the learner says of itself while it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from resfit_core.doctor import critic, practice
from resfit_core.doctor.finding import Finding, skipped

if TYPE_CHECKING:
    from resfit_core.learner import Learner

_SETTLED_UPDATES = 500  # before that nets have not learned anything that could be judged
_ROWS = 256


def complaints(learner: Learner, joints: Sequence[str]) -> str:
    """Return what is wrong with the learning, in one line; empty: nothing that can be seen.

    Args:
        learner: Between two updates.
        joints: Names, in the order of the actions.
    """
    if learner.updates < learner.config.critic_warmup_updates + _SETTLED_UPDATES:
        return ""
    found = [critic.sensitivity(critic.measure(learner)), reach(learner, joints)]
    return "; ".join(f.says for f in found if f.failed)


@torch.no_grad()
def reach(learner: Learner, joints: Sequence[str]) -> Finding:
    """Check how often the actor sits at the end of its reach, over what was practised.

    The generators are put back: a run that is looked at stays the same run.
    """
    algorithm, replay = learner.algorithm, learner.replay
    if not len(replay.online):
        return skipped(practice.SATURATION, "nothing was practised yet")
    kept, state = algorithm.generator.get_state(), replay.rng.bit_generator.state
    try:
        batch = algorithm.batch(replay.sample(_ROWS))
        residual = algorithm.actor(batch.actor_observation, batch.base_action, batch.chunk_phase)
    finally:
        algorithm.generator.set_state(kept)
        replay.rng.bit_generator.state = state
    used = torch.tanh(residual.float()).cpu().numpy()
    return practice.saturation(used, joints, algorithm.scale.cpu().numpy())
