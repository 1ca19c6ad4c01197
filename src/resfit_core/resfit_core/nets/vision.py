"""Pixels: what critic and actor make of the encoders' tokens (`nets/encoder.py`).

The critic's loss alone trains the encoders; the actor gets their tokens detached.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resfit_core.nets.actor import ResidualActor, init_linear_
from resfit_core.nets.critic import EnsembleCritic
from resfit_core.nets.encoder import VisionSizes

_CHUNK = 16  # samples whose spatial embedding is in work at once: 8 MB at the published sizes


class Seen:
    """An observation with images as a net takes it; can be sliced like its vector."""

    def __init__(self, vector: Tensor, tokens: Tensor) -> None:
        """Join the vector, shape (batch, n), and the tokens, shape (batch, tokens, width)."""
        self.vector, self.tokens = vector, tokens

    def __getitem__(self, index: Any) -> Seen:
        return Seen(self.vector[index], self.tokens[index])


class SpatialCritic(nn.Module):
    """The ensemble behind a spatial embedding of the tokens (as in IBRL, arXiv 2311.02198).

    Each of the tokens' channels, seen over all tokens and joined with state and action, goes
    through one linear layer, LayerNorm and ReLU; the channels are then added up with learned
    weights. The heads see the sum, the state and the action.
    """

    def __init__(
        self,
        tokens: int,
        sizes: VisionSizes,
        obs_dim: int,
        act_dim: int,
        width: int,
        heads: int,
        *,
        layer_norm: bool = True,
        output_init: float = 3e-3,
        use_native: bool = False,
        generator: torch.Generator,
    ) -> None:
        """Build it; see `EnsembleCritic` for the rest.

        Args:
            tokens: number of tokens of all cameras.
            sizes: `width` and `embedding` are used.
            obs_dim: length of the vector part.
            act_dim: number of joints.
            width: units per hidden layer of a head.
            heads: size of the ensemble.
            layer_norm: LayerNorm in the heads.
            output_init: half-range of the last layer's weights.
            use_native: see `EnsembleCritic`.
            generator: of the initial weights.
        """
        super().__init__()
        size = sizes.embedding
        self.side = nn.Linear(obs_dim + 1 + act_dim, size)
        self.project = nn.Parameter(torch.empty(tokens, size))
        self.norm = nn.LayerNorm(size)
        self.weight = nn.Parameter(torch.empty(sizes.width, size))
        # One layer in two parts, so that the part that all channels share is computed once.
        bound = 1.0 / math.sqrt(tokens + obs_dim + 1 + act_dim)
        with torch.no_grad():
            for part in (self.side.weight, self.side.bias, self.project):
                part.uniform_(-bound, bound, generator=generator)
            self.weight.normal_(0.0, 1.0 / math.sqrt(sizes.width), generator=generator)
        self.ensemble = EnsembleCritic(
            size + obs_dim,
            act_dim,
            width,
            heads,
            layer_norm=layer_norm,
            output_init=output_init,
            use_native=use_native,
            generator=generator,
        )

    def forward(
        self,
        observation: Seen,
        chunk_phase: Tensor,
        action: Tensor,
        heads: Tensor | None = None,
        frozen: bool = False,
        **options: Any,
    ) -> Tensor:
        """Return Q; see `EnsembleCritic.forward`. `frozen` stops the tokens' gradient too."""

        def held(parameter: Tensor) -> Tensor:
            return parameter.detach() if frozen else parameter

        vector, tokens = observation.vector, held(observation.tokens)
        side = F.linear(
            torch.cat((vector, chunk_phase, action), 1),
            held(self.side.weight),
            held(self.side.bias),
        )
        parts = (self.project, self.norm.weight, self.norm.bias, self.weight)
        z = embed(tokens, side, *(held(part) for part in parts))
        seen = torch.cat((z, vector), 1)
        return self.ensemble(seen, chunk_phase, action, heads=heads, frozen=frozen, **options)


def embed_at_once(
    tokens: Tensor, side: Tensor, project: Tensor, gain: Tensor, shift: Tensor, weight: Tensor
) -> Tensor:
    """Return the spatial embedding.

    Args:
        tokens: Shape (batch, tokens, width).
        side: state's and action's share of the layer. Shape (batch, embedding).
        project: the tokens' share. Shape (tokens, embedding).
        gain: LayerNorm's. Shape (embedding,); likewise `shift`.
        shift: see `gain`.
        weight: of the channels in the sum. Shape (width, embedding).

    Returns:
        Shape (batch, embedding).
    """
    batch, count, width = tokens.shape
    y = (tokens.transpose(1, 2).reshape(-1, count) @ project).view(batch, width, -1)
    y = F.relu_(F.layer_norm(y.add_(side[:, None]), y.shape[2:], gain, shift))
    # Not einsum: it would turn this into a thousand products of a vector each.
    return (y * weight).sum(1)


def embed(tokens: Tensor, side: Tensor, *parameters: Tensor) -> Tensor:
    """Return `embed_at_once`, chunk by chunk of the batch and without keeping what lies between.

    At the published sizes that would be 134 MB per activation and batch; computing it anew in the
    backward pass, within the cache, is faster.
    """
    if tokens.is_cuda:
        return embed_at_once(tokens, side, *parameters)
    return _Embed.apply(tokens, side, *parameters)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, side: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, side, *parameters)
        pieces = zip(tokens.split(_CHUNK), side.split(_CHUNK), strict=True)
        return torch.cat([embed_at_once(*piece, *parameters) for piece in pieces])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, side, *parameters = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        leaves = [
            p.detach().requires_grad_(w) for p, w in zip(parameters, wanted[2:], strict=True)
        ]
        sums = [torch.zeros_like(p) if p.requires_grad else None for p in leaves]
        rows: tuple[list[Tensor], list[Tensor]] = ([], [])
        for piece in zip(*(x.split(_CHUNK) for x in (tokens, side, gradient)), strict=True):
            with torch.enable_grad():
                inputs = [
                    x.detach().requires_grad_(w)
                    for x, w in zip(piece[:2], wanted[:2], strict=True)
                ]
                z = embed_at_once(*inputs, *leaves)
            needed = [x for x in (*inputs, *leaves) if x.requires_grad]
            found = iter(torch.autograd.grad(z, needed, piece[2]))
            for row, w in zip(rows, wanted[:2], strict=True):
                if w:
                    row.append(next(found))
            for total in sums:
                if total is not None:
                    total.add_(next(found))
        return *(torch.cat(row) if row else None for row in rows), *sums


class ImageActor(nn.Module):
    """`ResidualActor` on the vector and all tokens compressed to a few numbers."""

    def __init__(
        self,
        tokens: int,
        sizes: VisionSizes,
        obs_dim: int,
        act_dim: int,
        width: int,
        *,
        layer_norm: bool = True,
        generator: torch.Generator,
        dropout: float = 0.0,
    ) -> None:
        """Build it; see `ResidualActor` for the rest.

        Args:
            tokens: number of tokens of all cameras.
            sizes: `width` and `actor` are used.
            obs_dim: length of the vector part.
            act_dim: number of joints.
            width: units per hidden layer.
            layer_norm: LayerNorm before each ReLU.
            generator: of the initial weights.
            dropout: as `ResidualActor` takes it.
        """
        super().__init__()
        first = nn.Linear(tokens * sizes.width, sizes.actor)
        init_linear_(first, generator)
        norm = nn.LayerNorm(sizes.actor) if layer_norm else nn.Identity()
        self.compress = nn.Sequential(first, norm, nn.ReLU())
        self.actor = ResidualActor(
            obs_dim + sizes.actor,
            act_dim,
            width,
            layer_norm=layer_norm,
            generator=generator,
            dropout=dropout,
        )

    def forward(self, observation: Seen, base_action: Tensor, chunk_phase: Tensor) -> Tensor:
        """Return the raw residual; the tokens get no gradient. Shape (batch, act_dim)."""
        few = self.compress(observation.tokens.detach().flatten(1))
        return self.actor(torch.cat((observation.vector, few), 1), base_action, chunk_phase)
