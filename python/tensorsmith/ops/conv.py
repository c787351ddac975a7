"""Convolution: docstrings and gradient rules."""

from __future__ import annotations

import operator
from contextlib import ContextDecorator
from typing import Any

from tensorsmith import _core
from tensorsmith._core import is_autocast_enabled
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.tensor import Tensor

__all__ = [
    "conv1d", "conv2d", "conv2d_relu", "conv3d", "conv_algorithm", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d",
]  # fmt: skip


class conv_algorithm(ContextDecorator):
    """Which algorithm this thread's convolutions use, in a `with` block or decorated function.

    algorithm: "direct", the default: sums of products in the order of the filter.
               "winograd": 3 x 3 filters of stride 1, dilation 1 and at least 32 channels in and out of a group, on
               results of at least 5 x 5 pixels, go by Winograd's F(4 x 4, 3 x 3), forward and for the gradient of the
               input: a quarter of the multiplications and about 2.5 times the rounding error (docs/kernels/conv.md).
               An inf or NaN in x spreads over the tiles of 4 x 4 results that see it. Everything else stays direct.

    A gradient is computed by the algorithm in force when `backward` runs. `ts.jit` records it, inside the function or
    around its call. Both give the same bits for any number of threads, batch and position. ValueError for another
    name.
    """

    def __init__(self, algorithm: str) -> None:
        _core.set_conv_algorithm(_core.set_conv_algorithm(algorithm))  # refuses a wrong name here
        self.algorithm = algorithm
        self._before: list[str] = []

    def __enter__(self) -> None:
        self._before.append(_core.set_conv_algorithm(self.algorithm))

    def __exit__(self, *exc: object) -> None:
        _core.set_conv_algorithm(self._before.pop())


_OPTIONS = """
    x:       (N, C, H, W) or (C, H, W), float32, float64 or bfloat16 (sums in float32, rounded once), any strides
    weight:  (O, C / groups, KH, KW)
    bias:    (O), or None
    stride, padding, dilation:  an integer, or (height, width)
    groups:  divides C and O
    returns: (N, O, P, Q) with P = (H + 2 * padding - dilation * (KH - 1) - 1) // stride + 1, Q likewise;
             its memory is channels last

Raises ValueError where shapes or options do not fit, TypeError where dtypes differ or are not floating.
"""


def _rules(
    forward: Any, input_backward: Any, weight_backward: Any, lowered: bool = False, rank: int = 2
) -> tuple[Any, ...]:
    """The gradient rules of these three operations and, second, of relu(forward).

    The three are the trilinear form sum(dy * forward(x, weight)) seen from each of its arguments.
    lowered: the two backward take their result's dtype. rank: the axes of an image.
    """

    def dtype_of(operand: Any) -> tuple[Any, ...]:
        return (operand.dtype,) if lowered else ()

    def gradients(
        dy: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any, needs: Any
    ) -> Any:
        options = (stride, padding, dilation, groups)
        dx = input_backward(dy, weight, x.shape, *options, *dtype_of(x)) if needs[0] else None
        dweight = dbias = None
        if needs[1] or needs[2]:
            dweight, dbias = weight_backward(dy, x, weight.shape, *options, *dtype_of(weight))
        return dx, dweight, dbias

    def gradients_relu(
        dy: Any,
        y: Any,
        x: Any,
        weight: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        needs: Any,
    ) -> Any:
        return gradients(core.relu_backward(dy, y), x, weight, stride, padding, dilation, groups, needs)

    def input_gradient(dy: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
        return forward(dy, weight, None, stride, padding, dilation, groups)

    def input_weight(
        dy: Any, gradient: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any
    ) -> Any:
        options = (stride, padding, dilation, groups)
        return weight_backward(gradient, dy, weight.shape, *options, *dtype_of(weight))[0]

    def weight_gradients(
        ddweight: Any,
        ddbias: Any,
        gradient: Any,
        x: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        needs: Any,
    ) -> Any:
        options = (stride, padding, dilation, groups)
        dgradient = dx = None
        if ddweight is not None:
            if needs[0]:
                dgradient = forward(x, ddweight, ddbias, *options)
            if needs[1]:
                dx = input_backward(gradient, ddweight, x.shape, *options, *dtype_of(x))
        elif ddbias is not None and needs[0]:
            dgradient = core.broadcast_to(core.reshape(ddbias, (-1,) + (1,) * rank), gradient.shape)
        return dgradient, dx

    return gradients, gradients_relu, input_gradient, input_weight, weight_gradients


_gradients, _gradients_relu, _input_gradient, _input_weight, _weight_gradients = _rules(
    core.conv2d, core.conv2d_input_backward, core.conv2d_weight_backward
)

conv2d = define(
    core.conv2d,
    """Cross-correlation of images with filters, as torch.nn.functional.conv2d.

    y[n, o, p, q] = bias[o] + sum over c, i, j of
        x[n, c, p * stride + i * dilation - padding, q * stride + j * dilation - padding] * weight[o, c, i, j]
"""
    + _OPTIONS,
    wrt="x weight bias",
    vjp=_gradients,
)

conv2d_relu = define(
    core.conv2d_relu,
    """relu(conv2d(...)) in one pass over the result.
"""
    + _OPTIONS,
    wrt="x weight bias",
    vjp=_gradients_relu,
)
define(
    core.conv2d_input_backward,
    """The gradient of conv2d with respect to x, whose shape is `shape`.""",
    gradient=_input_gradient,
    weight=_input_weight,
)
define(
    core.conv2d_weight_backward,
    """The gradients of conv2d with respect to weight, whose shape is `shape`, and bias.""",
    wrt="gradient x",
    vjp=_weight_gradients,
)


(_gradients_3d, _, _input_gradient_3d, _input_weight_3d, _weight_gradients_3d) = _rules(
    core.conv3d, core.conv3d_input_backward, core.conv3d_weight_backward, rank=3
)
define(
    core.conv3d,
    """`conv3d` of float32 or float64 volumes (N, C, D, H, W) on the CPU.""",
    wrt="x weight bias",
    vjp=_gradients_3d,
)
define(
    core.conv3d_input_backward,
    """The gradient of conv3d with respect to x, whose shape is `shape`.""",
    gradient=_input_gradient_3d,
    weight=_input_weight_3d,
)
define(
    core.conv3d_weight_backward,
    """The gradients of conv3d with respect to weight, whose shape is `shape`, and bias.""",
    wrt="gradient x",
    vjp=_weight_gradients_3d,
)


# --- bfloat16 numbers whose operands may be float32: what autocast calls ----------------------------------

(
    _gradients_bf16,
    _gradients_relu_bf16,
    _input_gradient_bf16,
    _input_weight_bf16,
    _weight_gradients_bf16,
) = _rules(core.conv2d_bf16, core.conv2d_input_backward_bf16, core.conv2d_weight_backward_bf16, lowered=True)

define(
    core.conv2d_bf16,
    """`conv2d` of x and weight (bfloat16 or float32) rounded to bfloat16, and bias; the result is bfloat16.

    Sums and bias are float32, and the result is rounded once. TypeError for other dtypes.
    """,
    wrt="x weight bias",
    vjp=_gradients_bf16,
)
define(
    core.conv2d_relu_bf16,
    """relu(conv2d_bf16(...)) in one pass over the result.""",
    wrt="x weight bias",
    vjp=_gradients_relu_bf16,
)
define(
    core.conv2d_input_backward_bf16,
    """The gradient of conv2d_bf16 with respect to x, whose shape is `shape`.

    dtype: of the result, bfloat16 (None) or float32.
    """,
    gradient=_input_gradient_bf16,
    weight=_input_weight_bf16,
)
define(
    core.conv2d_weight_backward_bf16,
    """The gradients of conv2d_bf16 with respect to weight, whose shape is `shape`, and bias, both of `dtype`.""",
    wrt="gradient x",
    vjp=_weight_gradients_bf16,
)


# --- one and three dimensions, transposed: the same kernels on reshaped operands --------------------


def _options(name: str, rank: int, **values: Any) -> list[tuple[int, ...]]:
    """Each an integer for all axes, or one for each."""
    result = []
    for key, value in values.items():
        least = 0 if "padding" in key else 1
        wanted = f"{name}: {key} must be an integer or {rank} of them"
        try:
            numbers = (
                tuple(map(operator.index, value)) if hasattr(value, "__len__") else (operator.index(value),)
            )
        except TypeError:
            raise TypeError(f"{wanted}, got {value!r}") from None
        if len(numbers) == 1:
            numbers *= rank
        if len(numbers) != rank or any(not least <= n < 2**31 for n in numbers):
            raise ValueError(f"{wanted}, each >= {least} and < 2**31, got {value!r}")
        result.append(numbers)
    return result


def _array(name: str, argument: str, value: Any) -> Any:
    try:
        return value if isinstance(value, Tensor) else core.asarray(value)
    except TypeError:
        raise TypeError(f"{name}: {argument} must be an array, got {type(value).__name__}") from None


_MIXED = {"float32", "bfloat16"}  # what autocast takes in any mixture


def _operands(name: str, x: Any, weight: Any, bias: Any, groups: int, rank: int, transposed: bool) -> Any:
    """x, x with a batch axis, weight and bias as tensors that fit each other and groups; else an error."""
    x, weight = _array(name, "x", x), _array(name, "weight", weight)
    bias = None if bias is None else _array(name, "bias", bias)
    if not hasattr(groups, "__index__"):
        raise TypeError(f"{name}: groups must be an integer, got {groups!r}")
    axes = {1: "L", 2: "HW", 3: "DHW"}[rank]
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name}: x must have {rank + 2} dimensions (N, C, {', '.join(axes)}) or {rank + 1} without N, "
            f"got shape {tuple(x.shape)}"
        )
    if weight.ndim != rank + 2 or any(n < 1 for n in weight.shape[2:]):
        raise ValueError(
            f"{name}: weight must have {rank + 2} dimensions and windows of at least 1, got shape {tuple(weight.shape)}"
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{name}: groups must be >= 1 and divide weight's {weight.shape[0]} rows, got {groups}"
        )
    takes = weight.shape[0] if transposed else weight.shape[1] * groups
    if x.shape[-rank - 1] != takes:
        raise ValueError(
            f"{name}: x has {x.shape[-rank - 1]} channels, but weight of shape {tuple(weight.shape)} with "
            f"groups={groups} takes {takes}"
        )
    gives = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (gives,):
        raise ValueError(f"{name}: bias must have shape ({gives},), got {tuple(bias.shape)}")
    if x.dtype.kind != "floating":
        raise TypeError(f"{name}: x is {x.dtype}; float32, float64, float16 or bfloat16 is needed")
    for key, value in (("weight", weight), ("bias", bias)):
        lowered = is_autocast_enabled() and value is not None and {str(x.dtype), str(value.dtype)} <= _MIXED
        if value is not None and value.dtype != x.dtype and not lowered:
            raise TypeError(f"{name}: {key} is {value.dtype} where {x.dtype} is needed")
    return x, x if x.ndim == rank + 2 else core.expand_dims(x, 0), weight, bias


def _places(name: str, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any) -> list[int]:
    """How many windows each axis has room for."""
    places = []
    for axis, (n, k, s, p, d) in enumerate(zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)):
        if d * (k - 1) + 1 > n + 2 * p:
            raise ValueError(
                f"{name}: kernel_size {k} with dilation {d} is larger than the padded input {n + 2 * p} "
                f"(dimension {axis + 2})"
            )
        places.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
    return places


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of sequences with filters, as torch.nn.functional.conv1d: conv2d of images one pixel high.

    x: (N, C, L) or (C, L)    weight: (O, C / groups, K)    bias: (O) or None    returns: (N, O, P)

    Raises as conv2d.
    """
    s, p, d = _options("conv1d", 1, stride=stride, padding=padding, dilation=dilation)
    x, full, weight, bias = _operands("conv1d", x, weight, bias, groups, 1, False)
    _places("conv1d", full, weight, s, p, d)
    y = core.conv2d(
        core.expand_dims(full, 2), core.expand_dims(weight, 2), bias, (1, *s), (0, *p), (1, *d), groups
    )
    y = core.squeeze(y, 2)
    return y if x.ndim == 3 else core.squeeze(y, 0)


def _by_depth(weight: Any, groups: int) -> Any:
    """Filters (O, C / groups, KD, KH, KW) whose taps of depth are channels: (O, KD C / groups, KH, KW)."""
    o, c, kd, kh, kw = weight.shape
    return core.reshape(core.permute_dims(weight, (0, 2, 1, 3, 4)), (o, kd * c, kh, kw))


def _has_kernel(x: Any, weight: Any, bias: Any, groups: int, c: int, o: int) -> bool:
    """Whether kernels take volumes as they are: on the CPU, but for halves and for narrow groups (c channels to o)."""
    dtypes = {str(v.dtype) for v in (x, weight, bias) if v is not None}
    return (
        x.device == "cpu"
        and not (groups > 1 and c <= 8 and o <= 8)
        and (dtypes == {"float64"} or (dtypes == {"float32"} and not is_autocast_enabled()))
    )


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of volumes with filters, as torch.nn.functional.conv3d.

    x: (N, C, D, H, W) or (C, D, H, W)    weight: (O, C / groups, KD, KH, KW)    bias: (O) or None
    returns: (N, O, P, Q, R); its memory is channels last

    A kernel of its own on the CPU, but for float16, bfloat16 (and autocast) and groups of at most 8 channels in and
    out. There, and on GPUs, it is conv2d of each output's KD slices, laid side by side as channels: x is copied KD
    times, channels last. Raises as conv2d.
    """
    name = "conv3d"
    s, p, d = _options(name, 3, stride=stride, padding=padding, dilation=dilation)
    x, full, weight, bias = _operands(name, x, weight, bias, groups, 3, False)
    depth = _places(name, full, weight, s, p, d)[0]
    if _has_kernel(x, weight, bias, groups, weight.shape[1], weight.shape[0] // groups):
        y = core.conv3d(full, weight, bias, s, p, d, groups)
        return y if x.ndim == 5 else core.squeeze(y, 0)
    n, c, _, h, w = full.shape
    slices = core.permute_dims(full, (0, 2, 3, 4, 1))  # (N, D, H, W, C)
    if p[0]:
        slices = core.pad_constant(slices, (0, p[0], 0, 0, 0), (0, p[0], 0, 0, 0), 0.0)
    # (N, P, H, W, groups, KD, C / groups)
    parts = [
        core.reshape(
            slices[:, t * d[0] : t * d[0] + (depth - 1) * s[0] + 1 : s[0]],
            (n, depth, h, w, groups, 1, c // groups),
        )
        for t in range(weight.shape[2])
    ]
    stack = core.concat(parts, 5) if len(parts) > 1 else parts[0]
    images = core.permute_dims(core.reshape(stack, (n * depth, h, w, weight.shape[2] * c)), (0, 3, 1, 2))
    y = core.conv2d(images, _by_depth(weight, groups), bias, s[1:], p[1:], d[1:], groups)
    y = core.permute_dims(core.reshape(y, (n, depth, *y.shape[1:])), (0, 2, 1, 3, 4))
    return y if x.ndim == 5 else core.squeeze(y, 0)


def _grown(name: str, x: Any, weight: Any, s: Any, p: Any, d: Any, extra: Any) -> list[int]:
    """The extents of a transposed convolution."""
    extents = []
    for axis, (n, k) in enumerate(zip(x.shape[2:], weight.shape[2:])):
        if extra[axis] >= max(s[axis], d[axis]):
            raise ValueError(
                f"{name}: output_padding must be smaller than stride or dilation, got {extra[axis]}, {s[axis]} and "
                f"{d[axis]} (dimension {axis + 2})"
            )
        extent = (n - 1) * s[axis] - 2 * p[axis] + d[axis] * (k - 1) + extra[axis] + 1
        if extent < 1 or n < 1:
            raise ValueError(f"{name}: the result would have extent {extent} (dimension {axis + 2})")
        extents.append(extent)
    return extents


def _cut_out(
    operation: Any, x: Any, weight: Any, bias: Any, s: Any, p: Any, d: Any, groups: int, extents: Any
) -> Any:
    """A transposed convolution whose output_padding is a stride and more: the part of `extents` behind the padding of
    the one without padding, zeros where that has ended."""
    y = operation(x, weight, None, s, 0, 0, groups, d)
    inside: tuple[Any, ...] = (..., *(slice(first, first + extent) for first, extent in zip(p, extents)))
    y = y[inside]
    lead = y.ndim - len(p)
    missing = [0] * lead + [extent - n for extent, n in zip(extents, y.shape[lead:])]
    y = core.pad_constant(y, [0] * y.ndim, missing, 0.0) if any(missing) else y
    return _with_bias(y, bias)


def _with_bias(y: Any, bias: Any) -> Any:
    if bias is None:
        return y
    # Under autocast the product is of bfloat16, and the bias of float32.
    return core.astype(y + core.reshape(bias, (-1,) + (1,) * (y.ndim - 2)), y.dtype, False)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """As torch.nn.functional.conv_transpose2d: x (N, C, H, W) or (C, H, W), weight (C, O / groups, KH, KW), bias (O).

    returns: (N, O, P, Q) with P = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1, Q likewise

    It is the gradient of conv2d with these filters at its input: windows that step over the result, each adding x
    times its filter. ValueError where shapes or options do not fit; output_padding must be smaller than stride or
    dilation.
    """
    name = "conv_transpose2d"
    s, p, d, extra = _options(
        name, 2, stride=stride, padding=padding, dilation=dilation, output_padding=output_padding
    )
    x, full, weight, bias = _operands(name, x, weight, bias, groups, 2, True)
    extents = _grown(name, full, weight, s, p, d, extra)
    if any(e >= step for e, step in zip(extra, s)):
        y = _cut_out(conv_transpose2d, full, weight, bias, s, p, d, groups, extents)
        return y if x.ndim == 4 else core.squeeze(y, 0)
    shape = (full.shape[0], weight.shape[1] * groups, *extents)
    y = _with_bias(core.conv2d_input_backward(full, weight, shape, s, p, d, groups), bias)
    return y if x.ndim == 4 else core.squeeze(y, 0)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """As torch.nn.functional.conv_transpose1d: x (N, C, L) or (C, L), weight (C, O / groups, K), bias (O).

    returns: (N, O, P) with P = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1. Raises as
             conv_transpose2d
    """
    name = "conv_transpose1d"
    s, p, d, extra = _options(
        name, 1, stride=stride, padding=padding, dilation=dilation, output_padding=output_padding
    )
    x, full, weight, bias = _operands(name, x, weight, bias, groups, 1, True)
    extents = _grown(name, full, weight, s, p, d, extra)
    if any(e >= step for e, step in zip(extra, s)):
        y = _cut_out(conv_transpose1d, full, weight, bias, s, p, d, groups, extents)
        return y if x.ndim == 3 else core.squeeze(y, 0)
    shape = (full.shape[0], weight.shape[1] * groups, 1, *extents)
    y = core.conv2d_input_backward(
        core.expand_dims(full, 2), core.expand_dims(weight, 2), shape, (1, *s), (0, *p), (1, *d), groups
    )
    y = _with_bias(core.squeeze(y, 2), bias)
    return y if x.ndim == 3 else core.squeeze(y, 0)


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """As torch.nn.functional.conv_transpose3d: x (N, C, D, H, W) or without N, weight (C, O / groups, KD, KH, KW).

    returns: (N, O, P, Q, R) with P = (D - 1) stride - 2 padding + dilation (KD - 1) + output_padding + 1 and so on.
             Raises as conv_transpose2d
    """
    name = "conv_transpose3d"
    s, p, d, extra = _options(
        name, 3, stride=stride, padding=padding, dilation=dilation, output_padding=output_padding
    )
    x, full, weight, bias = _operands(name, x, weight, bias, groups, 3, True)
    extents = _grown(name, full, weight, s, p, d, extra)
    if any(e >= step for e, step in zip(extra, s)):
        y = _cut_out(conv_transpose3d, full, weight, bias, s, p, d, groups, extents)
        return y if x.ndim == 5 else core.squeeze(y, 0)
    n, c, depth, h, w = full.shape
    taps, each = weight.shape[2], weight.shape[1]
    if _has_kernel(x, weight, bias, groups, each, c // groups):
        y = core.conv3d_input_backward(full, weight, (n, each * groups, *extents), s, p, d, groups)
        y = _with_bias(y, bias)
        return y if x.ndim == 5 else core.squeeze(y, 0)
    images = core.reshape(core.permute_dims(full, (0, 2, 1, 3, 4)), (n * depth, c, h, w))
    shape = (n * depth, groups * taps * each, *extents[1:])
    slices = core.conv2d_input_backward(images, _by_depth(weight, groups), shape, s[1:], p[1:], d[1:], groups)
    # Slice `tap` of x's depth i belongs to depth i * stride + tap * dilation. Channels stay last.
    slices = core.reshape(slices, (n, depth, groups, taps, each, *extents[1:]))
    slices = core.reshape(
        core.permute_dims(slices, (0, 1, 3, 5, 6, 2, 4)), (n, depth * taps, *extents[1:], groups * each)
    )
    deep = max((depth - 1) * s[0] + (taps - 1) * d[0] + 1, p[0] + extents[0])
    if taps == s[0] and (taps == 1 or d[0] == 1) and deep == depth * taps:  # each in its place
        y = slices
    else:
        place = (
            core.arange(depth, device=x.device)[:, None] * s[0] + core.arange(taps, device=x.device) * d[0]
        )
        y = core.index_add(
            core.zeros((n, deep, *extents[1:], groups * each), dtype=slices.dtype, device=x.device),
            1,
            core.reshape(place, (-1,)),
            slices,
        )
    y = core.permute_dims(y, (0, 4, 1, 2, 3))
    y = _with_bias(y[:, :, p[0] : p[0] + extents[0]], bias)
    return y if x.ndim == 5 else core.squeeze(y, 0)
