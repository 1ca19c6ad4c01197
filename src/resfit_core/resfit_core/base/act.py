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

from resfit_core.nets.points import Keypoints

_POINTS = ("points", "places")
PATCHES = 9  # along each edge of an 84 px image: conv 8 stride 4, then conv 3 stride 2


@dataclasses.dataclass(frozen=True)
class ActConfig:
    """Numbers that shape the net; they travel in the checkpoint's header.

    Attributes:
        fields: (start, stop) of each observation field; one token each.
        action_dim: joints.
        cameras: images per observation; 0: none.
        image_size: their edge [px].
        points: keypoints per image, from which the places are told; 0: tokens of patches.
        places: of the hands, three numbers each (`base/places.py`); 0 without keypoints.
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
    points: int = 0
    places: int = 0
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

    def to_header(self) -> dict[str, Any]:
        """Return what goes into a checkpoint's header; nets without keypoints keep their hash."""
        values = dataclasses.asdict(self)
        return values if self.points else {k: v for k, v in values.items() if k not in _POINTS}

    @classmethod
    def from_header(cls, values: Mapping[str, Any]) -> ActConfig:
        """Rebuild from what `to_header` gave.

        Raises:
            TypeError: A key is unknown or missing.
        """
        fields = tuple((int(a), int(b)) for a, b in values["fields"])
        return cls(**{**values, "fields": fields})


class Act(nn.Module):
    """Chunk of normalised actions out of one observation."""

    obs_mean: torch.Tensor
    obs_std: torch.Tensor
    place_mean: torch.Tensor
    place_std: torch.Tensor

    def __init__(self, config: ActConfig) -> None:
        """Build with fresh weights."""
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("obs_mean", torch.zeros(config.obs_dim))
        self.register_buffer("obs_std", torch.ones(config.obs_dim))
        self.embed = nn.ModuleList(nn.Linear(stop - start, width) for start, stop in config.fields)
        self.field_token = nn.Parameter(torch.randn(len(config.fields), width) * 0.02)
        if config.cameras and config.points:
            seen = 2 * config.points * config.cameras
            self.points = nn.ModuleList(
                Keypoints(config.points, config.image_size) for _ in range(config.cameras)
            )
            self.locator = nn.Sequential(
                nn.Linear(seen, width), nn.ReLU(), nn.Linear(width, 3 * config.places)
            )
            self.register_buffer("place_mean", torch.zeros(3 * config.places))
            self.register_buffer("place_std", torch.ones(3 * config.places))
            self.point_embed = nn.Linear(seen, width)
            self.place_embed = nn.Linear(3 * config.places, width)
        elif config.cameras:
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
        """Return the chunk, unclipped; see `plan`. Shape: (batch, chunk, action_dim)."""
        return self.plan(observation, images)[0]

    def plan(
        self, observation: torch.Tensor, images: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the chunk and the places it was planned for.

        Shapes: (batch, chunk, action_dim), unclipped; (batch, 3 * places), z-scored, or None for
        nets without keypoints.

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
        places = None
        if self.config.cameras:
            if images is None:
                raise ValueError(f"images are None, {self.config.cameras} cameras are needed")
            if self.config.points:
                points, places = self._look(images)
                seen = torch.stack((self.point_embed(points), self.place_embed(places)), 1)
            else:
                seen = self._see(images)
            tokens = torch.cat([tokens, seen], dim=1)
        memory = self.encoder(tokens)
        queries = self.query.expand(len(observation), -1, -1)
        return self.head(self.decoder(queries, memory)), places

    def locate(self, images: torch.Tensor) -> torch.Tensor:
        """Return the places that the images show [m]. Shape: (batch, places, 3).

        Args:
            images: as in `plan`.
        """
        found = self._look(images)[1] * self.place_std + self.place_mean
        return found.unflatten(1, (self.config.places, 3))

    def _look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keypoints and z-scored places. Shape of images: as in `plan`."""
        points = [see(camera) for see, camera in zip(self.points, images.unbind(1), strict=True)]
        joined = torch.cat(points, 1)
        return joined, self.locator(joined)

    def _see(self, images: torch.Tensor) -> torch.Tensor:
        """Return image tokens. Shape: (batch, cameras * PATCHES^2, width)."""
        batch, cameras = images.shape[:2]
        pixels = images.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        features = self.patches(pixels).flatten(2).transpose(1, 2)
        return (features.unflatten(0, (batch, cameras)) + self.patch_place).flatten(1, 2)


def fields_of(layout: Mapping[str, slice]) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) of each field of a contract's layout, in order."""
    return tuple((s.start, s.stop) for s in layout.values())
