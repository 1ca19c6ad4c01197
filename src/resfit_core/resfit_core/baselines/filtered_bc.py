"""Filtered BC: roll the policy out, add its successes to the demonstrations, go on with BC.

METHOD, "Baselines". What is trained is a copy of the chunked base, with the base's own loss (L1 on
whole chunks), executed open loop as the base is. A base that brings trainable parameters
(TorchScript) is copied. Any other is a black box: a small chunked net of ours first learns its
plans, on the demonstrations' observations and on those of the warm-up, and is trained instead.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from resfit_core import machine, tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.algorithms.settings import ConfigError, setting
from resfit_core.base.protocol import ChunkedBase
from resfit_core.baselines import state
from resfit_core.baselines.students import Chunks, copy_of, masked_l1, new_net, plans
from resfit_core.data.episode import TRAIN, WARMUP, Episode
from resfit_core.residual import BASE_ALONE

if TYPE_CHECKING:
    from resfit_core.train.job import Job, Result

_FORMAT = "resfit-filtered-bc-1"


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """METHOD names no numbers; loss and learning rate are those of its BC, the rest is ours.

    The warm-up episodes are played by the base itself. Settings of critic, actor, replay and
    exploration have no effect.
    """

    bc_every: int = setting(10, "episodes between two trainings", least=1)
    bc_updates: int = setting(500, "optimiser steps per training", least=1)
    bc_batch: int = setting(256, "chunks per step", least=1)
    bc_lr: float = setting(1e-4, "learning rate (METHOD: 1e-4)", above=0)
    bc_distil_updates: int = setting(3000, "steps in which our net learns a black box", least=1)
    bc_distil_lr: float = setting(5e-4, "learning rate of that, falling to bc_lr", above=0)
    bc_width: int = setting(128, "token width of our net; a multiple of 4", least=4)


class FilteredBc:
    """The copy, its optimiser and what it learns from. Not thread-safe."""

    def __init__(self, config: Config, base: Any, obs_dim: int, demos: Sequence[Episode]) -> None:
        """Copy the base where it can be copied, and take in the demonstrations."""
        self.config, self.base = config, base
        self.data = Chunks(base.chunk_length)
        self.seen = [demo.observation[:-1] for demo in demos]
        for demo in demos:
            self.data.add(demo)
        if not len(self.data):
            raise ConfigError("filtered_bc needs at least one successful demonstration")
        copied = copy_of(base, obs_dim)
        self.distilled = copied is None
        # A black box's net is filled by `distil` or from a checkpoint; until then the base acts.
        self.ready = copied is not None
        self.student: nn.Module = copied or new_net(
            np.concatenate(self.seen),
            base.chunk_length,
            demos[0].action.shape[1],
            width=config.bc_width,
            std_floor=config.observation_std_floor,
            seed=config.seed,
        )
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), config.bc_lr, weight_decay=config.weight_decay
        )
        self.updates = self.rounds = 0

    def distil(self) -> float:
        """Let our net learn the plans of the black box; return the last tenth's mean L1."""
        config, observations = self.config, np.concatenate(self.seen)
        wanted = torch.from_numpy(plans(self.base, observations))
        seen = torch.from_numpy(observations)
        rng = np.random.default_rng([config.seed, 4])
        losses = []
        for step in range(config.bc_distil_updates):
            share = step / config.bc_distil_updates
            self._rate(config.bc_distil_lr * (config.bc_lr / config.bc_distil_lr) ** share)
            index = torch.from_numpy(rng.integers(0, len(seen), config.bc_batch))
            loss = (self.student(seen[index]) - wanted[index]).abs().mean()
            losses.append(self._step(loss))
        self._rate(config.bc_lr)
        self.ready = True
        return float(np.mean(losses[-max(1, len(losses) // 10) :]))

    def train(self) -> dict[str, float]:
        """Go on with BC for `bc_updates` steps on demonstrations and successes alike."""
        rng = np.random.default_rng([self.config.seed, 5, self.rounds])
        losses = []
        for _ in range(self.config.bc_updates):
            obs, action, mask = self.data.sample(rng, self.config.bc_batch)
            losses.append(self._step(masked_l1(self.student(obs), action, mask)))
        self.rounds += 1
        return {"bc_loss": float(np.mean(losses)), "successes": float(self.data.episodes)}

    def _rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, loss: Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.grad_clip > 0:
            nn.utils.clip_grad_norm_(self.student.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.updates += 1
        return loss.item()


class StudentPolicy:
    """Executes the copy's chunks open loop; until there is a copy, and where asked, the base."""

    def __init__(self, algorithm: FilteredBc) -> None:
        """Act with the copy as it is now."""
        self._algorithm = algorithm
        base = algorithm.base
        self._chunks = ChunkedBase(
            self._plan,
            base.chunk_length,
            base.action_space,
            base.base_sha256,
            base.contract_sha256,
        )

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Drop the chunk; without `use_residual` the base acts."""
        del seed, mode  # nothing here is random
        self._chunks.reset()
        self._own = use_residual and self._algorithm.ready

    def act(
        self, observation: np.ndarray, base_action: np.ndarray, chunk_phase: float, **_: Any
    ) -> tuple[np.ndarray, bool]:
        """Return the next action of the chunk; never explores."""
        if not self._own:
            return np.clip(np.asarray(base_action, np.float32), -1.0, 1.0), False
        return self._chunks.act(observation).action_norm, False

    def executed(self, action_norm: np.ndarray) -> None:
        """Nothing to do: only off-policy learners observe the last action."""

    def identity(self, use_residual: bool) -> str:
        """Name what acts in an evaluation now; see `loop.Policy`."""
        own = use_residual and self._algorithm.ready
        return f"{self._algorithm.updates} updates" if own else BASE_ALONE

    @torch.no_grad()  # inference_mode would leave constants in a script that cannot be trained on
    def _plan(self, observation: np.ndarray, images: Any) -> np.ndarray:
        row = torch.from_numpy(np.array(observation, np.float32)[None])
        return self._algorithm.student(row)[0].numpy()


def run(job: Job) -> Result:
    """Train, evaluate and return the totals."""
    from resfit_core.loop import episode_record
    from resfit_core.train.job import Result

    if job.image_shapes:
        raise ConfigError(
            f"filtered_bc sees flat observations only, this task has the cameras "
            f"{sorted(job.image_shapes)}; use resfit, rlpd or ibrl"
        )
    config = job.config
    if not isinstance(config, Config):
        raise ConfigError(f"filtered_bc got a {type(config).__name__}; give it its own Config")
    machine.prepare(config.torch_threads)
    algorithm = FilteredBc(config, job.base, job.obs_dim, job.demos)
    policy = StudentPolicy(algorithm)
    path = job.checkpoints / "filtered_bc.safetensors"
    same = {
        "config": config.to_dict(),
        "contract_sha256": job.contract_sha256,
        "base_sha256": job.base_sha256,
        "distilled": algorithm.distilled,
    }
    env_steps = episodes = 0
    if job.resume and path.exists():
        header = _resume(algorithm, path, same)
        env_steps, episodes = header["env_steps"], header["episodes"]
    job.keep_records(episodes or -1)
    if not episodes and job.schedule.eval_due(None, 0):
        job.evaluate(policy, 0)
    for number in itertools.count(episodes + 1):
        if env_steps >= job.schedule.steps:
            break
        warmup = number <= config.warmup_episodes
        episode = job.play(policy, number, WARMUP if warmup else TRAIN, use_residual=not warmup)
        before, env_steps = env_steps, env_steps + episode.steps
        if algorithm.data.add(episode):
            tensorfile.write_atomic(_success_path(path, number), episode.to_bytes())
        metrics: dict[str, float] = {}
        trained = False
        if warmup and algorithm.distilled:
            algorithm.seen.append(episode.observation[:-1])
        if number >= config.warmup_episodes and not algorithm.ready:
            metrics["distil_loss"] = algorithm.distil()
        if number >= config.warmup_episodes and number % config.bc_every == 0:
            metrics |= algorithm.train()
            trained = True
        job.record(
            episode_record(
                episode,
                env_steps=env_steps,
                updates=algorithm.updates,
                metrics=metrics,
                use_residual=not warmup,
            )
        )
        if job.schedule.eval_due(before, env_steps):
            job.evaluate(policy, env_steps, number)
        if trained:
            counters = {
                "env_steps": env_steps,
                "episodes": number,
                "updates": algorithm.updates,
                "rounds": algorithm.rounds,
            }
            nets, optimizers = {"student": algorithm.student}, {"student": algorithm.optimizer}
            state.save(path, _FORMAT, nets, optimizers, {**same, **counters})
    job.finish(policy)
    return Result(
        env_steps=env_steps,
        updates=algorithm.updates,
        extra={"distilled": algorithm.distilled, "success_episodes": algorithm.data.episodes},
    )


def _success_path(path: Path, number: int) -> Path:
    return path.parent / "successes" / f"episode_{number:06d}.safetensors"


def _resume(algorithm: FilteredBc, path: Path, same: dict[str, Any]) -> dict[str, Any]:
    """Bring student and successes to the checkpoint; return its header."""
    nets, optimizers = {"student": algorithm.student}, {"student": algorithm.optimizer}
    header = state.load(path, _FORMAT, nets, optimizers, same)
    algorithm.ready = True
    algorithm.updates, algorithm.rounds = header["updates"], header["rounds"]
    for number in range(1, header["episodes"] + 1):
        success = _success_path(path, number)
        if success.exists():
            algorithm.data.add(Episode.from_bytes(success.read_bytes()))
    return header
