"""ResFiT's update rule (Ankile et al. 2025, arXiv 2509.19301), readable from top to bottom.

    y = sum_{i<k} gamma^i r_i + gamma^k min_{2 random of 10} Q'(s', a')
    a' = clip(a_base' + scale * tanh(pi(s', a_base')) + clipped noise)
    critic: mean over heads and batch of (Q_i(s, a) - y)^2
    actor:  - mean over heads and batch of Q_i(s, a) + pessimism * std over heads of
            Q_i(s, a) - Q_i(s, a_base), with a = combine(a_base, pi(s, a_base))

Metrics come back as tensors: reading one is the caller's decision, so that no update waits for it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resfit_core import machine
from resfit_core.algorithms.config import TrainConfig
from resfit_core.data.replay import Windows
from resfit_core.nets import native
from resfit_core.nets.actor import ResidualActor, let_drop
from resfit_core.nets.combine import combine
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.encoder import Encoders, ImageShapes, random_shift
from resfit_core.nets.normaliser import Normaliser
from resfit_core.nets.optimiser import FlatAdamW, flatten
from resfit_core.nets.views import RawView, View
from resfit_core.nets.vision import ImageActor, Seen, SpatialCritic

Metrics = dict[str, Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """`Windows` as tensors, observations as actor and critic see them (`nets/views.py`).

    With images an observation is a `Seen`; the critic's holds the encoders' graph, which the
    critic's update uses up.
    """

    actor_observation: Tensor | Seen
    critic_observation: Tensor | Seen
    anchor: Tensor
    base_action: Tensor
    chunk_phase: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_actor_observation: Tensor | Seen
    next_critic_observation: Tensor | Seen
    next_anchor: Tensor
    next_base_action: Tensor
    next_chunk_phase: Tensor
    demos: int


class ResFiT:
    """Networks, optimisers and the two updates. Not thread-safe."""

    def __init__(
        self,
        config: TrainConfig,
        obs_dim: int,
        act_dim: int,
        scale: np.ndarray,
        view: View | None = None,
        image_shapes: ImageShapes | None = None,
    ) -> None:
        """Build everything from the configuration's seed.

        Args:
            config: the settings.
            obs_dim: length of the observation.
            act_dim: number of joints.
            scale: reach of the residual per joint. Shape (act_dim,).
            view: what actor and critic see; None: the vectors as they are.
            image_shapes: camera to (H, W, 3); none: no images.
        """
        self.config = config
        self.device = machine.device(config.device)
        if config.kernels == "native":
            native.compiled()  # what is missing is said now, not at the first update
        self.view = (view or RawView(obs_dim, act_dim)).to(self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        reach = np.broadcast_to(scale, act_dim).astype(np.float32)
        self.scale = torch.from_numpy(reach).to(self.device)
        self.normaliser = Normaliser(
            obs_dim, config.observation_std_floor, config.observation_clip
        )
        self.encoder = _encoders(config, image_shapes or {}, self.generator)
        self.actor = self._build_actor(act_dim)
        self.critic = self._build_critic()
        for net in (self.normaliser, self.actor, self.critic, self.encoder):
            if net is not None:
                net.to(self.device)
        self.target_critic = _frozen_copy(self.critic)
        self.target_actor = _frozen_copy(self.actor)
        self.acting_actor = _frozen_copy(self.actor) if config.actor_average else None
        # The target's too: it is the same policy, only older.
        let_drop(self.actor, self.generator)
        let_drop(self.target_actor, self.generator)
        # One vector each: the soft update is one operation.
        self._critic_target = flatten(list(self.target_critic.parameters()))
        self._actor_target = flatten(list(self.target_actor.parameters()))
        if self.acting_actor is not None:
            self._acting = flatten(list(self.acting_actor.parameters()))
        # The critic's parameters come first, the encoders' after them.
        seeing = [] if self.encoder is None else self.encoder.parameters()
        self.critic_optimizer = _adamw(
            [*self.critic.parameters(), *seeing], config.critic_lr, config
        )
        self.actor_optimizer = _adamw(self.actor.parameters(), config.actor_lr, config)
        self.critic_updates = 0
        self.actor_updates = 0

    def _build_actor(self, act_dim: int) -> ResidualActor | ImageActor:
        config, obs_dim = self.config, self.view.actor_obs_dim
        options: dict[str, Any] = {
            "layer_norm": config.layer_norm,
            "generator": self.generator,
            "dropout": config.actor_dropout,
        }
        if self.encoder is None:
            options["base_columns"] = self.view.base_columns
            return ResidualActor(obs_dim, act_dim, config.actor_width, **options)
        seen = (self.encoder.tokens, config.vision())
        return ImageActor(*seen, obs_dim, act_dim, config.actor_width, **options)

    def _build_critic(self) -> EnsembleCritic | SpatialCritic:
        config, view = self.config, self.view
        sizes = (view.critic_obs_dim, view.critic_act_dim, config.critic_width, config.heads)
        options: dict[str, Any] = {
            "layer_norm": config.layer_norm,
            "output_init": config.critic_output_init,
            "use_native": config.kernels == "native",
            "generator": self.generator,
        }
        if self.encoder is None:
            return EnsembleCritic(*sizes, **options)
        return SpatialCritic(self.encoder.tokens, config.vision(), *sizes, **options)

    @torch.no_grad()
    def batch(self, windows: Windows) -> Batch:
        """Turn a sampled batch into tensors, as actor and critic see it, once for all uses."""
        tensors = {
            name: self._tensor(value)
            for name, value in vars(windows).items()
            if isinstance(value, np.ndarray)
        }
        # Now and next in one go: what costs is the number of operations.
        both = ("", "next_")
        raw = torch.cat([tensors.pop(f"{when}observation") for when in both])
        base = torch.cat([tensors[f"{when}base_action"] for when in both])
        z = self.normaliser(raw)
        for name, seen in (
            ("actor_observation", self.view.actor_observation(z, raw, base)),
            ("critic_observation", self.view.critic_observation(z, raw)),
            ("anchor", self.view.anchor(raw)),
        ):
            for when, half in zip(both, seen.chunk(2), strict=True):
                tensors[f"{when}{name}"] = half
        if self.encoder is not None:
            with torch.enable_grad():
                tokens = self._tokens(windows.images)
            for when, seen in (("", tokens), ("next_", self._tokens(windows.next_images))):
                for who, its in (("actor", seen.detach()), ("critic", seen)):
                    name = f"{when}{who}_observation"
                    tensors[name] = Seen(tensors[name], its)
        return Batch(**tensors, demos=windows.demos)

    def _tokens(self, images: Mapping[str, np.ndarray]) -> Tensor:
        """Return the shifted images' tokens, by the current encoders (as in DrQ-v2)."""
        pad = self.config.image_shift
        shifted = {
            camera: random_shift(self._tensor(image), pad, self.generator)
            for camera, image in sorted(images.items())
        }
        if self.device.type == "cpu":
            return self.encoder.in_pieces(shifted)  # type: ignore[union-attr]
        return self.encoder(shifted)  # type: ignore[misc]

    def _tensor(self, value: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(value)
        if self.device.type == "cpu":
            return tensor
        # One copy, dense, whatever the strides: torch reuses pinned memory once it was read.
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
        return pinned.to(self.device, non_blocking=True)

    def update(self, windows: Windows) -> Metrics:
        """Do one critic update and, when it is due, one actor update.

        The actor stays off during the first `critic_warmup_updates`.
        """
        with machine.products(self.config.matmul_dtype, self.device):
            batch = self.batch(windows)
            metrics = self.update_critic(batch)
            after_warmup = self.critic_updates - self.config.critic_warmup_updates
            if after_warmup > 0 and after_warmup % self.config.actor_every == 0:
                metrics |= self.update_actor(batch)
        return metrics

    def update_critic(self, batch: Batch) -> Metrics:
        """Move every head towards the target, and the target networks towards them."""
        target = self.target(batch)
        seen = self.view.critic_action(batch.anchor, batch.action)
        q = self.critic(
            batch.critic_observation, batch.chunk_phase, seen, into=self.critic_optimizer
        )
        error = q - target
        # Mean of the squares, per head: (mean over heads of |error|)^2 would let one head's error
        # hide behind the others' (METHOD, "stumbled over").
        loss = error.square().mean()
        norm = self._step(self.critic_optimizer, self.critic_optimizer.parameters, loss)
        self.critic_updates += 1
        self.soft_update_targets()
        return {
            "critic_loss": loss.detach(),
            "q_mean": q.detach().mean(),
            "target_mean": target.mean(),
            "critic_grad_norm": norm,
        }

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Return y. Shape (batch,). Only the randomly chosen target heads are computed."""
        config = self.config
        chosen = torch.randperm(config.heads, generator=self.generator)[: config.target_heads]
        chosen = chosen.to(self.device)
        target = torch.addcmul(batch.reward, batch.discount, self.next_value(batch, chosen))
        return target.clamp_(0.0, 1.0) if config.target_clip else target

    def next_value(self, batch: Batch, heads: Tensor) -> Tensor:
        """Return what the policy will earn from the next observation on. Shape (batch,)."""
        return self.least_next_q(batch, self.next_action(batch), heads)

    def next_action(self, batch: Batch) -> Tensor:
        """Return the policy's action at the next observation, smoothed by clipped noise."""
        config = self.config
        actor = self.target_actor if config.target_actor else self.actor
        residual = actor(
            batch.next_actor_observation, batch.next_base_action, batch.next_chunk_phase
        )
        noise = torch.randn(residual.shape, generator=self.generator).to(self.device)
        noise = noise.mul_(config.target_noise_std)
        noise = noise.clamp_(-config.target_noise_clip, config.target_noise_clip).mul_(self.scale)
        return combine(batch.next_base_action, residual, self.scale, noise)

    def least_next_q(self, batch: Batch, action: Tensor, heads: Tensor) -> Tensor:
        """Return the least of these target heads for an action taken next. Shape (batch,)."""
        seen = self.view.critic_action(batch.next_anchor, action)
        q = self.target_critic(
            batch.next_critic_observation, batch.next_chunk_phase, seen, heads=heads
        )
        return q.amin(0)

    def published(self) -> dict[str, torch.nn.Module]:
        """Return the nets that the acting policy needs, by the prefix of their tensors."""
        actor = self.actor if self.acting_actor is None else self.acting_actor
        nets: dict[str, torch.nn.Module] = {"actor": actor, "normaliser": self.normaliser}
        return nets if self.encoder is None else {**nets, "encoder": self.encoder}

    def update_actor(self, batch: Batch) -> Metrics:
        """Ascend the heads' mean, less their doubt; the critic's gradients stay untouched."""
        residual = self.actor(batch.actor_observation, batch.base_action, batch.chunk_phase)
        action = combine(batch.base_action, residual, self.scale)
        seen = self.view.critic_action(batch.anchor, action)
        heads = self.critic(batch.critic_observation, batch.chunk_phase, seen, frozen=True)
        q = heads.mean(0)
        loss = -q.mean()
        size = torch.tanh(residual)[:, self.scale > 0].square().sum(1).mean()
        metrics = {"actor_q": -loss.detach(), "residual_size": size.detach()}
        pessimism = self.config.pessimism(self.critic_updates)
        if pessimism > 0.0:
            gain, doubt = self._gain(batch, heads)
            loss = loss + pessimism * doubt
            metrics |= {"actor_gain": gain.detach(), "actor_doubt": doubt.detach()}
        weight = self.config.actor_bc(self.actor_updates)
        if weight > 0.0 and batch.demos:
            pull = self._demo_pull(batch, action, q.detach())
            loss = loss + weight * pull
            metrics["actor_bc"] = pull.detach()
        if self.config.actor_base_weight > 0.0:
            loss = loss + self.config.actor_base_weight * size
        metrics["actor_loss"] = loss.detach()
        metrics["actor_grad_norm"] = self._step(
            self.actor_optimizer, self._parameters(self.actor), loss
        )
        self.actor_updates += 1
        if self.acting_actor is not None:
            # The window grows with the updates: no lag at first, little noise later.
            share = 1.0 / (1.0 + self.config.actor_average * self.actor_updates)
            with torch.no_grad():
                self._acting.lerp_(self.actor_optimizer.flat.detach(), share)
        return metrics

    def _gain(self, batch: Batch, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much the action is worth more than the base's, and the heads' doubt of it.

        The difference is taken head by head, so that what a head thinks of the *state* cancels.
        Near the base the doubt grows in proportion to the residual, with a kink at 0: the actor
        moves only where the heads agree on the direction (docs/decisions/0005-no-dip.md).
        """
        with torch.no_grad():
            seen = self.view.critic_action(batch.anchor, batch.base_action)
            q_base = self.critic(batch.critic_observation, batch.chunk_phase, seen)
        gain = heads - q_base
        # The addend keeps the root's slope finite where the residual is exactly 0.
        doubt = (gain.var(0) + 1e-8).sqrt()
        return gain.mean(), doubt.mean()

    def _demo_pull(self, batch: Batch, action: Tensor, q: Tensor) -> Tensor:
        """Return the mean squared distance to the demo action, in units of the scale.

        The demo action is first brought within the residual's reach: what cannot be reached must
        not drive tanh into saturation. Joints of scale 0 do not count.
        """
        n, live = batch.demos, self.scale > 0
        base, demo = batch.base_action[:n], batch.action[:n]
        reachable = (demo - base).clamp(-self.scale, self.scale) + base
        error = ((action[:n] - reachable)[:, live] / self.scale[live]).square().mean(1)
        if self.config.actor_bc_q_filter:
            with torch.no_grad():
                seen = self.view.critic_action(batch.anchor[:n], demo)
                q_demo = self.critic(
                    batch.critic_observation[:n], batch.chunk_phase[:n], seen
                ).mean(0)
                error = error * (q_demo > q[:n])
        return error.mean()

    @torch.no_grad()
    def soft_update_targets(self) -> None:
        """Move the target networks by `tau`."""
        critic = self.critic_optimizer.flat.detach()[: len(self._critic_target)]
        self._critic_target.lerp_(critic, self.config.tau)
        if self.config.target_actor:
            self._actor_target.lerp_(self.actor_optimizer.flat.detach(), self.config.tau)

    def _parameters(self, net: torch.nn.Module) -> list[Tensor]:
        return list(net.parameters())

    def _step(self, optimizer: FlatAdamW, parameters: list[Tensor], loss: Tensor) -> Tensor:
        """Take one clipped step on these parameters alone; return the gradient's norm.

        `autograd.grad` computes gradients for these parameters and no others, so the actor's
        update costs no critic weight gradients.
        """
        return optimizer.step_on(torch.autograd.grad(loss, parameters))


def _frozen_copy(net: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(net).requires_grad_(False)


def _encoders(
    config: TrainConfig, shapes: ImageShapes, generator: torch.Generator
) -> Encoders | None:
    return Encoders(shapes, config.vision(), generator) if shapes else None


def _adamw(parameters: Iterable[Tensor], lr: float, config: TrainConfig) -> FlatAdamW:
    return FlatAdamW(parameters, lr, config.weight_decay, config.grad_clip)
