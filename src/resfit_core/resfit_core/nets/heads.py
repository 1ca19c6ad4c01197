"""The ensemble's arithmetic, forward and backward written by hand.

Autograd would give the same numbers (tests hold both against each other). By hand, the large
products run in bfloat16 over float32 parameters, each activation is cast once and used in forward
and backward, elementwise work goes head by head while it lies in the cache, and weight gradients
are written where the optimiser reads them. docs/decisions/0004-learner-speed.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten
_EPS = 1e-5


class _Layer(NamedTuple):
    """One hidden layer of all heads; `gain` and `shift` are None without LayerNorm."""

    weight: Tensor
    bias: Tensor
    gain: Tensor | None
    shift: Tensor | None


class _Kept(NamedTuple):
    """What a hidden layer's backward pass needs."""

    inputs: Tensor
    weight: Tensor
    before: Tensor
    after: Tensor
    moments: list[tuple[Tensor, Tensor]]


def heads_q(
    x: Tensor, parameters: Sequence[Tensor], dtype: torch.dtype, into: Sequence[Tensor] | None
) -> Tensor:
    """Return Q of every head, differentiable once.

    Args:
        x: input of all heads. Shape (batch, inputs).
        parameters: weight, bias (and gain, shift with LayerNorm) of two hidden layers, then
            weight and bias of the last. Leading dimension: heads.
        dtype: arithmetic of the hidden layers' products.
        into: where gradients of the parameters go, in the same order; None: new tensors.

    Returns:
        Shape (heads, batch), float32.
    """
    if not torch.is_grad_enabled():
        return _forward(x, parameters, dtype)[0]
    return _Heads.apply(x, dtype, into, *parameters)


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, into: Sequence[Tensor] | None, *parameters: Tensor
    ) -> Tensor:
        q, ctx.kept = _forward(x, parameters, dtype)
        ctx.into, ctx.parameters = into, parameters
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = any(ctx.needs_input_grad[3:])
        into = None
        if wanted:
            into = ctx.into or [torch.empty_like(p) for p in ctx.parameters]
        dx = _backward(gradient, ctx.parameters, ctx.kept, into, ctx.needs_input_grad[0])
        del ctx.kept
        return dx, None, None, *(into or [None] * len(ctx.parameters))


def _layers(parameters: Sequence[Tensor]) -> tuple[list[_Layer], Tensor, Tensor]:
    *hidden, weight, bias = parameters
    size = len(hidden) // 2
    absent = () if size == 4 else (None, None)
    parts = (hidden[:size], hidden[size:])
    return [_Layer(*part, *absent) for part in parts], weight, bias


def _forward(
    x: Tensor, parameters: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, list[_Kept]]:
    layers, weight3, bias3 = _layers(parameters)
    heads = len(weight3)
    h = x.detach().to(dtype).expand(heads, *x.shape)
    kept = []
    for layer in layers:
        weight = layer.weight.detach().to(dtype)
        z = torch.bmm(h, weight)
        z.add_(layer.bias.detach().to(dtype))
        after, moments = torch.empty_like(z), []
        for i in range(heads):
            y = z[i]
            if layer.gain is not None and layer.shift is not None:
                y, mean, scale = _aten.native_layer_norm(
                    y, y.shape[1:], layer.gain[i, 0], layer.shift[i, 0], _EPS
                )
                moments.append((mean, scale))
            torch.clamp_min(y, 0, out=after[i])
        kept.append(_Kept(h, weight, z, after, moments))
        h = after
    # Q itself stays float32: eight bits of it would be noise in the target.
    q = torch.baddbmm(bias3.detach(), h.float(), weight3.detach())
    return q[..., 0], kept


def _backward(
    gradient: Tensor,
    parameters: Sequence[Tensor],
    kept: list[_Kept],
    into: Sequence[Tensor] | None,
    want_input: bool,
) -> Tensor | None:
    layers, weight3, _ = _layers(parameters)
    dtype = kept[0].inputs.dtype
    dq = gradient[..., None].to(dtype)
    if into is not None:
        _product(kept[-1].after.transpose(1, 2), dq, into[-2])
        torch.sum(gradient, 1, out=into[-1].view(-1))
    dh = dq * weight3.detach().to(dtype).transpose(1, 2)
    size = (len(parameters) - 2) // 2
    for number in (1, 0):
        place = None if into is None else into[number * size : (number + 1) * size]
        dz = _through_norm(dh, layers[number], kept[number], place)
        if place is not None:
            _product(kept[number].inputs.transpose(1, 2), dz, place[0])
        if number or want_input:
            dh = torch.bmm(dz, kept[number].weight.transpose(1, 2))
    return dh.sum(0, dtype=torch.float32) if want_input else None


def _through_norm(
    dh: Tensor, layer: _Layer, kept: _Kept, place: Sequence[Tensor] | None
) -> Tensor:
    """Go back through ReLU and LayerNorm; gradients of bias, gain and shift go to `place`."""
    dz = torch.empty_like(dh)
    for i in range(len(dh)):
        d = _aten.threshold_backward(dh[i], kept.after[i], 0)
        if layer.gain is not None and layer.shift is not None:
            d, gain, shift = _aten.native_layer_norm_backward(
                d,
                kept.before[i],
                d.shape[1:],
                *kept.moments[i],
                layer.gain[i, 0],
                layer.shift[i, 0],
                (True, place is not None, place is not None),
            )
            if place is not None:
                place[2][i, 0], place[3][i, 0] = gain, shift
        if place is not None:
            torch.sum(d, 0, dtype=torch.float32, out=place[1][i, 0])
        dz[i] = d
    return dz


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write left @ right to `out`, which is float32."""
    if left.dtype == out.dtype:
        torch.bmm(left, right, out=out)
    else:
        out.copy_(torch.bmm(left, right))
