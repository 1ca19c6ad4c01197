"""The critic ensemble: all heads in one batched module."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfit_core.nets.heads import heads_q
from resfit_core.nets.optimiser import FlatAdamW


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
        use_native: bool = False,
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
            use_native: `nets/native.py` between the products; ignored without LayerNorm.
            generator: of the initial weights.
        """
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.heads, self.layer_norm, self.use_native = heads, layer_norm, use_native

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
        into: FlatAdamW | None = None,
    ) -> Tensor:
        """Return Q of all heads, or of the chosen ones; the others are not computed.

        Args:
            observation: z-scored. Shape (batch, obs_dim).
            chunk_phase: Shape (batch, 1).
            action: executed or proposed, normalised. Shape (batch, act_dim).
            heads: indices. Shape (chosen,), int64.
            frozen: gradients flow to the inputs only, not to the parameters.
            into: the optimiser of these parameters; the backward pass then writes its gradients
                where the optimiser reads them. Saves a pass over them, changes no number.

        Returns:
            Shape (heads or chosen, batch), float32.
        """
        parameters: list[Tensor] = [parameter for _, parameter in self.ordered_parameters()]
        if frozen:
            parameters = [parameter.detach() for parameter in parameters]
        if heads is not None:
            parameters = [parameter.index_select(0, heads) for parameter in parameters]
        x = torch.cat((observation, chunk_phase, action), 1)
        if x.is_cuda:
            return self.batched(x, parameters)
        place = None
        if into is not None and heads is None and not frozen:
            place = into.claim(parameters)
        return heads_q(x, parameters, place, self.use_native)

    def ordered_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return names and parameters in the order that `heads_q` takes them."""
        names = ("weight", "bias", "gain", "shift") if self.layer_norm else ("weight", "bias")
        hidden = [f"{name}{layer}" for layer in "12" for name in names]
        return [(name, getattr(self, name)) for name in (*hidden, "weight3", "bias3")]

    def batched(self, x: Tensor, parameters: list[Tensor]) -> Tensor:
        """Return Q by autograd's own operations: for GPUs, and what tests compare `heads_q` with.

        Args:
            x: Shape (batch, inputs).
            parameters: as for `heads_q`.
        """
        *hidden, weight, bias = parameters
        size = len(hidden) // 2
        h = x.expand(len(weight), *x.shape)
        for layer in (hidden[:size], hidden[size:]):
            h = torch.baddbmm(layer[1], h, layer[0])
            if self.layer_norm:
                h = torch.addcmul(layer[3], F.layer_norm(h, h.shape[2:]), layer[2])
            h = F.relu(h)
        return torch.baddbmm(bias, h, weight).squeeze(-1).float()
