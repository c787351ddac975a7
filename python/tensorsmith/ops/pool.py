"""2-D pooling: docstrings and gradient rules."""

from __future__ import annotations

import math
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = ["avg_pool2d", "fractional_max_pool2d", "max_pool2d", "max_pool2d_indices", "max_unpool"]


def _pair(value: Any) -> Any:
    return tuple(value) * (3 - len(value)) if hasattr(value, "__len__") else (value, value)


max_pool2d = define(
    core.max_pool2d,
    """The largest element of each window, as torch.nn.functional.max_pool2d. NaN wins, padding loses.

    x:       (N, C, H, W) or (C, H, W), floating-point, any strides
    kernel_size, stride (None: kernel_size), padding (at most half a kernel), dilation:
             an integer, or (height, width)
    ceil_mode: windows may run over the end, as long as they start inside
    returns: (N, C, P, Q) in the memory order of x

The gradient goes to the first of equal elements. Raises ValueError where shapes or options do not fit.
""",
    x=lambda dy, x, index, kernel_size, stride, padding, dilation, ceil_mode: core.max_pool2d_backward(
        dy, index, x.shape, kernel_size, stride, padding, dilation, ceil_mode
    ),
)


def _places(index: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Any, Any]:
    """The rows and columns, int64, that the winning taps `index` (..., P, Q) lie in."""
    kernel, (pad_h, pad_w), (step_h, step_w) = _pair(kernel_size), _pair(padding), _pair(dilation)
    stride_h, stride_w = kernel if stride is None else _pair(stride)
    rows, cols = index.shape[-2:]
    tap = core.astype(index, "int64")
    row = core.floor_divide(tap, kernel[1])
    h = row * step_h + core.reshape(core.arange(rows, device=index.device), (rows, 1)) * stride_h - pad_h
    w = (tap - row * kernel[1]) * step_w + core.arange(cols, device=index.device) * stride_w - pad_w
    return h, w


def _winners(
    dy: Any, index: Any, shape: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Any:
    """The elements of dy (shape) that won: (N, C, P, Q). Of a window of padding alone none did: 0."""
    h, w = _places(index, kernel_size, stride, padding, dilation)
    height, width = shape[-2:]
    rows, cols = index.shape[-2:]
    lead = tuple(shape[:-2])
    inside = None
    if any(pad and step > 1 for pad, step in zip(_pair(padding), _pair(dilation))):
        inside = (h >= 0) & (h < height) & (w >= 0) & (w < width)
        h, w = core.where(inside, h, 0), core.where(inside, w, 0)
    flat = core.reshape(h * width + w, (*lead, rows * cols))
    picked = core.gather(core.reshape(dy, (*lead, height * width)), -1, flat)
    picked = core.reshape(picked, (*lead, rows, cols))
    return picked if inside is None else core.where(inside, picked, 0.0)


def max_pool2d_indices(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Where the maxima of `max_pool2d` lie: int64 positions in the flattened last two axes, for `max_unpool`."""
    _, index = core.max_pool2d_taps(x, kernel_size, stride, padding, dilation, ceil_mode)
    h, w = _places(index, kernel_size, stride, padding, dilation)
    return h * x.shape[-1] + w


def max_unpool(x: Any, indices: Any, sizes: Any) -> Any:
    """Zeros (*, *sizes) with the elements of x (*, ...) at their `indices` into the flattened `sizes`; of equal indices
    the last one wins. IndexError for one outside.
    """
    sizes = tuple(sizes)
    lead = tuple(x.shape[: x.ndim - len(sizes)])
    flat = core.reshape(x, (*lead, -1)) if x.size else core.reshape(x, (*lead, 0))
    zeros = core.zeros((*lead, math.prod(sizes)), x.dtype, device=x.device)
    y = core.scatter(zeros, -1, core.reshape(indices, flat.shape), flat)
    return core.reshape(y, (*lead, *sizes))


def _fractional_rule(dy: Any, x: Any, index: Any) -> Any:
    lead, (height, width) = tuple(x.shape[:-2]), x.shape[-2:]
    flat = (*lead, index.shape[-2] * index.shape[-1])
    dx = core.gather_backward(core.reshape(dy, flat), -1, core.reshape(index, flat), (*lead, height * width))
    return core.reshape(dx, x.shape)


fractional_max_pool2d = define(
    core.fractional_max_pool2d,
    """The maxima of windows that follow random sequences (Graham 2014), and their int64 positions in the flattened last
    two axes, as torch.nn.functional.fractional_max_pool2d_with_indices.

    x:       (N, C, H, W) or (C, H, W), float32 or float64
    samples: (N, C, 2) or (1, C, 2), of x's dtype, in [0, 1): where the sequences of a plane begin, (width, height)
    kernel_size, output_size: an integer, or (height, width)

Of equal elements the first is the maximum, of several NaN the last. ValueError where the sizes do not fit.
""",
    x=_fractional_rule,
)


define(
    core.max_pool2d_backward,
    """The gradient of max_pool2d with respect to x, whose shape is `shape`.""",
    gradient=_winners,
)

avg_pool2d = define(
    core.avg_pool2d,
    """The mean of each window, as torch.nn.functional.avg_pool2d.

    x:       (N, C, H, W) or (C, H, W), floating-point, any strides
    kernel_size, stride (None: kernel_size), padding (at most half a kernel): an integer, or (height, width)
    ceil_mode: windows may run over the end, as long as they start inside
    count_include_pad: padding counts as zeros; otherwise only elements of x are counted
    divisor_override: what to divide the sum by, instead of the count
    returns: (N, C, P, Q) in the memory order of x

Raises ValueError where shapes or options do not fit.
""",
    x=lambda dy, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: (
        core.avg_pool2d_backward(
            dy, x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
    ),
)

define(
    core.avg_pool2d_backward,
    """The gradient of avg_pool2d with respect to x, whose shape is `shape`.""",
    gradient=lambda dy, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: (
        core.avg_pool2d(dy, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    ),
)
