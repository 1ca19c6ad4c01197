"""Keypoints: where in an image each of a few learned features is, and nothing else.

A spatial softmax (Levine et al. 2016, arXiv 1504.00702) over each of the last layer's maps gives
the feature's mean place. A few hundred demonstrations teach a few places; they would not teach a
transformer over patches where a ball of five pixels lies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = 32


class Keypoints(nn.Module):
    """Image of one camera to the places of `count` features."""

    across: Tensor

    def __init__(self, count: int, size: int) -> None:
        """Build with fresh weights.

        Args:
            count: features.
            size: edge of the image [px].
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, _CHANNELS, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, count, 3, padding=1),
        )
        self.sharpness = nn.Parameter(torch.ones(()))
        side = (size - 1) // 2 + 1
        self.register_buffer("across", torch.linspace(-1.0, 1.0, side), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the places in [-1, 1], all x then all y.

        Args:
            image: uint8. Shape: (batch, size, size, 3).

        Returns:
            Shape: (batch, 2 * count).
        """
        pixels = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        maps = self.layers(pixels)
        share = F.softmax((self.sharpness * maps).flatten(2), -1).view_as(maps)
        x = (share.sum(2) * self.across).sum(-1)
        y = (share.sum(3) * self.across).sum(-1)
        return torch.cat((x, y), 1)
