"""Normalisation."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.ops import resample
from tensorsmith.ops.halves import rounded_once
from tensorsmith.tensor import Tensor


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of (N, C, ...) over everything else; in training,
    move the running statistics in place.
    """
    _checks.number("batch_norm", "eps", eps)
    return ops.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _extents(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    if hasattr(normalized_shape, "__index__"):
        return (operator.index(normalized_shape),)
    if not isinstance(normalized_shape, Iterable):
        raise TypeError(f"normalized_shape must be an integer or several, got {normalized_shape!r}")
    return tuple(normalized_shape)


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last axes, whose extents are `normalized_shape`."""
    return ops.layer_norm(input, _extents(normalized_shape), weight, bias, eps)


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean x^2 + eps) weight over the last axes; eps None is the dtype's epsilon."""
    input = ops.asarray(input)
    if eps is None:
        eps = 2.0**-52 if input.dtype == ts.float64 else 2.0**-23
    return ops.rms_norm(input, _extents(normalized_shape), weight, eps)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each group of channels of each image (N, C, ...)."""
    return ops.group_norm(ops.asarray(input), num_groups, weight, bias, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each image (N, C, ...)."""
    return ops.instance_norm(
        ops.asarray(input), running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(norm of order p along `dim`, eps)."""
    _checks.number("normalize", "p", p)
    _checks.number("normalize", "eps", eps)

    def formula(x: Tensor) -> Tensor:
        return x / ops.maximum(ops.vector_norm(x, axis=dim, keepdims=True, ord=p), eps)

    return rounded_once(formula, ops.asarray(input), raised=True)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha a)^beta for (N, C, ...), a the mean of x^2 over `size` neighbouring channels, zeros beyond the
    first and the last (Krizhevsky et al. 2012).
    """
    name, input = "local_response_norm", ops.asarray(input)
    if input.ndim < 3:
        raise ValueError(f"{name}: input must be (N, C, ...), got shape {tuple(input.shape)}")
    size = _checks.integer(name, "size", size)
    for key, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        _checks.number(name, key, value)
    if input.size == 0:
        return input

    def formula(x: Tensor) -> Tensor:
        planes = ops.reshape(ops.square(x), (x.shape[0], 1, x.shape[1], -1))
        wide = resample.pad(planes, (0, 0, size // 2, (size - 1) // 2))
        mean = ops.reshape(ops.avg_pool2d(wide, (size, 1), 1), x.shape)
        return x / ops.pow(mean * alpha + k, beta)

    return rounded_once(formula, input, raised=True)
