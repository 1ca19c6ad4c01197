"""AdamW over one flat buffer: parameters and gradients of all nets it moves are views of two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class FlatAdamW(torch.optim.AdamW):
    """Torch's fused AdamW on a single vector, with the gradient's clipping folded into its pass.

    Equal to `AdamW` after `clip_grad_norm_` up to rounding (a test holds it against both). The
    parameters keep their shapes and names: their storage moves into `flat`, and their `grad` is a
    view of its gradient. Move nets to their device and copy them *before* building it.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, weight_decay: float, grad_clip: float = 0.0
    ) -> None:
        """Take over the parameters.

        Args:
            parameters: all of one dtype and device.
            lr: learning rate.
            weight_decay: AdamW's decoupled decay.
            grad_clip: largest gradient norm; 0: no clipping.
        """
        self.parameters = list(parameters)
        self.flat = torch.nn.Parameter(flatten(self.parameters))
        self.gradient = torch.zeros_like(self.flat)
        self.flat.grad = self.gradient
        self._places = _views(self.gradient, self.parameters)
        for parameter, place in zip(self.parameters, self._places, strict=True):
            parameter.grad = place
        self._clip = grad_clip
        self._claimed = False
        super().__init__([self.flat], lr=lr, weight_decay=weight_decay, fused=True)

    def claim(self, parameters: Sequence[Tensor]) -> list[Tensor] | None:
        """Return where the caller may write these parameters' gradients itself, or None.

        One backward pass per step may: a second one would overwrite the first's.
        """
        if self._claimed:
            return None
        self._claimed = True
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def step_on(self, gradients: Sequence[Tensor]) -> Tensor:
        """Take one clipped step; return the gradient's norm before clipping, as a tensor.

        Args:
            gradients: in the parameters' order; those that lie in their `grad` already are not
                copied.
        """
        self._claimed = False
        places, elsewhere = [], []
        for place, gradient in zip(self._places, gradients, strict=True):
            if place.data_ptr() != gradient.data_ptr():
                places.append(place)
                elsewhere.append(gradient)
        if places:
            torch._foreach_copy_(places, elsewhere)
        norm = torch.linalg.vector_norm(self.gradient)
        # The fused kernel divides the gradient by `grad_scale` as it reads it.
        self.grad_scale = (norm + 1e-6).div_(self._clip).clamp_(min=1.0) if self._clip else None
        self.step()
        return norm


def flatten(parameters: Sequence[Tensor]) -> Tensor:
    """Move the parameters' storage into one new vector and return it."""
    with torch.no_grad():
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, view in zip(parameters, _views(flat, parameters), strict=True):
        parameter.data = view
    return flat


def _views(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    pieces = flat.split([parameter.numel() for parameter in parameters])
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
