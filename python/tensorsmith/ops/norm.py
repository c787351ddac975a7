"""Normalisation: docstrings and gradient rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define, vjp

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["batch_norm", "channel_affine", "layer_norm"]


def _plain_backward(dy: Tensor, x: Tensor, weight: Tensor | None, rstd: Tensor, axes: Any, kept: Any) -> Any:
    """The fused backward kernels in differentiable operations: dx, and dweight and dbias over `kept`."""
    d = x - core.mean(x, axes, None, True)
    var = core.mean(d * d, axes, None, True)
    # The eps of the forward pass follows from its rstd.
    eps = (1.0 / (rstd * rstd) - var).detach()
    scale = core.rsqrt(var + eps)
    h = d * scale
    g = dy if weight is None else dy * weight
    dx = scale * (g - core.mean(g, axes, None, True) - h * core.mean(g * h, axes, None, True))
    return dx, core.sum(dy * h, kept), core.sum(dy, kept)


def _second(plain: Callable[..., Any], dys: Any, dy: Tensor, x: Tensor, weight: Tensor | None) -> Any:
    """The gradients of a fused backward kernel: those of its definition."""
    inputs = (dy, x) if weight is None else (dy, x, weight)
    values, pull = vjp(lambda *inputs: plain(*inputs, *([None] if weight is None else [])), *inputs)
    seeds = tuple(
        core.zeros(v.shape, dtype=v.dtype) if d is None else core.reshape(d, v.shape)
        for d, v in zip(dys, values)
    )
    return (*pull(seeds), None)[:3]


def _layer_norm_gradients(
    dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, normalized_shape: Any, needs: Any
) -> Any:
    return tuple(
        g if need else None
        for g, need in zip(core.layer_norm_backward(dy, x, weight, mean, rstd, normalized_shape), needs)
    )


layer_norm = define(
    core.layer_norm,
    """(x - mean) / sqrt(var + eps) weight + bias over the last axes (Ba, Kiros & Hinton 2016).

    x: (..., *normalized_shape), float32 or float64    weight, bias: normalized_shape, or None
    The variance is the biased one, in two passes. ValueError where shapes do not fit.""",
    wrt="x weight bias",
    vjp=_layer_norm_gradients,
)


def _layer_norm_second(dys: Any, dy: Any, x: Any, weight: Any, rstd: Any, normalized_shape: Any) -> Any:
    count = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    axes = tuple(range(x.ndim - count, x.ndim))
    rows = core.reshape(rstd, tuple(x.shape[: x.ndim - count]) + (1,) * count)
    return _second(
        lambda g, v, w: _plain_backward(g, v, w, rows, axes, tuple(range(x.ndim - count))), dys, dy, x, weight
    )


define(
    core.layer_norm_backward,
    "The gradients of layer_norm with respect to x, weight and bias.",
    wrt="gradient x weight",
    vjp=lambda dys, gradient, x, weight, rstd, normalized_shape: _layer_norm_second(
        dys, gradient, x, weight, rstd, normalized_shape
    ),
)


def _batch_norm_gradients(dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, needs: Any) -> Any:
    gradients = core.batch_norm_backward(dy, x, weight, mean, rstd)
    return tuple(g if need else None for g, need in zip(gradients, needs))


_batch_norm = define(
    core.batch_norm,
    "Batch norm by the statistics of this batch; updates the running ones in place.",
    wrt="x weight bias",
    vjp=_batch_norm_gradients,
)


def _batch_norm_second(dys: Any, gradient: Any, x: Any, weight: Any, rstd: Any) -> Any:
    axes = (0, *range(2, x.ndim))
    lift = (1, -1) + (1,) * (x.ndim - 2)
    channels = core.reshape(rstd, lift)
    return _second(
        lambda g, v, w: _plain_backward(
            g, v, None if w is None else core.reshape(w, lift), channels, axes, axes
        ),
        dys,
        gradient,
        x,
        weight,
    )


define(
    core.batch_norm_backward,
    "The gradients of batch_norm, by the batch's statistics, with respect to x, weight and bias.",
    wrt="gradient x weight",
    vjp=_batch_norm_second,
)


def _over_batch(x: Tensor) -> Tensor:
    return core.sum(x, (0, *range(2, x.ndim)))


channel_affine = define(
    core.channel_affine,
    """x scale + shift with one of each per channel: x (N, C, ...), scale (C,), shift (C,) or None.""",
    x=lambda dy, scale: core.channel_affine(dy, scale),
    scale=lambda dy, x: _over_batch(dy * x),
    shift=lambda dy: _over_batch(dy),
)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) weight + bias for each channel (Ioffe & Szegedy 2015); as PyTorch's.

    x: (N, C, ...), float32 or float64, NCHW or NHWC in memory, and so is the result; the others: (C,)
    training: mean and var are the batch's, and the running ones move towards them in place, by `momentum` and
    with the unbiased variance. Otherwise they are the running ones.

    ValueError where shapes do not fit, for fewer than two values a channel in training, and without running
    statistics otherwise.
    """
    if training:
        return core.batch_norm(x, weight, bias, running_mean, running_var, momentum, eps)
    if running_mean is None or running_var is None:
        raise ValueError("batch_norm: training=False needs running_mean and running_var")
    scale = core.rsqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -(running_mean * scale)
    if bias is not None:
        shift = shift + bias
    return core.channel_affine(x, scale, shift)
