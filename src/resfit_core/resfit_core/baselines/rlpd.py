"""Tuned RLPD: the same algorithm, nets and demonstrations, without a base policy.

METHOD, "Baselines": single-step actions, half demos and half online. The actor's output is the
whole action: the residual rule with a base action of 0 and a reach of 1. Neither actor nor critic
is told what a base would do, so the outcome does not depend on it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from resfit_core.algorithms.config import NOISE_KINDS, TrainConfig
from resfit_core.algorithms.resfit import Batch, ResFiT
from resfit_core.algorithms.settings import setting
from resfit_core.data.replay import Windows
from resfit_core.nets.views import View
from resfit_core.residual import BASE_ALONE, ResidualPolicy

if TYPE_CHECKING:
    from resfit_core.train.job import Job, Result


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings whose defaults differ from ours; noise is in action units, for the reach is 1.

    From ResFiT's own tuned RLPD (METHOD: n-step 3, UTD 4, one actor update per 4, noise .05,
    smoothing .05 clipped at .3) and, where METHOD is silent, from RLPD (Ball et al. 2023,
    arXiv 2302.02948: learning rates 3e-4, uniform random actions before learning).
    """

    n_step: int = setting(3, "longest window, control steps", least=1, most=1000)
    critic_lr: float = setting(3e-4, "learning rate of the critic", least=0)
    actor_lr: float = setting(3e-4, "learning rate of the actor", least=0)
    actor_every: int = setting(4, "critic updates per actor update", least=1)
    actor_base_weight: float = setting(0.0, "there is no base: must be 0", least=0, most=0)
    actor_pessimism: float = setting(0.0, "there is no base: must be 0", least=0, most=0)
    guard_confidence: float = setting(0.0, "ours alone: must be 0", least=0, most=0)
    utd: float = setting(4.0, "critic updates per environment step", least=0)
    target_noise_std: float = setting(0.05, "noise on the target action, action units", least=0)
    target_noise_clip: float = setting(0.3, "largest such noise, action units", least=0)
    exploration_kind: str = setting("white", "as in TrainConfig", choices=NOISE_KINDS)
    exploration_std: float = setting(0.05, "exploration, action units", least=0)
    warmup_kind: str = setting("uniform", "as in TrainConfig", choices=NOISE_KINDS)
    warmup_std: float = setting(0.577, "warm-up noise: this is uniform over [-1, 1]", least=0)


class Rlpd(ResFiT):
    """ResFiT with a reach of 1 around a base action of 0."""

    def __init__(
        self,
        config: TrainConfig,
        obs_dim: int,
        act_dim: int,
        scale: np.ndarray,
        view: View | None = None,
        **options: Any,
    ) -> None:
        """Build as `ResFiT` does; `scale` is replaced by 1."""
        super().__init__(config, obs_dim, act_dim, np.ones(act_dim, np.float32), view, **options)

    def batch(self, windows: Windows) -> Batch:
        """Turn a sample into tensors, with every trace of the base taken out."""
        return super().batch(without_base(windows, phase=True))


def without_base(windows: Windows, *, phase: bool) -> Windows:
    """Return the sample with base actions of 0 and, if asked, without the chunk phase."""
    names = ["base_action", "next_base_action"]
    names += ["chunk_phase", "next_chunk_phase"] if phase else []
    return dataclasses.replace(
        windows, **{name: np.zeros_like(getattr(windows, name)) for name in names}
    )


class BaselessPolicy(ResidualPolicy):
    """Acts by the actor alone; the base acts only where the base itself is judged."""

    def __init__(self, config: TrainConfig, scale: np.ndarray, *args: Any, **options: Any) -> None:
        """Start without weights: the action is 0 plus noise. Arguments: `ResidualPolicy`'s."""
        super().__init__(config, np.ones_like(np.asarray(scale, np.float32)), *args, **options)

    def act(
        self,
        observation: np.ndarray,
        base_action: np.ndarray,
        chunk_phase: float,
        **options: Any,
    ) -> tuple[np.ndarray, bool]:
        """Return action and whether noise was added; see `ResidualPolicy.act`."""
        if not self._use_residual:
            return super().act(observation, base_action, chunk_phase, **options)
        return super().act(observation, np.zeros_like(base_action), 0.0, **options)

    def identity(self, use_residual: bool) -> str:
        """Name what acts in an evaluation now; without weights that is not the base."""
        return f"{self.updates} updates" if use_residual else BASE_ALONE


def run(job: Job) -> Result:
    """Train, evaluate and return the totals."""
    from resfit_core.learner import Learner
    from resfit_core.train.off_policy import learn

    hashes = job.contract_sha256, job.base_sha256
    learner = Learner(
        job.config,
        job.obs_dim,
        job.act_dim,
        job.scale,
        *hashes,
        job.view,
        algorithm=Rlpd,
        image_shapes=job.image_shapes,
    )
    policy = BaselessPolicy(job.config, job.scale, *hashes, job.control_rate_hz, job.view)
    return learn(job, learner, policy)
