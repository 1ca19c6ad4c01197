"""Pixels: one shallow ViT per camera, and what critic and actor make of its tokens.

METHOD "Common": conv 8x8 stride 4, ReLU, conv 3x3 stride 2 give 81 tokens of an 84 x 84 image; one
pre-norm transformer layer; DrQ's random shift (arXiv 2107.09645). The critic's loss alone trains
the encoders; the actor gets their tokens detached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resfit_core.nets.actor import ResidualActor, init_linear_
from resfit_core.nets.critic import EnsembleCritic

ImageShapes = Mapping[str, tuple[int, int, int]]
_CHUNK = 16  # samples whose spatial embedding is in work at once: 8 MB at the published sizes


class VisionSizes(NamedTuple):
    """Sizes of everything that only pixels need; the defaults are the published ones.

    Attributes:
        width: units of a token.
        heads: of the transformer layer; divides `width`.
        embedding: units of the critic's spatial embedding.
        actor: units that the actor compresses all tokens to.
    """

    width: int = 128
    heads: int = 4
    embedding: int = 1024
    actor: int = 128


class Seen:
    """An observation with images as a net takes it; can be sliced like its vector."""

    def __init__(self, vector: Tensor, tokens: Tensor) -> None:
        """Join the vector, shape (batch, n), and the tokens, shape (batch, tokens, width)."""
        self.vector, self.tokens = vector, tokens

    def __getitem__(self, index: Any) -> Seen:
        return Seen(self.vector[index], self.tokens[index])


def token_count(shape: tuple[int, int, int]) -> int:
    """Return the number of tokens of an image (H, W, 3).

    Raises:
        ValueError: the image is too small for the two convolutions.
    """
    height, width, channels = shape
    sides = [((side - 8) // 4 + 1 - 3) // 2 + 1 for side in (height, width)]
    if min(height, width) < 16 or channels != 3:
        raise ValueError(f"image shape is {tuple(shape)}, expected (H, W, 3) of at least 16 x 16")
    return sides[0] * sides[1]


class Encoder(nn.Module):
    """Image of one camera to tokens."""

    def __init__(
        self, shape: tuple[int, int, int], sizes: VisionSizes, generator: torch.Generator
    ) -> None:
        """Draw the weights from the generator.

        Args:
            shape: (H, W, 3).
            sizes: `width` and `heads` are used.
            generator: of the initial weights.
        """
        super().__init__()
        width = sizes.width
        if width % sizes.heads:
            raise ValueError(
                f"vision_width is {width}, not a multiple of vision_heads ({sizes.heads})"
            )
        self._heads = sizes.heads
        self.patch = nn.Conv2d(3, width, 8, 4)
        self.merge = nn.Conv2d(width, width, 3, 2)
        self.place = nn.Parameter(torch.empty(token_count(shape), width))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attend, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        with torch.no_grad():
            self.place.normal_(0.0, 0.02, generator=generator)
            for layer in (self.patch, self.merge):
                bound = 1.0 / math.sqrt(layer.weight[0].numel())
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()  # type: ignore[union-attr]
        for linear in (self.attend, self.join, self.widen, self.narrow):
            init_linear_(linear, generator)

    def forward(self, image: Tensor) -> Tensor:
        """Return tokens. Shape (batch, 3, H, W), uint8, to (batch, tokens, width)."""
        x = image.to(self.place.dtype).div_(255.0).sub_(0.5)
        x = self.merge(F.relu(self.patch(x)))
        x = x.flatten(2).transpose(1, 2) + self.place
        x = x + self._attention(self.norm1(x))
        x = x + self.narrow(F.gelu(self.widen(self.norm2(x))))
        return self.norm3(x)

    def _attention(self, x: Tensor) -> Tensor:
        # Written out: the fused CPU kernel multiplies in float32 whatever `matmul_dtype` says.
        batch, count, width = x.shape
        q, k, v = (
            part.reshape(batch, count, self._heads, -1).transpose(1, 2)
            for part in self.attend(x).chunk(3, -1)
        )
        scores = (q @ k.transpose(2, 3)) / math.sqrt(width // self._heads)
        return self.join((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, count, width))


class Encoders(nn.Module):
    """One encoder per camera; their tokens follow each other in the cameras' sorted order."""

    def __init__(
        self, shapes: ImageShapes, sizes: VisionSizes, generator: torch.Generator
    ) -> None:
        """Build one encoder per camera.

        Args:
            shapes: camera to (H, W, 3).
            sizes: see there.
            generator: of the initial weights.
        """
        super().__init__()
        self.cameras = sorted(shapes)
        self.tokens = sum(token_count(shapes[camera]) for camera in self.cameras)
        # Camera names may hold dots, which module names must not.
        self.nets = nn.ModuleList(
            Encoder(shapes[camera], sizes, generator) for camera in self.cameras
        )

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return all tokens. Camera to (batch, 3, H, W), uint8, to (batch, tokens, width)."""
        parts = [net(images[name]) for name, net in zip(self.cameras, self.nets, strict=True)]
        return torch.cat(parts, 1)


def random_shift(image: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `pad` pixels, its edge repeated, as an integer crop.

    Args:
        image: uint8. Shape (batch, H, W, 3).
        pad: largest shift; 0: none.
        generator: on the CPU.

    Returns:
        Shape (batch, 3, H, W), uint8.
    """
    count, height, width, _ = image.shape
    if not pad:
        return image.permute(0, 3, 1, 2)
    rows = (torch.arange(height + 2 * pad, device=image.device) - pad).clamp_(0, height - 1)
    columns = (torch.arange(width + 2 * pad, device=image.device) - pad).clamp_(0, width - 1)
    padded = image.index_select(1, rows).index_select(2, columns)
    down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=generator).to(image.device)
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    return windows[torch.arange(count, device=image.device), down, right]


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
        """
        super().__init__()
        first = nn.Linear(tokens * sizes.width, sizes.actor)
        init_linear_(first, generator)
        norm = nn.LayerNorm(sizes.actor) if layer_norm else nn.Identity()
        self.compress = nn.Sequential(first, norm, nn.ReLU())
        self.actor = ResidualActor(
            obs_dim + sizes.actor, act_dim, width, layer_norm=layer_norm, generator=generator
        )

    def forward(self, observation: Seen, base_action: Tensor, chunk_phase: Tensor) -> Tensor:
        """Return the raw residual; the tokens get no gradient. Shape (batch, act_dim)."""
        few = self.compress(observation.tokens.detach().flatten(1))
        return self.actor(torch.cat((observation.vector, few), 1), base_action, chunk_phase)
