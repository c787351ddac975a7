"""Pooling and its inverse, by windows, to a size, and at random steps."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.ops import resample
from tensorsmith.tensor import Tensor

Pair = int | tuple[int, int]


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (N, C, H, W) or (C, H, W); with return_indices also the int64 positions of the
    maxima in their flattened plane, which `max_unpool2d` takes.
    """
    if not return_indices:
        return ops.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)
    input = ops.asarray(input)
    y = ops.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)
    return y, ops.max_pool2d_indices(input.detach(), kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, H, W) or (C, H, W)."""
    return ops.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _options(
    name: str, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1
) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride (the kernel's where None), padding and dilation, `rank` of each."""
    kernel = _checks.several(name, "kernel_size", kernel_size, rank)
    steps = kernel if stride is None else _checks.several(name, "stride", stride, rank)
    pads = _checks.several(name, "padding", padding, rank, 0)
    return kernel, steps, pads, _checks.several(name, "dilation", dilation, rank)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (N, C, L) or (C, L); with return_indices also where the maxima lie."""
    name, input = "max_pool1d", ops.asarray(input)
    _checks.spatial(name, input.shape, 1)
    (k,), (s,), (p,), (d,) = _options(name, 1, kernel_size, stride, padding, dilation)
    options = ((1, k), (1, s), (0, p), (1, d), ceil_mode)
    wide = ops.expand_dims(input, -2)
    y = ops.squeeze(ops.max_pool2d(wide, *options), -2)
    if not return_indices:
        return y
    return y, ops.squeeze(ops.max_pool2d_indices(wide.detach(), *options), -2)


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, L) or (C, L)."""
    name, input = "avg_pool1d", ops.asarray(input)
    _checks.spatial(name, input.shape, 1)
    (k,), (s,), (p,), _ = _options(name, 1, kernel_size, stride, padding)
    y = ops.avg_pool2d(ops.expand_dims(input, -2), (1, k), (1, s), (0, p), ceil_mode, count_include_pad)
    return ops.squeeze(y, -2)


def _by_planes(x: Tensor, planes: Any, depths: Any) -> Tensor:
    """`planes` over (H, W) and then `depths` over D of (..., D, H, W): windows are products of intervals."""
    lead, (d, h, w) = tuple(x.shape[:-3]), x.shape[-3:]
    count = math.prod(lead)
    x = planes(ops.reshape(x, (count, d, h, w)))
    h, w = x.shape[-2:]
    x = depths(ops.reshape(x, (count, 1, d, h * w)))
    return ops.reshape(x, (*lead, x.shape[-2], h, w))


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (N, C, D, H, W) or (C, D, H, W); with return_indices also the int64 positions of
    the maxima in their flattened volume.
    """
    name, input = "max_pool3d", ops.asarray(input)
    _checks.spatial(name, input.shape, 3)
    k, s, p, d = _options(name, 3, kernel_size, stride, padding, dilation)
    planes = (k[1:], s[1:], p[1:], d[1:], ceil_mode)
    depths = ((k[0], 1), (s[0], 1), (p[0], 0), (d[0], 1), ceil_mode)
    y = _by_planes(input, lambda x: ops.max_pool2d(x, *planes), lambda x: ops.max_pool2d(x, *depths))
    if not return_indices:
        return y
    x = input.detach()
    lead, (depth, height, width) = tuple(x.shape[:-3]), x.shape[-3:]
    count = math.prod(lead)
    flat = ops.reshape(x, (count, depth, height, width))
    within = ops.max_pool2d_indices(flat, *planes)  # in each plane
    p_, q_ = within.shape[-2:]
    tops = ops.reshape(ops.max_pool2d(flat, *planes), (count, 1, depth, p_ * q_))
    at = ops.max_pool2d_indices(tops, *depths)  # which plane, and where in it
    index = ops.take_along_axis(
        ops.reshape(within, (count, depth * p_ * q_)), ops.reshape(at, (count, at.shape[2] * p_ * q_)), axis=1
    )
    index = ops.reshape(index, at.shape) + ops.floor_divide(at, p_ * q_) * (height * width)
    return y, ops.reshape(index, (*lead, at.shape[-2], p_, q_))


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """The maxima of `output_size` windows of kernel_size at random steps (Graham 2014), as torch's of that name.

    input: (N, C, H, W) or (C, H, W), floating-point
    output_size: an integer or (height, width), or output_ratio: a number or two, each in (0, 1), of the extents
    _random_samples: (N, C, 2) in [0, 1), by which the windows of each plane are laid; drawn where not given
    return_indices: also the int64 positions of the maxima in the flattened last two axes, for max_unpool2d

    ValueError where the sizes do not fit, or a sample on the host is outside [0, 1].
    """
    name, input = "fractional_max_pool2d", ops.asarray(input)
    _checks.spatial(name, input.shape, 2)
    kernel = _checks.pair(name, "kernel_size", kernel_size)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{name}: give output_size or output_ratio, one of the two")
    if output_size is not None:
        size: tuple[int, ...] = _checks.pair(name, "output_size", output_size)
    else:
        ratios = _checks.ratios(name, "output_ratio", output_ratio)
        size = tuple(int(n * ratio) for n, ratio in zip(input.shape[-2:], ratios, strict=True))
    if _random_samples is None:
        planes = tuple(input.shape[:-2]) if input.ndim == 4 else (1, input.shape[0])
        double = str(input.dtype) == "float64"
        samples = ts.random.uniform(0.0, 1.0, (*planes, 2), dtype="float64" if double else "float32")
        if input.device != "cpu":
            samples = samples.to(input.device)
    else:
        samples = ops.asarray(_random_samples)
    y, index = ops.fractional_max_pool2d(input, samples, kernel, size)
    return (y, index) if return_indices else y


def _max_unpool(rank: int) -> Any:
    def unpool(
        input: Tensor,
        indices: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:
        name, input, indices = unpool.__name__, ops.asarray(input), ops.asarray(indices)
        _checks.spatial(name, input.shape, rank)
        if tuple(indices.shape) != tuple(input.shape):
            raise ValueError(
                f"{name}: indices have shape {tuple(indices.shape)}, input {tuple(input.shape)}; they must agree"
            )
        kernel, steps, pads, _ = _options(name, rank, kernel_size, stride, padding)
        sizes = tuple(
            (n - 1) * s - 2 * p + k
            for n, s, p, k in zip(input.shape[-rank:], steps, pads, kernel, strict=True)
        )
        if output_size is not None:
            try:
                wanted = tuple(operator.index(n) for n in output_size)[-rank:]
            except TypeError:
                wanted = ()
            if len(wanted) != rank or any(
                abs(w - n) >= s for w, n, s in zip(wanted, sizes, steps, strict=True)
            ):
                raise ValueError(
                    f"{name}: output_size must be within a stride of {sizes}, got {output_size!r}"
                )
            sizes = wanted
        return ops.max_unpool(input, indices, sizes)

    unpool.__name__ = f"max_unpool{rank}d"
    unpool.__doc__ = (
        f"Zeros but for the elements of input, which go to the `indices` that max_pool{rank}d returned: its partial "
        "inverse. output_size resolves which of the sizes that pool to input's is meant."
    )
    return unpool


max_unpool1d, max_unpool2d, max_unpool3d = (_max_unpool(r) for r in (1, 2, 3))


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W)."""
    name, input = "avg_pool3d", ops.asarray(input)
    _checks.spatial(name, input.shape, 3)
    k, s, p, _ = _options(name, 3, kernel_size, stride, padding)
    if divisor_override is not None and not _checks.integer(
        name, "divisor_override", divisor_override, -(1 << 31)
    ):
        raise ValueError(f"{name}: divisor_override must not be 0")
    one = None if divisor_override is None else 1  # sums, divided at the end
    y = _by_planes(
        input,
        lambda x: ops.avg_pool2d(x, k[1:], s[1:], p[1:], ceil_mode, count_include_pad, one),
        lambda x: ops.avg_pool2d(x, (k[0], 1), (s[0], 1), (p[0], 0), ceil_mode, count_include_pad, one),
    )
    return y if divisor_override is None else y / divisor_override


def _adaptive(kind: str, rank: int) -> Any:
    pool = resample.adaptive_avg_pool if kind == "avg" else resample.adaptive_max_pool

    def adaptive(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        sizes = (output_size,) * rank if output_size is None else output_size
        if kind == "avg":
            _checks.only(adaptive.__name__, "return_indices", return_indices, False)
            return pool(input, sizes, rank)
        return resample.adaptive_max_pool(input, sizes, rank, return_indices)

    adaptive.__name__ = f"adaptive_{kind}_pool{rank}d"
    word = "means" if kind == "avg" else "maxima"
    adaptive.__doc__ = (
        f"The {word} of `output_size` windows that cover each of the last {rank} axes; None keeps one."
    )
    return adaptive


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive("avg", r) for r in (1, 2, 3))


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive("max", r) for r in (1, 2, 3))


def _lp_pool(rank: int, average: Any, largest: Any) -> Any:
    def lp_pool(
        input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Tensor:
        name = lp_pool.__name__
        if not isinstance(norm_type, Real) or norm_type == 0:
            raise ValueError(f"{name}: norm_type must be a number other than 0, got {norm_type!r}")
        input = ops.asarray(input)
        if math.isinf(norm_type):  # the largest or the smallest size
            sign = math.copysign(1.0, norm_type)
            return largest(ops.absolute(input) * sign, kernel_size, stride, 0, 1, ceil_mode) * sign
        size = math.prod(_checks.several(name, "kernel_size", kernel_size, rank))
        mean = average(ops.pow(input, float(norm_type)), kernel_size, stride, 0, ceil_mode)
        # A mean of 0 has the gradient 0; of even powers none is below.
        mean = ops.relu(mean) if norm_type % 2 == 0 else ops.where(mean == 0, 0.0, mean)
        return ops.pow(mean * float(size), 1.0 / norm_type)

    lp_pool.__name__ = f"lp_pool{rank}d"
    lp_pool.__doc__ = "(sum x^p)^(1/p) over each window; for p = inf or -inf the largest or smallest |x|."
    return lp_pool


lp_pool1d, lp_pool2d, lp_pool3d = (
    _lp_pool(r, *pools)
    for r, pools in (
        (1, (avg_pool1d, max_pool1d)),
        (2, (avg_pool2d, max_pool2d)),
        (3, (avg_pool3d, max_pool3d)),
    )
)
