"""IBRL (Hu et al. 2024, arXiv 2311.02198): the BC policy proposes, the better proposal by Q acts.

    acting:  argmax over {base action, actor's action} of Q
    target:  y = sum_{i<k} gamma^i r_i + gamma^k max over the same two of min over 2 heads of Q'

The actor is a policy of its own (as in `rlpd`); the base's action of a step is the next one of its
open-loop chunk, as everywhere here. Critic and actor see the chunk phase, for the base's next
proposals depend on it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from resfit_core import tensorfile
from resfit_core.algorithms.config import NOISE_KINDS, TrainConfig
from resfit_core.algorithms.resfit import Batch, ResFiT
from resfit_core.algorithms.settings import setting
from resfit_core.baselines.rlpd import without_base
from resfit_core.data.episode import WARMUP
from resfit_core.data.replay import Windows
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.views import RawView, View
from resfit_core.nets.vision import Seen, SpatialCritic
from resfit_core.residual import ResidualPolicy, WeightsError

if TYPE_CHECKING:
    from resfit_core.train.job import Job, Result


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """Settings whose defaults differ from ours; noise is in action units, for the reach is 1.

    Hu et al. 2024 and its public settings for Robomimic from state: 5 critic updates and one of
    the actor every second step, exploration of deviation .1, smoothing clipped at .3, learning
    rates 1e-4, 3-step returns, targets at .01, half of the actor's units dropped in its updates
    and in the target, where a slow copy of it acts, 40 episodes of the BC policy before learning.
    Nets, ensemble and demo share are ours.
    """

    n_step: int = setting(3, "longest window, control steps", least=1, most=1000)
    tau: float = setting(0.01, "share by which targets move per critic update", above=0, most=1)
    critic_lr: float = setting(1e-4, "learning rate of the critic", least=0)
    actor_lr: float = setting(1e-4, "learning rate of the actor", least=0)
    actor_every: int = setting(5, "critic updates per actor update", least=1)
    actor_dropout: float = setting(0.5, "as in TrainConfig", least=0, most=0.9)
    target_actor: bool = setting(True, "slow copy of the actor in the target, as published")
    actor_base_weight: float = setting(0.0, "the actor stands alone: must be 0", least=0, most=0)
    actor_pessimism: float = setting(0.0, "the actor stands alone: must be 0", least=0, most=0)
    guard_confidence: float = setting(0.0, "ours alone: must be 0", least=0, most=0)
    utd: float = setting(2.5, "critic updates per environment step", least=0)
    target_noise_std: float = setting(0.1, "noise on the target action, action units", least=0)
    target_noise_clip: float = setting(0.3, "largest such noise, action units", least=0)
    exploration_kind: str = setting("white", "as in TrainConfig", choices=NOISE_KINDS)
    exploration_std: float = setting(0.1, "noise on the actor's proposal, action units", least=0)
    warmup_episodes: int = setting(40, "episodes of the base alone before learning", least=0)


@dataclasses.dataclass(frozen=True, eq=False)
class IbrlBatch(Batch):
    """A batch for a stand-alone actor, with what the base proposes at the next observation."""

    next_proposal: Tensor


class Ibrl(ResFiT):
    """ResFiT with an actor of its own and a target that may follow the base instead."""

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

    def batch(self, windows: Windows) -> IbrlBatch:
        """Turn a sample into tensors; the actor gets a base action of 0."""
        batch = super().batch(without_base(windows, phase=False))
        proposal = torch.from_numpy(windows.next_base_action).to(batch.action.device)
        return IbrlBatch(**vars(batch), next_proposal=proposal)

    def next_value(self, batch: Batch, heads: Tensor) -> Tensor:
        """Return the value of the better proposal, by the same heads. Shape (batch,)."""
        if not isinstance(batch, IbrlBatch):
            raise TypeError(f"batch is a {type(batch).__name__}; make it with Ibrl.batch")
        actor = self.least_next_q(batch, self.next_action(batch), heads)
        base = self.least_next_q(batch, batch.next_proposal, heads)
        return torch.maximum(actor, base)

    def published(self) -> dict[str, torch.nn.Module]:
        """Return the nets that acting needs: here the slow critic too."""
        return {**super().published(), "critic": self.target_critic}


def expected_least(q: Tensor, count: int) -> Tensor:
    """Return the mean, over all draws of `count` heads, of the least of them.

    The published rule draws two heads at each step; its mean needs no draw, so that acting
    without noise is the same each time.

    Args:
        q: shape (heads, batch).
        count: heads per draw, at most all.

    Returns:
        Shape (batch,).
    """
    heads = len(q)
    draws = math.comb(heads, count)
    # The i-th smallest is the least of a draw that takes the others from the larger ones.
    weights = [math.comb(heads - 1 - i, count - 1) / draws for i in range(heads)]
    return (q.sort(0).values * q.new_tensor(weights)[:, None]).sum(0)


class IbrlPolicy(ResidualPolicy):
    """Takes the better of the base's and the actor's action by the slow critic.

    In warm-up and without weights the base acts alone. `chose_actor` and `steps` count.
    """

    def __init__(
        self,
        config: TrainConfig,
        scale: np.ndarray,
        contract_sha256: str,
        base_sha256: str,
        control_rate_hz: float,
        view: View | None = None,
        **options: Any,
    ) -> None:
        """Start without weights; see `ResidualPolicy`."""
        ones = np.ones_like(np.asarray(scale, np.float32))
        super().__init__(
            config, ones, contract_sha256, base_sha256, control_rate_hz, view, **options
        )
        self._config = config
        self._critic: EnsembleCritic | SpatialCritic | None = None
        self.steps = self.chose_actor = 0

    def load(self, data: bytes, sha256: str | None = None) -> int:
        """Take new weights, the critic's included; see `ResidualPolicy.load`."""
        version = super().load(data, sha256)
        tensors, header = tensorfile.unpack(data, "weights")
        config, encoder = self._config, self._nets[2]
        added = header["act_dim"] if self.observes_last_action else 0
        view = self._view or RawView(header["obs_dim"] + added, header["act_dim"])
        sizes = (view.critic_obs_dim, view.critic_act_dim, config.critic_width, config.heads)
        options: dict[str, Any] = {
            "layer_norm": config.layer_norm,
            "generator": torch.Generator(),
        }
        critic: EnsembleCritic | SpatialCritic
        if encoder is None:
            critic = EnsembleCritic(*sizes, **options)
        else:
            critic = SpatialCritic(encoder.tokens, config.vision(), *sizes, **options)
        state = {
            name.removeprefix("critic."): torch.from_numpy(array.copy())
            for name, array in tensors.items()
            if name.startswith("critic.")
        }
        try:
            critic.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"weights: the critic does not fit the settings ({error})"
            ) from error
        self._critic, self._critic_sees = critic.requires_grad_(False), view
        return version

    @property
    def _nets(self) -> tuple[Any, ...]:
        if self._net is None:
            raise WeightsError("the policy has no weights yet; call load first")
        return self._net

    def act(
        self,
        observation: np.ndarray,
        base_action: np.ndarray,
        chunk_phase: float,
        **options: Any,
    ) -> tuple[np.ndarray, bool]:
        """Return the better action and whether it carries noise; see `ResidualPolicy.act`."""
        base = np.clip(np.asarray(base_action, np.float32), -1.0, 1.0)
        if not self._use_residual or self._mode == WARMUP or self._critic is None:
            return base, False
        own, noisy = super().act(observation, np.zeros_like(base), chunk_phase, **options)
        of_base, of_own = self.values(
            observation, chunk_phase, np.stack((base, own)), options.get("images")
        )
        self.steps += 1
        if of_own <= of_base:
            return base, False
        self.chose_actor += 1
        return own, noisy

    @torch.inference_mode()
    def values(
        self,
        observation: np.ndarray,
        chunk_phase: float,
        actions: np.ndarray,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return the critic's value of each action here.

        Args:
            observation: contract units. Shape (obs_dim,).
            chunk_phase: place in the base's chunk.
            actions: normalised. Shape (n, act_dim).
            images: camera to uint8 (H, W, 3), where the weights are for images.

        Returns:
            Shape (n,).
        """
        normaliser, _, encoder = self._nets
        count, view = len(actions), self._critic_sees
        raw = self.seen(observation)
        vector = view.critic_observation(normaliser(raw), raw).expand(count, -1)
        seen: Tensor | Seen = vector
        if encoder is not None:
            shown = {
                camera: torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
                for camera, image in (images or {}).items()
            }
            seen = Seen(vector, encoder(shown).expand(count, -1, -1))
        anchor = view.anchor(raw).expand(count, -1)
        action = view.critic_action(anchor, torch.from_numpy(actions))
        phase = torch.full((count, 1), float(chunk_phase))
        if self._critic is None:
            raise WeightsError("the policy has no weights yet; call load first")
        q = self._critic(seen, phase, action)
        return expected_least(q, self._config.target_heads).numpy()


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
        algorithm=Ibrl,
        image_shapes=job.image_shapes,
    )
    policy = IbrlPolicy(job.config, job.scale, *hashes, job.control_rate_hz, job.view)
    return learn(job, learner, policy)
