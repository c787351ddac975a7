"""Losses that measure how far a prediction is from its target."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import tensorsmith as ts
from tensorsmith import _core, ops
from tensorsmith.autograd import Context, Function
from tensorsmith.nn import _checks
from tensorsmith.ops.halves import raised
from tensorsmith.tensor import Tensor

_REDUCTIONS = ("mean", "sum", "none")
_Loss = TypeVar("_Loss", bound=Callable[..., Tensor])


def _raised(loss: _Loss) -> _Loss:
    """Under autocast a loss of bfloat16 tensors is one of float32 tensors."""

    @functools.wraps(loss)
    def in_float32(*args: Any, **options: Any) -> Tensor:
        if _core.is_autocast_enabled():
            args = tuple(map(raised, args))
            options = {name: raised(value) for name, value in options.items()}
        return loss(*args, **options)

    return cast(_Loss, in_float32)


def _reduction(name: str, reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    if size_average is not None or reduce is not None:  # PyTorch's old spelling
        if reduce is not None and not reduce:
            return "none"
        return "sum" if size_average is not None and not size_average else "mean"
    if reduction not in _REDUCTIONS:
        _checks.choice(name, "reduction", reduction, _REDUCTIONS)
    return reduction


def _same_shape(
    name: str, input: Tensor, target: Tensor, names: tuple[str, str] = ("input", "target")
) -> None:
    of_input, of_target = names
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        wrong = type(target if isinstance(input, Tensor) else input).__name__
        raise TypeError(f"{name}: {of_input} and {of_target} must be tensors, got a {wrong}; use ts.asarray")
    have, want = tuple(target.shape), tuple(input.shape)
    if have == want:
        return
    if [n for n in have if n != 1] == [n for n in want if n != 1]:
        fix = f"use {of_target}.reshape({want})"
    else:
        try:
            ts.broadcast_shapes(have, want)
            fix = f"if that is meant, broadcast first: ts.broadcast_arrays({of_input}, {of_target})"
        except ValueError:
            fix = "they must describe the same elements"
    raise ValueError(
        f"{name}: {of_target} has shape {have}, {of_input} {want}; losses do not broadcast; {fix}"
    )


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return ops.mean(loss)
    return ops.sum(loss) if reduction == "sum" else loss


def _check_broadcast(name: str, argument: str, weight: Tensor, shape: tuple[int, ...]) -> None:
    """A weight of elements or classes, which spreads over the input."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"{name}: {argument} must be a tensor, got a {type(weight).__name__}; use ts.asarray")
    have = tuple(weight.shape)
    if len(have) > len(shape) or any(n not in (1, m) for n, m in zip(have[::-1], shape[::-1])):
        raise ValueError(f"{name}: {argument} must broadcast to the input's shape {shape}, got {have}")


def _weighted(name: str, loss: Tensor, weight: Tensor | None, reduction: str, normalise: bool) -> Tensor:
    """`loss` times an element weight; `normalise` divides the mean by the sum of weights."""
    if weight is None:
        return _reduced(loss, reduction)
    _check_broadcast(name, "weight", weight, tuple(loss.shape))
    weight = ops.broadcast_to(weight, loss.shape)
    if reduction == "mean" and normalise:
        return ops.sum(loss * weight) / ops.sum(weight)
    return _reduced(loss * weight, reduction)


def _of_difference(
    name: str,
    measure: Callable[[Tensor], Tensor],
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    size_average: bool | None = None,
    reduce: bool | None = None,
    normalise: bool = True,
) -> Tensor:
    """measure(x - t) of two equal shapes; with `weight`, the mean is the weighted one if `normalise`."""
    _same_shape(name, input, target)
    reduction = _reduction(name, reduction, size_average, reduce)
    return _weighted(name, measure(input - target), weight, reduction, normalise)


@_raised
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2; with `weight`, the mean is the weighted one."""
    return _of_difference("mse_loss", ops.square, input, target, weight, reduction, size_average, reduce)


@_raised
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - t|; with `weight`, the mean is the weighted one."""
    return _of_difference("l1_loss", ops.abs, input, target, weight, reduction, size_average, reduce)


@_raised
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where d = |x - t| < beta, else d - beta / 2 (Girshick 2015)."""
    name = "smooth_l1_loss"
    _checks.at_least(name, "beta", beta)

    def measure(difference: Tensor) -> Tensor:
        return ops.abs(difference) if beta == 0 else _huber(difference, beta) / beta

    return _of_difference(name, measure, input, target, None, reduction, size_average, reduce)


@_raised
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where d = |x - t| < delta, else delta (d - delta / 2) (Huber 1964), times `weight`, by whose sum the mean
    is not divided.
    """
    name = "huber_loss"
    _checks.more_than(name, "delta", delta)
    return _of_difference(name, lambda d: _huber(d, delta), input, target, weight, reduction, normalise=False)


def _huber(difference: Tensor, delta: float) -> Tensor:
    if math.isinf(delta):
        return 0.5 * ops.square(difference)
    # near^2 / 2 + delta |d - near| is both branches at once, and no |d| hides the second derivative at 0.
    near = ops.clip(difference, -delta, delta)
    if delta == 1.0:
        return near * (difference - 0.5 * near)
    return 0.5 * near * near + delta * ops.abs(difference - near)


@_raised
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) with both logarithms held at >= -100; x outside [0, 1] gives NaN."""
    name = "binary_cross_entropy"
    _same_shape(name, input, target)
    reduction = _reduction(name, reduction, size_average, reduce)
    loss = _BinaryCrossEntropy.apply(input, target)
    return _weighted(name, loss, weight, reduction, False)


def _held_log(x: Tensor) -> Tensor:
    return ops.maximum(ops.log(x), -100.0)


class _BinaryCrossEntropy(Function):
    """The loss of each element; its gradient divides by max(x (1 - x), 1e-12),
    PyTorch's finite stand-in at 0 and 1.
    """

    @staticmethod
    def forward(ctx: Context, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return -(target * _held_log(x) + (1.0 - target) * _held_log(1.0 - x))

    @staticmethod
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, target = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        dx = dtarget = None
        if ctx.needs_input_grad[0]:
            dx = dy * (x - target) / ops.maximum(x * (1.0 - x), 1e-12)
        if ctx.needs_input_grad[1]:
            dtarget = dy * (_held_log(1.0 - x) - _held_log(x))
        return dx, dtarget


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(p t log s(x) + (1 - t) log s(-x)), s the sigmoid, p `pos_weight` (1 without); small losses keep their digits.

    weight: broadcasts to the input's shape.
    """
    name = "binary_cross_entropy_with_logits"
    _same_shape(name, input, target)
    reduction = _reduction(name, reduction, size_average, reduce)
    if pos_weight is None:
        loss = ops.bce_with_logits(input, target)
    else:
        _check_broadcast(name, "pos_weight", pos_weight, tuple(input.shape))
        loss = ops.weighted_bce_with_logits(input, 1.0 - target, pos_weight * target)
    return _weighted(name, loss, weight, reduction, False)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-w_t log softmax(x)_t over the class axis: (C), (N, C) or (N, C, ...) with integer targets (),
    (N) or (N, ...).

    `target` may instead hold probabilities, with the shape of `input`. The mean divides by the sum of the
    targets' weights (PyTorch's rule), or by the batch size for probabilities.
    """
    reduction = _reduction("cross_entropy", reduction, size_average, reduce)
    _checks.probability("cross_entropy", "label_smoothing", label_smoothing)
    _checks.tensor("cross_entropy", target, "target")
    if ts.isdtype(target.dtype, "real floating"):
        if ignore_index >= 0:
            raise ValueError(
                f"cross_entropy: ignore_index={ignore_index} names a class, but target holds probabilities"
            )
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    input = ops.asarray(input)
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"cross_entropy: floating-point target has shape {tuple(target.shape)}, input "
            f"{tuple(input.shape)}: "
            "probabilities need the input's shape; class numbers need an integer dtype"
        )
    axis = 0 if input.ndim == 1 else 1
    classes = input.shape[axis]
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / classes
    if weight is not None:
        weight = ops.asarray(weight)
        if tuple(weight.shape) != (classes,):
            raise ValueError(f"cross_entropy: weight must have shape ({classes},), got {tuple(weight.shape)}")
        target = target * weight.reshape((classes,) + (1,) * (input.ndim - axis - 1))
    loss = -ops.sum(target * ops.log_softmax(input, axis), axis=axis)
    return _reduced(loss, reduction)


@_raised
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-w_t x_t for log probabilities (N, C, ...): `cross_entropy` without its log-softmax."""
    _checks.integer("nll_loss", "ignore_index", ignore_index, -(1 << 63))
    reduction = _reduction("nll_loss", reduction, size_average, reduce)
    return ops.nll_loss(input, target, weight, ignore_index, reduction)


@_raised
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) for log probabilities x, 0 where t is 0; reduction "batchmean" divides by the first extent."""
    _same_shape("kl_div", input, target)
    if reduction != "batchmean" or size_average is not None or reduce is not None:
        reduction = _reduction("kl_div", reduction, size_average, reduce)
    if log_target:
        loss = ops.exp(target) * (target - input)
    else:
        zero = target == 0
        loss = ops.where(zero, 0.0, target * (ops.log(ops.where(zero, 1.0, target)) - input))
    if reduction == "batchmean":
        return ops.sum(loss) / (input.shape[0] if input.ndim else 1)
    return _reduced(loss, reduction)


@_raised
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - t x (or x - t log(x + eps)), with Stirling's approximation of log t! if `full`."""
    _same_shape("poisson_nll_loss", input, target)
    reduction = _reduction("poisson_nll_loss", reduction, size_average, reduce)
    loss = ops.exp(input) - target * input if log_input else input - target * ops.log(input + eps)
    if full:
        large = ops.where(target > 1, target, 1.0)
        stirling = large * ops.log(large) - large + 0.5 * ops.log(large * (2 * math.pi))
        loss = loss + ops.where(target > 1, stirling, 0.0)
    return _reduced(loss, reduction)


@_raised
def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log max(var, eps) + (x - t)^2 / max(var, eps)) / 2, plus log(2 pi) / 2 if `full`; no gradient through the
    limit.

    var: a number, or a tensor of the input's shape, of that without its last axis, or with extents of 1. A negative one
    is a ValueError; within ts.jit, where nothing can be read, its loss is NaN.
    """
    name = "gaussian_nll_loss"
    _same_shape(name, input, target)
    reduction = _reduction(name, reduction, None, None)
    _checks.at_least(name, "eps", eps)
    var = ts.asarray(var, dtype=input.dtype) if not isinstance(var, Tensor) else var
    if _core.capturing():  # nothing can be read here
        var = ops.where(var < 0, math.nan, var)
    elif bool(ops.any(var < 0)):
        raise ValueError(f"{name}: var must not be negative")
    shape = tuple(input.shape)
    if var.ndim and tuple(var.shape) == shape[:-1]:
        var = ops.expand_dims(var, -1)
    if var.ndim and (var.ndim != len(shape) or any(n not in (1, want) for n, want in zip(var.shape, shape))):
        raise ValueError(
            f"{name}: var must have shape {shape}, {shape[:-1]} or 1 for some extents, got {tuple(var.shape)}"
        )
    var = ops.where(var < eps, var + (eps - var).detach(), var)
    loss = 0.5 * (ops.log(var) + ops.square(input - target) / var)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return _reduced(loss, reduction)
