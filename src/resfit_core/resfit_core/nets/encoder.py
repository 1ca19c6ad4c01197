"""Pixels: one shallow ViT per camera, and the random shift before it.

Conv 8x8 stride 4, ReLU, conv 3x3 stride 2 give 81 tokens of an 84 x 84 image; one pre-norm
transformer layer (Ankile et al. 2025, appendix); DrQ's random shift (arXiv 2107.09645).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from resfit_core import machine
from resfit_core.nets.actor import init_linear_

ImageShapes = Mapping[str, tuple[int, int, int]]
_PIECE = 32  # images that an encoder works on at once


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

    def in_pieces(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return the same on a CPU, `_PIECE` images at a time, float32.

        A whole batch's activations would each be larger than what the allocator hands out twice
        (32 MB) and would be mapped anew, page by page. Under `machine.products("bfloat16")` the
        activations are bfloat16 too, channels last: its convolutions are several times as fast so.
        """
        low = machine.low_products()
        parts = []
        for name, net in zip(self.cameras, self.nets, strict=True):
            weights = dict(net.named_parameters())
            if low:
                weights = {key: _cast(value) for key, value in weights.items()}
            tokens = [
                functional_call(net, weights, (piece,)) for piece in images[name].split(_PIECE)
            ]
            parts.append(torch.cat(tokens).float())
        return torch.cat(parts, 1)


def _cast(weight: Tensor) -> Tensor:
    form = torch.channels_last if weight.dim() == 4 else torch.preserve_format
    return weight.to(torch.bfloat16, memory_format=form)


def random_shift(image: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `pad` pixels, its edge repeated, as an integer crop.

    Args:
        image: uint8. Shape (batch, H, W, 3).
        pad: largest shift; 0: none.
        generator: on the CPU.

    Returns:
        Shape (batch, 3, H, W), uint8, channels last in memory.
    """
    if not pad:
        return image.permute(0, 3, 1, 2)
    shifts = torch.randint(0, 2 * pad + 1, (2, len(image)), generator=generator)
    sliced = image.device.type == "cpu" and pad < min(image.shape[1:3])
    shift = _shift_by_slices if sliced else shift_at_once
    return shift(image, pad, shifts).permute(0, 3, 1, 2)


def shift_at_once(image: Tensor, pad: int, shifts: Tensor) -> Tensor:
    """Return the crops that begin at `shifts`, (2, batch), of the image with its edges repeated.

    Shape (batch, H, W, 3), like `image`.
    """
    count, height, width, _ = image.shape
    rows = (torch.arange(height + 2 * pad, device=image.device) - pad).clamp_(0, height - 1)
    columns = (torch.arange(width + 2 * pad, device=image.device) - pad).clamp_(0, width - 1)
    padded = image.index_select(1, rows).index_select(2, columns)
    down, right = shifts.to(image.device)
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    return windows[torch.arange(count, device=image.device), down, right].permute(0, 2, 3, 1)


def _shift_by_slices(image: Tensor, pad: int, shifts: Tensor) -> Tensor:
    """Return `shift_at_once`, a block per image: on a CPU a gather by pixels costs ten times."""
    source = image.numpy()
    out = np.empty_like(source)
    height, width = source.shape[1:3]
    for frame, made, down, right in zip(source, out, *(shifts - pad).tolist(), strict=True):
        top, bottom = max(0, -down), min(height, height - down)
        left, end = max(0, -right), min(width, width - right)
        made[top:bottom, left:end] = frame[top + down : bottom + down, left + right : end + right]
        # Columns first, then whole rows: so the corners come along.
        made[top:bottom, :left] = made[top:bottom, left : left + 1]
        made[top:bottom, end:] = made[top:bottom, end - 1 : end]
        made[:top], made[bottom:] = made[top], made[bottom - 1]
    return torch.from_numpy(out)
