"""Torch twin of `resfit_core.control.combine`: the one rule that joins base and residual."""

from __future__ import annotations

import torch
from torch import Tensor


def combine(base: Tensor, residual: Tensor, scale: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return clip(base + scale * tanh(residual) + noise, -1, 1), differentiable.

    Args:
        base: base action, normalised. Shape (..., act_dim).
        residual: raw output of the residual actor. Shape (..., act_dim).
        scale: reach of the residual per joint. Shape (act_dim,) or a scalar tensor.
        noise: added before the clip. Shape (..., act_dim).
    """
    action = torch.addcmul(base, scale, torch.tanh(residual))
    if noise is not None:
        action = action + noise
    return action.clamp(-1.0, 1.0)
