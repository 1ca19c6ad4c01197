"""The same update written the plain way: what `learner_speed.py` compares ours with.

A list of modules for the heads, `AdamW(foreach=True)`, `clip_grad_norm_`, all ten target heads
evaluated and two of them used, whole backward passes, state and action repeated for every channel
of the spatial embedding, images shifted with `grid_sample`; float32 throughout, eager. Layers and
sizes are those of `resfit_core.nets`; the weights are copied from ours, and a test holds one
update against the other.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfit_core.algorithms.resfit import ResFiT
from resfit_core.data.replay import Windows
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.vision import ImageActor, SpatialCritic


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Return two hidden layers with LayerNorm and ReLU, and a linear one."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LayerNorm(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )


def drq_shift(image: Tensor, pad: int) -> Tensor:
    """Shift images of shape (batch, H, W, 3) by `grid_sample`, as DrQ-v2 publishes it."""
    x = image.permute(0, 3, 1, 2).float()
    if not pad:
        return x
    count, _, height, width = x.shape
    x = F.pad(x, (pad,) * 4, "replicate")
    size = torch.tensor([width + 2 * pad, height + 2 * pad], dtype=torch.float32)
    across, down = (
        torch.linspace(-1 + 1 / s, 1 - 1 / s, int(s))[:n]
        for s, n in zip(size, (width, height), strict=True)
    )
    grid = torch.stack(
        (across.expand(height, width), down[:, None].expand(height, width)), 2
    ).expand(count, -1, -1, -1)
    shift = torch.randint(0, 2 * pad + 1, (count, 1, 1, 2)).float() * 2 / size
    return F.grid_sample(x, grid + shift, padding_mode="zeros", align_corners=False)


class PlainCritic(nn.Module):
    """The heads one after the other, behind the spatial embedding where there are images."""

    def __init__(self, critic: EnsembleCritic | SpatialCritic) -> None:
        super().__init__()
        spatial = isinstance(critic, SpatialCritic)
        ours = critic.ensemble if spatial else critic
        _, inputs, width = ours.weight1.shape
        self.heads = nn.ModuleList(mlp(inputs, width, 1) for _ in range(ours.heads))
        self.project = None
        with torch.no_grad():
            for head, net in enumerate(self.heads):
                for layer, n in ((0, "1"), (3, "2"), (6, "3")):
                    net[layer].weight.copy_(getattr(ours, "weight" + n)[head].T)
                    net[layer].bias.copy_(getattr(ours, "bias" + n)[head, 0])
                for layer, n in ((1, "1"), (4, "2")):
                    net[layer].weight.copy_(getattr(ours, "gain" + n)[head, 0])
                    net[layer].bias.copy_(getattr(ours, "shift" + n)[head, 0])
            if spatial:
                weight = torch.cat((critic.project.T, critic.side.weight), 1)
                self.project = nn.Linear(weight.shape[1], weight.shape[0])
                self.project.weight.copy_(weight)
                self.project.bias.copy_(critic.side.bias)
                self.norm, self.weight = copy.deepcopy(critic.norm), copy.deepcopy(critic.weight)

    def forward(self, tokens: Tensor | None, observation: Tensor, action: Tensor) -> Tensor:
        """Return Q. Shape (heads, batch)."""
        x = torch.cat((observation, action), 1)
        if tokens is not None:
            side = x[:, None].expand(-1, tokens.shape[2], -1)
            y = self.project(torch.cat((tokens.transpose(1, 2), side), 2))
            z = (F.relu(self.norm(y)) * self.weight).sum(1)
            # The vector without the chunk phase, then phase and action, as ours takes them.
            x = torch.cat((z, x), 1)
        return torch.stack([head(x)[:, 0] for head in self.heads])


class PlainUpdate:
    """Critic and actor update, one function each."""

    def __init__(self, rule: ResFiT) -> None:
        config = self.config = rule.config
        self.scale = float(rule.scale[0])
        self.critic = PlainCritic(rule.critic)
        self.encoders = copy.deepcopy(rule.encoder)
        if isinstance(rule.actor, ImageActor):
            self.compress = copy.deepcopy(rule.actor.compress)
            self.body = copy.deepcopy(rule.actor.actor.net)
        else:
            self.compress, self.body = None, copy.deepcopy(rule.actor.net)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_parameters = list(self.critic.parameters())
        if self.encoders is not None:
            self.critic_parameters += list(self.encoders.parameters())
        self.actor_parameters = list(self.body.parameters())
        if self.compress is not None:
            self.actor_parameters += list(self.compress.parameters())
        self.critic_optimizer, self.actor_optimizer = (
            torch.optim.AdamW(parameters, lr=lr, weight_decay=config.weight_decay, foreach=True)
            for parameters, lr in (
                (self.critic_parameters, config.critic_lr),
                (self.actor_parameters, config.actor_lr),
            )
        )
        self.updates = 0

    def batch(self, windows: Windows) -> dict[str, Tensor]:
        """Return the batch as tensors; observations are taken for z-scores already."""
        tensors = {n: torch.from_numpy(v) for n, v in vars(windows).items() if hasattr(v, "shape")}
        for when in ("", "next_"):
            parts = (tensors[f"{when}observation"], tensors[f"{when}chunk_phase"])
            tensors[f"{when}observation"] = torch.cat(parts, 1)
        return tensors

    def tokens(self, images: dict[str, Tensor]) -> Tensor | None:
        """Shift and encode."""
        if self.encoders is None:
            return None
        pad = self.config.image_shift
        return self.encoders({c: drq_shift(torch.from_numpy(i), pad) for c, i in images.items()})

    def act(self, tokens: Tensor | None, observation: Tensor, base: Tensor) -> Tensor:
        """Return base plus residual."""
        vector, phase = observation[:, :-1], observation[:, -1:]
        if tokens is not None:
            vector = torch.cat((vector, self.compress(tokens.flatten(1))), 1)
        residual = self.body(torch.cat((vector, base, phase), 1))
        return base + self.scale * torch.tanh(residual)

    def update(self, windows: Windows) -> None:
        """Do a critic update, every `actor_every`-th time an actor update too."""
        batch = self.batch(windows)
        tokens = self.tokens(windows.images)
        self.update_critic(batch, tokens, windows)
        self.updates += 1
        if self.updates % self.config.actor_every == 0:
            self.update_actor(batch, None if tokens is None else tokens.detach())

    def update_critic(
        self, batch: dict[str, Tensor], tokens: Tensor | None, windows: Windows
    ) -> None:
        """One step on critic and encoders, and the soft update of the critic's target."""
        config = self.config
        with torch.no_grad():
            after, observation = self.tokens(windows.next_images), batch["next_observation"]
            action = self.act(after, observation, batch["next_base_action"])
            noise = torch.randn_like(action) * config.target_noise_std
            limit = config.target_noise_clip
            action = action + noise.clamp(-limit, limit) * self.scale
            q = self.target_critic(after, observation, action.clamp(-1, 1))
            chosen = torch.randperm(config.heads)[: config.target_heads]
            target = batch["reward"] + batch["discount"] * q[chosen].amin(0)
        q = self.critic(tokens, batch["observation"], batch["action"])
        loss = (q - target).square().mean()
        self.critic_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.critic_parameters, config.grad_clip)
        self.critic_optimizer.step()
        with torch.no_grad():
            pairs = zip(self.target_critic.parameters(), self.critic.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, config.tau)

    def update_actor(self, batch: dict[str, Tensor], tokens: Tensor | None) -> None:
        """One step on the actor."""
        action = self.act(tokens, batch["observation"], batch["base_action"]).clamp(-1, 1)
        loss = -self.critic(tokens, batch["observation"], action).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.actor_parameters, self.config.grad_clip)
        self.actor_optimizer.step()
