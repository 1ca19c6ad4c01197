"""The learner without a transport: episodes in, update budget, weights and checkpoints out."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from resfit_core import checkpoint, machine, tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.algorithms.resfit import ResFiT
from resfit_core.base.sight import Sight
from resfit_core.data.episode import EVALUATE, Episode
from resfit_core.data.mixed import MixedReplay
from resfit_core.data.replay import ReplayBuffer, ReplayError
from resfit_core.nets.encoder import ImageShapes
from resfit_core.nets.views import View
from resfit_core.residual import WEIGHTS_FORMAT


class LearnerError(ValueError):
    """Learning that came to nothing; the text names the number and the fix."""


class Learner:
    """Replay, algorithm and the update-to-data budget of one run. Not thread-safe.

    Learning starts when `warmup_episodes` training episodes have closed. From then on
    `critic_warmup_updates` plus `utd` updates per further environment step may be done, no more.
    """

    def __init__(
        self,
        config: TrainConfig,
        obs_dim: int,
        act_dim: int,
        scale: np.ndarray,
        contract_sha256: str,
        base_sha256: str,
        view: View | None = None,
        algorithm: Callable[..., ResFiT] = ResFiT,
        image_shapes: ImageShapes | None = None,
        sight: Sight | None = None,
    ) -> None:
        """Build an empty learner. Sets threads and allocator of the whole process (`machine`).

        Args:
            config: the settings.
            obs_dim: length of the observation, without the last action.
            act_dim: number of joints.
            scale: reach of the residual per joint, from `resolve_scale`. Shape (act_dim,).
            contract_sha256: hash that every episode and checkpoint must carry.
            base_sha256: likewise, of the frozen base policy.
            view: what actor and critic see, from `make_view`; None: the vectors as they are.
            algorithm: `ResFiT` or a subclass, called as it is.
            image_shapes: camera to (H, W, 3), uint8; none: no images.
            sight: turns the images of what comes in into numbers, which `obs_dim` counts; None:
                episodes are kept as they come.
        """
        machine.prepare(config.torch_threads)
        self.config = config
        self._sight = sight
        self.obs_dim, self.act_dim = obs_dim, act_dim
        self.image_shapes = {c: tuple(s) for c, s in (image_shapes or {}).items()}
        self.contract_sha256, self.base_sha256 = contract_sha256, base_sha256
        last = config.observe_last_action
        self.algorithm = algorithm(
            config, obs_dim + act_dim * last, act_dim, scale, view, image_shapes=image_shapes
        )
        native = config.kernels == "native"
        self.replay = MixedReplay(
            *(
                ReplayBuffer(obs_dim, act_dim, rows, image_shapes, native=native, last_action=last)
                for rows in (config.demo_capacity, config.replay_capacity)
            ),
            n_step=config.n_step,
            gamma=config.gamma,
            demo_fraction=config.demo_fraction,
            successes_to_demos=config.successes_to_demos,
            per_episode=config.demo_sampling == "episode",
            seed=config.seed,
        )
        self.env_steps = 0
        self.episodes = 0
        self.last_episode = 0
        self.seen: dict[int, int] = {}
        self.steps_at_start: int | None = None if config.warmup_episodes else 0
        self.normaliser_fitted = False

    @property
    def updates(self) -> int:
        """Critic updates done, the critic-only warm-up included."""
        return self.algorithm.critic_updates

    @property
    def learning_started(self) -> bool:
        """Whether the warm-up episodes are complete."""
        return self.steps_at_start is not None

    @property
    def steps_since_start(self) -> int:
        """Environment steps that the update budget counts."""
        return 0 if self.steps_at_start is None else self.env_steps - self.steps_at_start

    @property
    def updates_owed(self) -> int:
        """Updates that may be done now; 0 before learning starts."""
        if not self.learning_started or not (len(self.replay.demos) or len(self.replay.online)):
            return 0
        # The small addend keeps 0.29 * 100 = 28.999… from losing an update.
        earned = math.floor(self.config.utd * self.steps_since_start + 1e-6)
        return max(0, self.config.critic_warmup_updates + earned - self.updates)

    @property
    def utd_achieved(self) -> float:
        """Updates per step since learning started, the critic-only warm-up left out."""
        done = max(0, self.updates - self.config.critic_warmup_updates)
        return done / self.steps_since_start if self.steps_since_start else 0.0

    def add_demos(self, episodes: Iterable[Episode]) -> int:
        """Store demonstrations, relabelled with the base's actions; return how many were new.

        Failed ones are left out. The observation's z-score is taken from them.
        """
        added = 0
        for episode in episodes:
            self._check_hashes(episode)
            if episode.success:
                added += self.replay.add_demo(self._as_kept(episode))
        return added

    def add_episode(self, episode: Episode) -> bool:
        """Take in a closed episode.

        An evaluation is counted as seen and otherwise ignored. A corrected verdict (a higher
        revision) replaces the episode and is not counted again.

        Returns:
            False when that revision was already taken in.

        Raises:
            ReplayError: another contract or base policy, or another shape.
        """
        self._check_hashes(episode)
        if self.seen.get(episode.episode, -1) >= episode.revision:
            return False
        if episode.mode != EVALUATE:
            self.replay.add(self._as_kept(self._as_learned(episode)))
            if episode.episode not in self.seen:
                self.episodes += 1
                self.env_steps += episode.steps
        self.seen[episode.episode] = episode.revision
        self.last_episode = max(self.last_episode, episode.episode)
        if not self.learning_started and self.episodes >= self.config.warmup_episodes:
            self.steps_at_start = self.env_steps
        return True

    def train(
        self,
        max_updates: int | None = None,
        max_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        budgeted: bool = True,
    ) -> dict[str, float]:
        """Do the updates that are owed, up to either bound.

        Args:
            max_updates: most updates of this call; None: all that are owed.
            max_seconds: stop after this long, checked between updates; None: no limit.
            clock: source of time [s].
            budgeted: false: `max_updates` are done, whatever is owed (learning from bags alone).

        Returns:
            Mean of each metric over the updates done, and their number under `updates`.

        Raises:
            LearnerError: A metric is no longer finite; the learner must not be saved or used.
        """
        owed = self.updates_owed if budgeted else max_updates or 0
        budget = owed if max_updates is None else min(owed, max_updates)
        begin, done = clock(), 0
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        if budget:
            self._fit_normaliser()
        while done < budget:
            metrics = self.algorithm.update(self.replay.sample(self.config.batch_size))
            for name, value in metrics.items():
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + 1
            done += 1
            if max_seconds is not None and clock() - begin >= max_seconds:
                break
        means = {name: float(sums[name]) / counts[name] for name in sums}
        for name, value in means.items():
            if not math.isfinite(value):
                # Nothing brings nets back from NaN; saved or published they would do harm.
                raise LearnerError(
                    f"{name} is {value} within the {done} updates up to {self.updates}: learning "
                    "diverged; lower critic_lr and actor_lr or set grad_clip"
                )
        return {"updates": done, **means}

    def weights_bytes(self, version: int) -> bytes:
        """Return what the residual policy needs, as safetensors bytes.

        Args:
            version: counts up over the life of a run, from 1.
        """
        algorithm = self.algorithm
        tensors: dict[str, np.ndarray] = {}
        for prefix, net in algorithm.published().items():
            tensors |= {f"{prefix}.{k}": v.cpu().numpy() for k, v in net.state_dict().items()}
        tensors["scale"] = algorithm.scale.cpu().numpy()
        header = {
            "format": WEIGHTS_FORMAT,
            "version": int(version),
            "updates": self.updates,
            "env_steps": self.env_steps,
            "obs_dim": self.obs_dim,
            "act_dim": self.act_dim,
            "critic_view": self.config.critic_view,
            "observe_last_action": self.config.observe_last_action,
            "actor_width": self.config.actor_width,
            "layer_norm": self.config.layer_norm,
            "observation_clip": self.config.observation_clip,
            "image_shapes": {c: list(s) for c, s in sorted(self.image_shapes.items())},
            "vision": list(self.config.vision()),
            "contract_sha256": self.contract_sha256,
            "base_sha256": self.base_sha256,
        }
        return tensorfile.pack(tensors, header)

    def save(self, folder: str | Path, keep: int = 0) -> Path:
        """Write a checkpoint atomically, and keep the last few; see `resfit_core.checkpoint`."""
        return checkpoint.save(self, Path(folder), keep)

    def load(self, folder: str | Path, name: str = "learner.safetensors") -> None:
        """Go back to a checkpoint of the same contract, base and settings; see `checkpoint`."""
        checkpoint.load(self, Path(folder), name)

    def _as_kept(self, episode: Episode) -> Episode:
        return episode if self._sight is None else self._sight.of_episode(episode)

    def _fit_normaliser(self) -> None:
        """Take the z-score from the demos, or without demos from the warm-up; once."""
        if not self.normaliser_fitted:
            source = self.replay.demos if len(self.replay.demos) else self.replay.online
            self.algorithm.normaliser.fit(source.observations())
            self.normaliser_fitted = True

    def _as_learned(self, episode: Episode) -> Episode:
        """Return the episode as the critic takes it: a time-out may end it like a failure."""
        if self.config.timeout_bootstrap or not episode.truncated:
            return episode
        return dataclasses.replace(episode, terminated=True, truncated=False)

    def _check_hashes(self, episode: Episode) -> None:
        for name in ("contract_sha256", "base_sha256"):
            mine, theirs = getattr(self, name), getattr(episode, name)
            if mine != theirs:
                raise ReplayError(
                    f"episode {episode.episode}: {name} is {theirs[:12] or 'empty'}…, "
                    f"this learner was started with {mine[:12] or 'empty'}…; "
                    "use the matching contract and base (demos: relabel them with this base)"
                )
