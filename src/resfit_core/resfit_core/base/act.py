"""ACT, compact and our own: one transformer that reads the observation and writes a chunk.

METHOD: chunk 20, L1, no VAE, no temporal ensembling. A token per field of the observation (and per
image patch) goes through an encoder; one learned query per step of the chunk reads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

PATCHES = 9  # along each edge of an 84 px image: conv 8 stride 4, then conv 3 stride 2


@dataclasses.dataclass(frozen=True)
class ActConfig:
    """Numbers that shape the net; they travel in the checkpoint's header.

    Attributes:
        fields: (start, stop) of each observation field; one token each.
        action_dim: joints.
        cameras: images per observation; 0: none.
        image_size: their edge [px].
        chunk: steps planned, all of them executed.
        width: of every token.
        heads: of attention.
        encoder_layers: layers over the observation's tokens.
        decoder_layers: layers over the chunk's queries.
        feedforward: hidden width in each layer.
        observation_clip: largest z-score.
    """

    fields: tuple[tuple[int, int], ...]
    action_dim: int
    cameras: int = 0
    image_size: int = 84
    chunk: int = 20
    width: int = 128
    heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 1
    feedforward: int = 256
    observation_clip: float = 5.0

    @property
    def obs_dim(self) -> int:
        """Length of the flat observation."""
        return max(stop for _, stop in self.fields)

    @classmethod
    def from_header(cls, values: Mapping[str, Any]) -> ActConfig:
        """Rebuild from what `dataclasses.asdict` put into JSON.

        Raises:
            TypeError: A key is unknown or missing.
        """
        fields = tuple((int(a), int(b)) for a, b in values["fields"])
        return cls(**{**values, "fields": fields})


class Act(nn.Module):
    """Chunk of normalised actions out of one observation."""

    obs_mean: torch.Tensor
    obs_std: torch.Tensor

    def __init__(self, config: ActConfig) -> None:
        """Build with fresh weights."""
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("obs_mean", torch.zeros(config.obs_dim))
        self.register_buffer("obs_std", torch.ones(config.obs_dim))
        self.embed = nn.ModuleList(nn.Linear(stop - start, width) for start, stop in config.fields)
        self.field_token = nn.Parameter(torch.randn(len(config.fields), width) * 0.02)
        if config.cameras:
            self.patches = nn.Sequential(
                nn.Conv2d(3, 64, 8, stride=4), nn.ReLU(), nn.Conv2d(64, width, 3, stride=2)
            )
            self.patch_place = nn.Parameter(
                torch.randn(config.cameras, PATCHES * PATCHES, width) * 0.02
            )
        layer: dict[str, Any] = {
            "d_model": width,
            "nhead": config.heads,
            "dim_feedforward": config.feedforward,
            "dropout": 0.0,
            "batch_first": True,
            "norm_first": True,
        }
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**layer),
            config.encoder_layers,
            norm=nn.LayerNorm(width),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**layer), config.decoder_layers, norm=nn.LayerNorm(width)
        )
        self.query = nn.Parameter(torch.randn(config.chunk, width) * 0.02)
        self.head = nn.Linear(width, config.action_dim)

    def forward(
        self, observation: torch.Tensor, images: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the chunk, unclipped. Shape: (batch, chunk, action_dim).

        Args:
            observation: SI units. Shape: (batch, obs_dim).
            images: uint8. Shape: (batch, cameras, image_size, image_size, 3); None without.
        """
        clip = self.config.observation_clip
        scaled = ((observation - self.obs_mean) / self.obs_std).clamp(-clip, clip)
        tokens = torch.stack(
            [
                embed(scaled[:, start:stop])
                for embed, (start, stop) in zip(self.embed, self.config.fields, strict=True)
            ],
            dim=1,
        )
        tokens = tokens + self.field_token
        if self.config.cameras:
            if images is None:
                raise ValueError(f"images are None, {self.config.cameras} cameras are needed")
            tokens = torch.cat([tokens, self._see(images)], dim=1)
        memory = self.encoder(tokens)
        queries = self.query.expand(len(observation), -1, -1)
        return self.head(self.decoder(queries, memory))

    def _see(self, images: torch.Tensor) -> torch.Tensor:
        """Return image tokens. Shape: (batch, cameras * PATCHES^2, width)."""
        batch, cameras = images.shape[:2]
        pixels = images.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        features = self.patches(pixels).flatten(2).transpose(1, 2)
        return (features.unflatten(0, (batch, cameras)) + self.patch_place).flatten(1, 2)


def fields_of(layout: Mapping[str, slice]) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) of each field of a contract's layout, in order."""
    return tuple((s.start, s.stop) for s in layout.values())
