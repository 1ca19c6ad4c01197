"""The same update written the plain way: what `learner_speed.py` compares ours with.

A list of modules for the heads, `AdamW(foreach=True)`, `clip_grad_norm_`, all ten target heads
evaluated and two of them used, whole backward passes, images shifted with `grid_sample`, float32
throughout, eager. The networks have the sizes and layers of `resfit_core.nets`; `load_from` copies
their weights, so that a test can hold one against the other.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfit_core.algorithms.config import TrainConfig
from resfit_core.algorithms.resfit import ResFiT


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


class PlainCritic(nn.Module):
    """Ten heads, one after the other."""

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(mlp(inputs, width, 1) for _ in range(heads))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return Q. Shape (heads, batch)."""
        x = torch.cat((observation, action), 1)
        return torch.stack([head(x)[:, 0] for head in self.heads])


class PlainUpdate:
    """Critic and actor update on state observations, one function each."""

    def __init__(self, config: TrainConfig, obs_dim: int, act_dim: int, scale: float) -> None:
        self.config, self.scale = config, scale
        self.critic = PlainCritic(obs_dim + 1 + act_dim, config.critic_width, config.heads)
        self.actor = mlp(obs_dim + act_dim + 1, config.actor_width, act_dim)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_optimizer, self.actor_optimizer = (
            torch.optim.AdamW(
                net.parameters(), lr=lr, weight_decay=config.weight_decay, foreach=True
            )
            for net, lr in ((self.critic, config.critic_lr), (self.actor, config.actor_lr))
        )
        self.updates = 0

    def load_from(self, rule: ResFiT) -> None:
        """Take over the weights of ours."""
        with torch.no_grad():
            for mine, theirs in ((self.critic, rule.critic), (self.target_critic, rule.target_critic)):
                for head, net in enumerate(mine.heads):
                    for layer, n in ((0, "1"), (3, "2"), (6, "3")):
                        net[layer].weight.copy_(getattr(theirs, "weight" + n)[head].T)
                        net[layer].bias.copy_(getattr(theirs, "bias" + n)[head, 0])
                    for layer, n in ((1, "1"), (4, "2")):
                        net[layer].weight.copy_(getattr(theirs, "gain" + n)[head, 0])
                        net[layer].bias.copy_(getattr(theirs, "shift" + n)[head, 0])
            self.actor.load_state_dict(rule.actor.net.state_dict())

    def act(self, observation: Tensor, base: Tensor) -> Tensor:
        """Return base plus residual."""
        residual = self.actor(torch.cat((observation, base), 1))
        return base + self.scale * torch.tanh(residual)

    def update(self, batch: dict[str, Tensor], noise: Tensor, chosen: Tensor) -> None:
        """Do a critic update, every `actor_every`-th time an actor update too."""
        self.update_critic(batch, noise, chosen)
        self.updates += 1
        if self.updates % self.config.actor_every == 0:
            self.update_actor(batch)

    def update_critic(self, batch: dict[str, Tensor], noise: Tensor, chosen: Tensor) -> None:
        """One step on the critic, and the soft update of its target."""
        with torch.no_grad():
            action = self.act(batch["next_observation"], batch["next_base"]) + noise
            q = self.target_critic(batch["next_observation"], action.clamp(-1, 1))
            target = batch["reward"] + batch["discount"] * q[chosen].amin(0)
        loss = (self.critic(batch["observation"], batch["action"]) - target).square().mean()
        self.critic_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.critic.parameters(), self.config.grad_clip)
        self.critic_optimizer.step()
        with torch.no_grad():
            pairs = zip(self.target_critic.parameters(), self.critic.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, self.config.tau)

    def update_actor(self, batch: dict[str, Tensor]) -> None:
        """One step on the actor."""
        action = self.act(batch["observation"], batch["base"]).clamp(-1, 1)
        loss = -self.critic(batch["observation"], action).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), self.config.grad_clip)
        self.actor_optimizer.step()
