"""The critic ensemble: all heads in one batched module."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleCritic(nn.Module):
    """Q_i(s, a) for i in heads; two hidden layers with LayerNorm and ReLU each.

    One parameter holds a layer of all heads, so that an update costs a handful of large
    operations instead of hundreds of small ones.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        width: int,
        heads: int,
        *,
        layer_norm: bool = True,
        output_init: float = 3e-3,
        matmul_dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw every head on its own.

        Args:
            obs_dim: length of the observation.
            act_dim: number of joints.
            width: units per hidden layer.
            heads: size of the ensemble.
            layer_norm: LayerNorm before each ReLU.
            output_init: half-range of the last layer's weights; small, so that Q starts near 0.
            matmul_dtype: arithmetic of the hidden layers' products; parameters stay float32.
            generator: of the initial weights.
        """
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.heads, self.layer_norm, self.dtype = heads, layer_norm, matmul_dtype

        def draw(*shape: int, bound: float) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        inputs = obs_dim + 1 + act_dim
        near, far = 1.0 / math.sqrt(inputs), 1.0 / math.sqrt(width)
        self.weight1 = draw(heads, inputs, width, bound=near)
        self.bias1 = draw(heads, 1, width, bound=near)
        self.weight2 = draw(heads, width, width, bound=far)
        self.bias2 = draw(heads, 1, width, bound=far)
        self.weight3 = draw(heads, width, 1, bound=output_init)
        self.bias3 = nn.Parameter(torch.zeros(heads, 1, 1))
        if layer_norm:
            self.gain1 = nn.Parameter(torch.ones(heads, 1, width))
            self.shift1 = nn.Parameter(torch.zeros(heads, 1, width))
            self.gain2 = nn.Parameter(torch.ones(heads, 1, width))
            self.shift2 = nn.Parameter(torch.zeros(heads, 1, width))

    def forward(
        self,
        observation: Tensor,
        chunk_phase: Tensor,
        action: Tensor,
        heads: Tensor | None = None,
        frozen: bool = False,
    ) -> Tensor:
        """Return Q of all heads, or of the chosen ones; the others are not computed.

        Args:
            observation: z-scored. Shape (batch, obs_dim).
            chunk_phase: Shape (batch, 1).
            action: executed or proposed, normalised. Shape (batch, act_dim).
            heads: indices. Shape (chosen,), int64.
            frozen: gradients flow to the inputs only, not to the parameters.

        Returns:
            Shape (heads or chosen, batch).
        """

        def pick(name: str) -> Tensor:
            parameter = getattr(self, name).detach() if frozen else getattr(self, name)
            return parameter if heads is None else parameter.index_select(0, heads)

        x = torch.cat((observation, chunk_phase, action), 1)
        weight = pick("weight1")
        x = self._product(pick("bias1"), x.expand(len(weight), *x.shape), weight)
        if self.layer_norm:
            x = F.layer_norm(x, x.shape[2:]) * pick("gain1") + pick("shift1")
        x = self._product(pick("bias2"), F.relu(x), pick("weight2"))
        if self.layer_norm:
            x = F.layer_norm(x, x.shape[2:]) * pick("gain2") + pick("shift2")
        return (F.relu(x).matmul(pick("weight3")) + pick("bias3")).squeeze(-1)

    def _product(self, bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return x @ weight + bias as float32, multiplied in `matmul_dtype`."""
        if self.dtype == torch.float32:
            return torch.baddbmm(bias, x, weight)
        return torch.bmm(x.to(self.dtype), weight.to(self.dtype)).float() + bias
