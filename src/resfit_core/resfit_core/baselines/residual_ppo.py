"""Residual PPO, as in ResiP (Ankile et al. 2024, arXiv 2407.16677), on the same chunked base.

    action = clip(a_base + scale * tanh(u), -1, 1),   u ~ Normal(pi(s, a_base), std)

`pi` is our residual actor (last layer zero), the value V(s, a_base) our critic with one head. The
density is that of `u`: tanh, scale and clip are part of the environment, so no correction for
them is needed. Whole episodes are gathered one after the other until `ppo_batch_steps` steps are
there; then come up to `ppo_epochs` passes, ended early by the KL bound.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from resfit_core import machine
from resfit_core.algorithms.config import TrainConfig
from resfit_core.algorithms.settings import ConfigError, setting
from resfit_core.baselines import ppo, state
from resfit_core.control.combine import combine
from resfit_core.data.episode import TRAIN, Episode
from resfit_core.nets.actor import ResidualActor
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.normaliser import Normaliser
from resfit_core.residual import BASE_ALONE

if TYPE_CHECKING:
    from resfit_core.train.job import Job, Result

_FORMAT = "resfit-residual-ppo-1"


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """ResiP's published settings; replay, target and exploration settings have no effect.

    Deviations: one environment instead of 1,024, so that a batch is `ppo_batch_steps` instead of
    717k steps; constant learning rates instead of a cosine; rewards, being 0 or 1, are not
    normalised (advantages are).
    """

    gamma: float = setting(0.999, "discount per control step", least=0, most=1)
    actor_lr: float = setting(3e-4, "learning rate of the residual", least=0)
    critic_lr: float = setting(5e-3, "learning rate of the value", least=0)
    weight_decay: float = setting(0.0, "AdamW's decoupled decay", least=0)
    ppo_batch_steps: int = setting(4096, "steps gathered before each optimisation", least=2)
    ppo_epochs: int = setting(50, "most passes over a batch", least=1)
    ppo_minibatches: int = setting(1, "parts of a batch, one optimiser step each", least=1)
    ppo_lambda: float = setting(0.95, "of the advantage estimate", least=0, most=1)
    ppo_clip: float = setting(0.2, "largest change of the ratio", above=0, most=1)
    ppo_entropy: float = setting(0.0, "weight of the entropy", least=0)
    ppo_target_kl: float = setting(0.1, "a pass ends the optimisation above it", above=0)
    ppo_log_std: float = setting(-1.5, "first log deviation of u", least=-10, most=2)
    ppo_value_bias: float = setting(0.5, "first value of every state")
    ppo_timeout_ends: bool = setting(
        True,
        "a time-out ends the task, as published; false: bootstrapped, so that with this discount "
        "the first value of states that never succeed fades only over many batches",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Rollouts:
    """One batch of steps as tensors; N steps.

    Attributes:
        observation: z-scored. Shape (N, obs_dim).
        base_action: shape (N, act_dim).
        chunk_phase: shape (N, 1).
        raw: u of each step. Shape (N, act_dim).
        log_probability: of `raw` under the policy that acted. Shape (N,).
        advantage: shape (N,).
        returns: value targets. Shape (N,).
    """

    observation: Tensor
    base_action: Tensor
    chunk_phase: Tensor
    raw: Tensor
    log_probability: Tensor
    advantage: Tensor
    returns: Tensor

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.raw)

    def at(self, index: Tensor) -> Rollouts:
        """Return some steps."""
        return Rollouts(**{name: value[index] for name, value in vars(self).items()})


class GaussianResidual(ResidualActor):
    """The residual actor as the mean of a normal distribution of u, one deviation per joint."""

    def __init__(self, *sizes: int, log_std: float, **options: Any) -> None:
        """Build as `ResidualActor`; `log_std`: first log deviation."""
        super().__init__(*sizes, **options)
        self.log_std = nn.Parameter(torch.full((sizes[1],), log_std))


class ResidualPpo:
    """Nets, optimisers and the update. Not thread-safe."""

    def __init__(self, config: Config, obs_dim: int, act_dim: int) -> None:
        """Build everything from the configuration's seed."""
        self.config = config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.normaliser = Normaliser(
            obs_dim, config.observation_std_floor, config.observation_clip
        )
        self.actor = GaussianResidual(
            obs_dim,
            act_dim,
            config.actor_width,
            log_std=config.ppo_log_std,
            layer_norm=config.layer_norm,
            generator=self.generator,
        )
        self.value = EnsembleCritic(
            obs_dim,
            act_dim,
            config.critic_width,
            1,
            layer_norm=config.layer_norm,
            output_init=config.critic_output_init,
            generator=self.generator,
        )
        with torch.no_grad():
            self.value.bias3.fill_(config.ppo_value_bias)
        self.optimizers = {
            name: torch.optim.AdamW(
                net.parameters(), lr, eps=1e-5, weight_decay=config.weight_decay
            )
            for name, net, lr in (
                ("actor", self.actor, config.actor_lr),
                ("value", self.value, config.critic_lr),
            )
        }
        self.updates = 0
        self.iterations = 0

    @property
    def nets(self) -> dict[str, nn.Module]:
        """All nets by name."""
        return {"actor": self.actor, "value": self.value, "normaliser": self.normaliser}

    @torch.no_grad()
    def rollouts(self, episodes: Sequence[tuple[Episode, np.ndarray]]) -> Rollouts:
        """Turn episodes, each with u of its steps, into a batch under the present nets."""
        parts: dict[str, list[Tensor]] = {f.name: [] for f in dataclasses.fields(Rollouts)}
        for episode, raw in episodes:
            obs = self.normaliser(torch.from_numpy(episode.observation.copy()))
            base = torch.from_numpy(episode.base_action.copy())
            phase = torch.from_numpy(episode.chunk_phase[:, None].copy())
            value = self.value(obs, phase, base)[0]
            advantage = torch.from_numpy(
                ppo.advantages(
                    episode.reward,
                    value.numpy(),
                    episode.terminated or self.config.ppo_timeout_ends,
                    self.config.gamma,
                    self.config.ppo_lambda,
                )
            )
            sample = torch.from_numpy(raw)
            mean = self.actor(obs[:-1], base[:-1], phase[:-1])
            rows = {
                "observation": obs[:-1],
                "base_action": base[:-1],
                "chunk_phase": phase[:-1],
                "raw": sample,
                "log_probability": ppo.log_probability(sample, mean, self.actor.log_std),
                "advantage": advantage,
                "returns": advantage + value[:-1],
            }
            for name, row in rows.items():
                parts[name].append(row)
        return Rollouts(**{name: torch.cat(rows) for name, rows in parts.items()})

    def update(self, batch: Rollouts) -> dict[str, float]:
        """Do the passes over one batch; return the last metrics."""
        config = self.config
        metrics: dict[str, float] = {}
        passes = 0
        for passes in range(1, config.ppo_epochs + 1):  # noqa: B007 (reported below)
            order = torch.randperm(len(batch), generator=self.generator)
            for index in order.chunk(config.ppo_minibatches):
                metrics = self._step(batch.at(index))
                self.updates += 1
            if metrics["kl"] > config.ppo_target_kl:
                break
        self.iterations += 1
        return {
            **metrics,
            "passes": float(passes),
            "std": float(self.actor.log_std.detach().exp().mean()),
        }

    def _step(self, batch: Rollouts) -> dict[str, float]:
        """Take one step of both nets; the KL is that before it."""
        config = self.config
        mean = self.actor(batch.observation, batch.base_action, batch.chunk_phase)
        log_ratio = (
            ppo.log_probability(batch.raw, mean, self.actor.log_std) - batch.log_probability
        )
        advantage = batch.advantage
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = ppo.clipped_surrogate(log_ratio, advantage, config.ppo_clip)
        loss = surrogate - config.ppo_entropy * ppo.entropy(self.actor.log_std)
        value = self.value(batch.observation, batch.chunk_phase, batch.base_action)[0]
        value_loss = (value - batch.returns).square().mean()
        for name, net, objective in (
            ("actor", self.actor, loss),
            ("value", self.value, value_loss),
        ):
            optimizer = self.optimizers[name]
            optimizer.zero_grad(set_to_none=True)
            objective.backward()
            if config.grad_clip > 0:
                nn.utils.clip_grad_norm_(net.parameters(), config.grad_clip)
            optimizer.step()
        return {
            "actor_loss": float(surrogate.detach()),
            "value_loss": float(value_loss.detach()),
            "kl": float(ppo.approximate_kl(log_ratio.detach())),
        }


class PpoPolicy:
    """Base plus residual: sampled while training, the mean elsewhere."""

    def __init__(self, algorithm: ResidualPpo, scale: np.ndarray) -> None:
        """Act with the nets of `algorithm`, always as they are now."""
        self._algorithm = algorithm
        self._scale = np.asarray(scale, np.float32)
        self._trace: list[np.ndarray] = []

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Start an episode; its sampling depends on the run's seed and this one alone."""
        self._use_residual, self._sampling = use_residual, mode == TRAIN
        self._rng = np.random.default_rng([self._algorithm.config.seed, seed, 2])
        self._trace = []

    @torch.inference_mode()
    def act(
        self, observation: np.ndarray, base_action: np.ndarray, chunk_phase: float, **_: Any
    ) -> tuple[np.ndarray, bool]:
        """Return the action, and whether it was sampled."""
        if not self._use_residual:
            return np.clip(np.asarray(base_action, np.float32), -1.0, 1.0), False
        actor = self._algorithm.actor
        seen = self._algorithm.normaliser(
            torch.from_numpy(np.array(observation, np.float32)[None])
        )
        base = torch.from_numpy(np.array(base_action, np.float32)[None])
        raw = actor(seen, base, torch.full((1, 1), float(chunk_phase)))[0].numpy()
        if self._sampling:
            std = actor.log_std.exp().numpy()
            raw = raw + std * self._rng.standard_normal(raw.shape).astype(np.float32)
            self._trace.append(raw)
        return combine(base_action, raw, self._scale), self._sampling

    def executed(self, action_norm: np.ndarray) -> None:
        """Nothing to do: only off-policy learners observe the last action."""

    def identity(self, use_residual: bool) -> str:
        """Name what acts in an evaluation now; see `loop.Policy`."""
        return f"{self._algorithm.updates} updates" if use_residual else BASE_ALONE

    def taken(self) -> np.ndarray:
        """Return u of each step of the episode just played. Shape (T, act_dim)."""
        return np.stack(self._trace)


def run(job: Job) -> Result:
    """Train, evaluate and return the totals."""
    from resfit_core.loop import episode_record
    from resfit_core.train.job import Result

    if job.image_shapes:
        raise ConfigError(
            f"residual_ppo sees flat observations only, this task has the cameras "
            f"{sorted(job.image_shapes)}; use resfit, rlpd or ibrl"
        )
    config = job.config
    if not isinstance(config, Config):
        raise ConfigError(f"residual_ppo got a {type(config).__name__}; give it its own Config")
    machine.prepare(config.torch_threads)
    algorithm = ResidualPpo(config, job.obs_dim, job.act_dim)
    algorithm.normaliser.fit(np.concatenate([demo.observation[:-1] for demo in job.demos]))
    policy = PpoPolicy(algorithm, job.scale)
    path = job.checkpoints / "residual_ppo.safetensors"
    same = {
        "config": config.to_dict(),
        "contract_sha256": job.contract_sha256,
        "base_sha256": job.base_sha256,
    }
    env_steps = episodes = 0
    if job.resume and path.exists():
        header = state.load(path, _FORMAT, algorithm.nets, algorithm.optimizers, same)
        env_steps, episodes = header["env_steps"], header["episodes"]
        algorithm.updates, algorithm.iterations = header["updates"], header["iterations"]
    job.keep_records(episodes or -1)
    if not episodes and job.schedule.eval_due(None, 0):
        job.evaluate(policy, 0)
    gathered: list[tuple[Episode, np.ndarray]] = []
    for number in itertools.count(episodes + 1):
        if env_steps >= job.schedule.steps:
            break
        episode = job.play(policy, number, TRAIN)
        gathered.append((episode, policy.taken()))
        before, env_steps = env_steps, env_steps + episode.steps
        metrics: dict[str, float] = {}
        full = sum(played.steps for played, _ in gathered) >= config.ppo_batch_steps
        if full:
            # Set anew for each iteration, so that a resumed run draws the same minibatches.
            algorithm.generator.manual_seed(1_000_003 * config.seed + algorithm.iterations)
            metrics = algorithm.update(algorithm.rollouts(gathered))
            gathered = []
        job.record(
            episode_record(
                episode, env_steps=env_steps, updates=algorithm.updates, metrics=metrics
            )
        )
        if job.schedule.eval_due(before, env_steps):
            job.evaluate(policy, env_steps, number)
        if full:
            counters = {
                "env_steps": env_steps,
                "episodes": number,
                "updates": algorithm.updates,
                "iterations": algorithm.iterations,
            }
            state.save(path, _FORMAT, algorithm.nets, algorithm.optimizers, {**same, **counters})
    job.finish(policy)
    return Result(
        env_steps=env_steps,
        updates=algorithm.updates,
        extra={"iterations": algorithm.iterations},
    )
