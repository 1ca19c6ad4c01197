"""The ensemble's arithmetic, forward and backward written by hand.

Autograd gives the same numbers (tests hold both against each other). By hand, elementwise work
goes head by head while it lies in the cache, nothing is computed or kept that the update does not
need, and weight gradients are written where the optimiser reads them. What each step is worth:
docs/decisions/0006-learner-speed.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from resfit_core import machine
from resfit_core.nets import native

_aten = torch.ops.aten
_EPS = 1e-5


class _Layer(NamedTuple):
    """One hidden layer of all heads; `gain` and `shift` are None without LayerNorm."""

    weight: Tensor
    bias: Tensor
    gain: Tensor | None
    shift: Tensor | None


class _KeptNative(NamedTuple):
    """The same for the native way; `weight` in the products' dtype."""

    inputs: Tensor
    weight: Tensor
    before: Tensor
    after: Tensor
    moments: tuple[Tensor, Tensor]


class _Kept(NamedTuple):
    """What a hidden layer's backward pass needs; per head where it is a list."""

    inputs: Tensor
    before: list[Tensor]
    after: Tensor
    moments: list[tuple[Tensor, Tensor]]


def heads_q(
    x: Tensor,
    parameters: Sequence[Tensor],
    into: Sequence[Tensor] | None = None,
    use_native: bool = False,
) -> Tensor:
    """Return Q of every head, differentiable once.

    Args:
        x: input of all heads. Shape (batch, inputs).
        parameters: weight, bias (and gain, shift with LayerNorm) of two hidden layers, then
            weight and bias of the last. Leading dimension: heads.
        into: where gradients of the parameters go, in the same order; None: new tensors.
        use_native: `nets/native.py` between the products; what lies between is then kept in the
            dtype that the products are made in (`machine.products`).

    Returns:
        Shape (heads, batch).
    """
    if not torch.is_grad_enabled():
        return _forward(x, parameters, use_native)[0]
    return _Heads.apply(x, into, use_native, *parameters)


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        into: Sequence[Tensor] | None,
        use_native: bool,
        *parameters: Tensor,
    ) -> Tensor:
        q, ctx.kept = _forward(x, parameters, use_native)
        ctx.into, ctx.parameters = into, parameters
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        into = None
        if any(ctx.needs_input_grad[3:]):
            into = ctx.into or [torch.empty_like(p) for p in ctx.parameters]
        dx = _backward(gradient, ctx.parameters, ctx.kept, into, ctx.needs_input_grad[0])
        del ctx.kept
        return dx, None, None, *(into or [None] * len(ctx.parameters))


def _layers(parameters: Sequence[Tensor]) -> tuple[list[_Layer], Tensor, Tensor]:
    *hidden, weight, bias = (parameter.detach() for parameter in parameters)
    size = len(hidden) // 2
    absent = () if size == 4 else (None, None)
    parts = (hidden[:size], hidden[size:])
    return [_Layer(*part, *absent) for part in parts], weight, bias


def _rows(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the heads' vectors of a parameter of shape (heads, 1, width)."""
    return tensor.squeeze(1).unbind(0)


def _forward(
    x: Tensor, parameters: Sequence[Tensor], use_native: bool
) -> tuple[Tensor, list[_Kept] | list[_KeptNative]]:
    layers, weight3, bias3 = _layers(parameters)
    if use_native and layers[0].gain is not None:
        return _forward_native(x, layers, weight3, bias3)
    h = x.detach().expand(len(weight3), *x.shape)
    kept = []
    for layer in layers:
        z = torch.bmm(h, layer.weight)
        after = torch.empty_like(z)
        before = list(z.unbind(0))
        moments = []
        if layer.gain is None or layer.shift is None:
            torch.clamp_min(z.add_(layer.bias), 0, out=after)
        else:
            size = z.shape[2:]
            shares = (_rows(layer.bias), _rows(layer.gain), _rows(layer.shift), after.unbind(0))
            for y, bias, gain, shift, out in zip(before, *shares, strict=True):
                y.add_(bias)
                y, mean, scale = _aten.native_layer_norm(y, size, gain, shift, _EPS)
                torch.clamp_min(y, 0, out=out)
                moments.append((mean, scale))
        kept.append(_Kept(h, before, after, moments))
        h = after
    return torch.baddbmm(bias3, h, weight3)[..., 0], kept


def _forward_native(
    x: Tensor, layers: list[_Layer], weight3: Tensor, bias3: Tensor
) -> tuple[Tensor, list[_KeptNative]]:
    dtype = torch.bfloat16 if machine.low_products() else torch.float32
    h = x.detach().to(dtype).expand(len(weight3), *x.shape)
    kept = []
    q = None
    for layer in layers:
        weight, bias, gain, shift = layer
        weight = weight.to(dtype)
        z = torch.bmm(h, weight)
        last = (weight3, bias3) if layer is layers[-1] else None
        after, mean, scale, q = native.norm_relu(z, bias, gain, shift, last)  # type: ignore[arg-type]
        kept.append(_KeptNative(h, weight, z, after, (mean, scale)))
        h = after
    return q, kept  # type: ignore[return-value]


def _backward_native(
    gradient: Tensor,
    layers: list[_Layer],
    weight3: Tensor,
    kept: list[_KeptNative],
    into: Sequence[Tensor] | None,
    want_input: bool,
) -> Tensor | None:
    first, second = kept
    places = None if into is None else (*into[5:8], into[8])
    if into is not None:
        torch.sum(gradient, 1, out=into[9].view(-1))
    (_, bias1, gain1, _), (_, bias2, gain2, _) = layers
    dz = native.norm_relu_back(
        gradient,
        second.before,
        second.after,
        (bias2, gain2),  # type: ignore[arg-type]
        second.moments,
        weight3,
        places,
    )
    if into is not None:
        _product(second.inputs, dz, into[4])
    dh = torch.bmm(dz, second.weight.transpose(1, 2))
    places = None if into is None else tuple(into[1:4])
    dz = native.norm_relu_back(
        dh,
        first.before,
        first.after,
        (bias1, gain1),  # type: ignore[arg-type]
        first.moments,
        None,
        places,
    )
    if into is not None:
        _product(first.inputs, dz, into[0])
    if not want_input:
        return None
    return torch.bmm(dz, first.weight.transpose(1, 2)).sum(0, dtype=torch.float32)


def _product(inputs: Tensor, dz: Tensor, out: Tensor) -> None:
    """Write a weight's gradient to `out`, which is float32."""
    if dz.dtype == out.dtype:
        torch.bmm(inputs.transpose(1, 2), dz, out=out)
    else:
        out.copy_(torch.bmm(inputs.transpose(1, 2), dz))


def _backward(
    gradient: Tensor,
    parameters: Sequence[Tensor],
    kept: list[Any],
    into: Sequence[Tensor] | None,
    want_input: bool,
) -> Tensor | None:
    layers, weight3, _ = _layers(parameters)
    if isinstance(kept[0], _KeptNative):
        return _backward_native(gradient, layers, weight3, kept, into, want_input)
    dq = gradient[..., None]
    if into is not None:
        torch.bmm(kept[-1].after.transpose(1, 2), dq, out=into[-2])
        torch.sum(gradient, 1, out=into[-1].view(-1))
    dh = dq * weight3.transpose(1, 2)
    size = (len(parameters) - 2) // 2
    for number in (1, 0):
        place = None if into is None else into[number * size : (number + 1) * size]
        _through_norm(dh, layers[number], kept[number], place)
        if place is not None:
            torch.bmm(kept[number].inputs.transpose(1, 2), dh, out=place[0])
        if number or want_input:
            dh = torch.bmm(dh, layers[number].weight.transpose(1, 2))
    return dh.sum(0) if want_input else None


def _through_norm(dh: Tensor, layer: _Layer, kept: _Kept, place: Sequence[Tensor] | None) -> None:
    """Take `dh` in place back through ReLU and LayerNorm.

    Gradients of bias, gain and shift go to `place`.
    """
    places = [] if place is None else [_rows(p) for p in place[1:]]
    mask = (True, place is not None, place is not None)
    for i, (d, after) in enumerate(zip(dh.unbind(0), kept.after.unbind(0), strict=True)):
        _aten.threshold_backward.grad_input(d, after, 0, grad_input=d)
        if layer.gain is not None and layer.shift is not None:
            moments = kept.moments[i]
            dz, gain, shift = _aten.native_layer_norm_backward(
                d, kept.before[i], d.shape[1:], *moments, layer.gain[i, 0], layer.shift[i, 0], mask
            )
            d.copy_(dz)
            if places:
                places[1][i].copy_(gain)
                places[2][i].copy_(shift)
        if places:
            torch.sum(d, 0, out=places[0][i])
