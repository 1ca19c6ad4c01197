"""The residual actor: two hidden layers, LayerNorm, and a last layer of zeros."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def init_linear_(layer: nn.Linear, generator: torch.Generator) -> None:
    """Draw weight and bias uniformly within 1 / sqrt(fan_in), from the given generator."""
    bound = 1.0 / math.sqrt(layer.in_features)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)


class DropReLU(nn.Module):
    """ReLU behind dropout, whose draws come from a generator that a checkpoint can hold."""

    def __init__(self, share: float) -> None:
        """Drop nothing until `generator` is set: an acting policy has none."""
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations, what is left scaled up so that their mean stays."""
        if self.generator is not None:
            drawn = torch.rand(x.shape, generator=self.generator).to(x.device)
            x = x * (drawn >= self.share) / (1.0 - self.share)
        return torch.relu(x)


def let_drop(net: nn.Module, generator: torch.Generator) -> None:
    """Let a net's `DropReLU` drop from now on, as its training wants it."""
    for part in net.modules():
        if isinstance(part, DropReLU):
            part.generator = generator


class ResidualActor(nn.Module):
    """pi_res(s, a_base): raw residual, before tanh and scale (METHOD, recipe 2)."""

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        width: int,
        *,
        layer_norm: bool = True,
        generator: torch.Generator | None = None,
        base_columns: Tensor | None = None,
        dropout: float = 0.0,
    ) -> None:
        """Build it; the residual is exactly 0 until the first actor update.

        Args:
            obs_dim: length of the observation.
            act_dim: number of joints.
            width: units per hidden layer.
            layer_norm: LayerNorm before each ReLU.
            generator: of the initial weights.
            base_columns: which of the base's actions it sees, int64; None: all.
            dropout: share of hidden units that training leaves out (`let_drop`).
        """
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.register_buffer("base_columns", base_columns, persistent=False)
        seen = act_dim if base_columns is None else len(base_columns)
        first = nn.Linear(obs_dim + seen + 1, width)
        second, last = nn.Linear(width, width), nn.Linear(width, act_dim)
        init_linear_(first, generator)
        init_linear_(second, generator)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

        def norm() -> nn.Module:
            return nn.LayerNorm(width) if layer_norm else nn.Identity()

        def bend() -> nn.Module:
            return DropReLU(dropout) if dropout else nn.ReLU()

        self.net = nn.Sequential(first, norm(), bend(), second, norm(), bend(), last)

    def forward(self, observation: Tensor, base_action: Tensor, chunk_phase: Tensor) -> Tensor:
        """Return the raw residual.

        Args:
            observation: z-scored. Shape (batch, obs_dim).
            base_action: normalised. Shape (batch, act_dim).
            chunk_phase: Shape (batch, 1).

        Returns:
            Shape (batch, act_dim).
        """
        if self.base_columns is not None:
            base_action = base_action[:, self.base_columns]
        return self.net(torch.cat((observation, base_action, chunk_phase), 1))
