"""Normalisation: docstrings and gradient rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define, vjp
from tensorsmith.ops.halves import raised, widened

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = [
    "batch_norm",
    "batch_norm_relu",
    "channel_affine",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]


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
    inputs = widened(dy, x) if weight is None else widened(dy, x, weight)
    values, pull = vjp(lambda *inputs: plain(*inputs, *([None] if weight is None else [])), *inputs)
    seeds = tuple(
        core.zeros(v.shape, dtype=v.dtype, device=v.device)
        if d is None
        else core.astype(core.reshape(d, v.shape), v.dtype)
        for d, v in zip(dys, values)
    )
    return (*pull(seeds), None)[:3]


def _layer_norm_gradients(
    dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, normalized_shape: Any, needs: Any
) -> Any:
    parameters = needs[1] or needs[2] or _core.is_grad_enabled()  # the second derivatives take all
    gradients = core.layer_norm_backward(dy, x, weight, mean, rstd, normalized_shape, parameters)
    return tuple(g if need else None for g, need in zip(gradients, needs))


layer_norm = define(
    core.layer_norm,
    """(x - mean) / sqrt(var + eps) weight + bias over the last axes (Ba, Kiros & Hinton 2016).

    x: (..., *normalized_shape), floating-point    weight, bias: normalized_shape, or None
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


def _rms_norm_gradients(dy: Any, x: Any, weight: Any, rstd: Any, normalized_shape: Any, needs: Any) -> Any:
    gradients = core.rms_norm_backward(dy, x, weight, rstd, normalized_shape)
    return tuple(g if need else None for g, need in zip(gradients, needs))


rms_norm = define(
    core.rms_norm,
    """x / sqrt(mean x^2 + eps) weight over the last axes (Zhang & Sennrich 2019).

    x: (..., *normalized_shape), floating-point    weight: normalized_shape, or None
    ValueError where shapes do not fit.""",
    wrt="x weight",
    vjp=_rms_norm_gradients,
)


def _rms_norm_second(dys: Any, gradient: Any, x: Any, weight: Any, rstd: Any, normalized_shape: Any) -> Any:
    count = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    axes, kept = tuple(range(x.ndim - count, x.ndim)), tuple(range(x.ndim - count))
    rows = core.reshape(rstd, tuple(x.shape[: x.ndim - count]) + (1,) * count)

    def plain(dy: Any, x: Any, weight: Any) -> Any:
        square = core.mean(x * x, axes, None, True)
        scale = core.rsqrt(square + (1.0 / (rows * rows) - square).detach())
        h = x * scale
        g = dy if weight is None else dy * weight
        return scale * (g - h * core.mean(g * h, axes, None, True)), core.sum(dy * h, kept)

    return _second(plain, dys, gradient, x, weight)


define(
    core.rms_norm_backward,
    "The gradients of rms_norm with respect to x and weight.",
    wrt="gradient x weight",
    vjp=_rms_norm_second,
)


def _group_norm_gradients(
    dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, num_groups: Any, needs: Any
) -> Any:
    gradients = core.group_norm_backward(dy, x, weight, mean, rstd, num_groups)
    return tuple(g if need else None for g, need in zip(gradients, needs))


define(
    core.group_norm,
    "Group norm in one kernel: the public group_norm's, with a weight.",
    wrt="x weight bias",
    vjp=_group_norm_gradients,
)


def _group_norm_second(dys: Any, gradient: Any, x: Any, weight: Any, rstd: Any, num_groups: Any) -> Any:
    n, c = x.shape[:2]
    shape = (n, num_groups, c // num_groups, math.prod(x.shape[2:]))
    rows = core.reshape(rstd, (n, num_groups, 1, 1))

    def plain(dy: Any, x: Any, weight: Any) -> Any:
        w = core.reshape(weight, (num_groups, c // num_groups, 1))
        g, v = core.reshape(dy, shape), core.reshape(x, shape)
        dx, dweight, dbias = _plain_backward(g, v, w, rows, (2, 3), (0, 3))
        return core.reshape(dx, x.shape), core.reshape(dweight, (c,)), core.reshape(dbias, (c,))

    return _second(plain, dys, gradient, x, weight)


define(
    core.group_norm_backward,
    "The gradients of group_norm with respect to x, weight and bias.",
    wrt="gradient x weight",
    vjp=_group_norm_second,
)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) weight + bias, mean and var over each group of channels of each image
    (Wu & He 2018).

    x: (N, C, ...), floating-point    weight, bias: (C,), or None
    The bits of an image do not depend on its batch. ValueError where num_groups does not divide C.
    """
    if x.ndim < 2:
        raise ValueError(
            f"group_norm: x must have at least 2 dimensions (N, C, ...), got shape {tuple(x.shape)}"
        )
    n, c = x.shape[:2]
    if isinstance(num_groups, bool) or not hasattr(num_groups, "__index__"):
        raise TypeError(f"group_norm: num_groups must be an integer, got {num_groups!r}")
    if num_groups < 1 or c % num_groups:
        raise ValueError(f"group_norm: num_groups must divide the {c} channels, got {num_groups}")
    if weight is not None:
        y: Tensor = core.group_norm(x, num_groups, weight, bias, eps)
        return y

    def normalised(x: Tensor) -> Tensor:
        rows = core.reshape(x, (n, num_groups, -1)) if x.size else core.reshape(x, (n, num_groups, 0))
        return core.reshape(core.layer_norm(rows, rows.shape[-1:], None, None, eps), x.shape)

    if bias is None:
        return normalised(x)
    if tuple(bias.shape) != (c,):
        raise ValueError(f"group_norm: bias must have shape ({c},), got {tuple(bias.shape)}")
    wide, lifted = widened(x, core.reshape(bias, (-1,) + (1,) * (x.ndim - 2)))
    y = normalised(wide) + lifted
    return core.astype(y, raised(x).dtype, False)


def _fit_channels(operation: str, x: Tensor, **parameters: Tensor | None) -> None:
    if x.ndim < 2:
        raise ValueError(
            f"{operation}: x must have at least 2 dimensions (N, C, ...), got shape {tuple(x.shape)}"
        )
    for name, p in parameters.items():
        if p is not None and tuple(p.shape) != (x.shape[1],):
            raise ValueError(f"{operation}: {name} must have shape ({x.shape[1]},), got {tuple(p.shape)}")


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) weight + bias, mean and var over each channel of each image (Ulyanov, Vedaldi
    & Lempitsky 2016); running statistics move towards the means over the batch, by `momentum`.

    x: (N, C, ...), floating-point    the others: (C,), or None
    """
    name = "instance_norm"
    _fit_channels(name, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(f"{name}: use_input_stats=False needs running_mean and running_var")
        return batch_norm(raised(x), running_mean, running_var, weight, bias, False, momentum, eps)
    size = 1
    for extent in x.shape[2:]:
        size *= extent
    if size < 2:
        raise ValueError(f"instance_norm: needs more than one value a channel, got shape {tuple(x.shape)}")
    if running_mean is not None or running_var is not None:
        axes, still = tuple(range(2, x.ndim)), x.detach()
        for running, value in (
            (running_mean, core.mean(still, axes)),
            (running_var, core.var(still, axes, 1.0)),
        ):
            if running is not None:
                core.copy_(running, core.lerp(running, core.mean(value, 0), momentum))
    return group_norm(x, x.shape[1], weight, bias, eps)


def _batch_norm_gradients(dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, needs: Any) -> Any:
    gradients = core.batch_norm_backward(dy, x, weight, mean, rstd)
    return tuple(g if need else None for g, need in zip(gradients, needs))


_batch_norm = define(
    core.batch_norm,
    "Batch norm by the statistics of this batch; updates the running ones in place.",
    wrt="x weight bias",
    vjp=_batch_norm_gradients,
)


def _batch_norm_relu_gradients(
    dy: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, y: Any, needs: Any
) -> Any:
    if _core.is_grad_enabled():  # to be differentiated again
        gradients = core.batch_norm_backward(core.relu_backward(dy, y), x, weight, mean, rstd)
    else:
        gradients = core.batch_norm_relu_backward(dy, x, weight, bias, mean, rstd)
    return tuple(g if need else None for g, need in zip(gradients, needs))


define(
    core.batch_norm_relu,
    "relu(batch_norm) by the statistics of this batch, in one pass over the result; updates the running ones in place.",
    wrt="x weight bias",
    vjp=_batch_norm_relu_gradients,
)
define(
    core.batch_norm_relu_backward,
    "The gradients of batch_norm_relu, by the batch's statistics, with respect to x, weight and bias; no second ones.",
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


def _scale_gradient(dy: Tensor, x: Tensor) -> Tensor:
    return core.sum(core.vecdot(dy, x, x.ndim - 2), 0) if x.ndim > 2 else _over_batch(dy * x)


channel_affine = define(
    core.channel_affine,
    """x scale + shift with one of each per channel: x (N, C, ...), scale (C,), shift (C,) or None.""",
    x=lambda dy, scale: core.channel_affine(dy, scale),
    scale=lambda dy, x: _scale_gradient(*widened(dy, x)),
    shift=lambda dy: _over_batch(*widened(dy)),
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

    x: (N, C, ...), floating-point, NCHW or NHWC in memory, and so is the result; the others: (C,), of its dtype;
    of float16 and bfloat16 they may be float32, and the running ones are either. Arithmetic is in float32 then.
    training: mean and var are the batch's, and the running ones move towards them in place, by `momentum` and
    with the unbiased variance. Otherwise they are the running ones.

    ValueError where shapes do not fit, for fewer than two values a channel in training, and without running
    statistics otherwise.
    """
    weight, bias = raised(weight), raised(bias)
    if training:
        return core.batch_norm(x, weight, bias, running_mean, running_var, momentum, eps)
    if running_mean is None or running_var is None:
        raise ValueError("batch_norm: training=False needs running_mean and running_var")
    _fit_channels(
        "batch_norm", x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    running_mean, running_var = widened(running_mean, running_var)
    scale = core.rsqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -(running_mean * scale)
    if bias is not None:
        shift = shift + bias
    return core.channel_affine(x, scale, shift)


def batch_norm_relu(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """relu(batch_norm(...)): the same bits, values and gradients, with a pass over memory less each way in
    training. Arguments and errors as `batch_norm`'s.
    """
    if training:
        return core.batch_norm_relu(x, raised(weight), raised(bias), running_mean, running_var, momentum, eps)
    return core.relu(batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps))
